"""Results to one HTML page, and back; works without torch and Optuna."""

from lrtune.reporting.page import load, report

__all__ = ["load", "report"]
