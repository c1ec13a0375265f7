"""Results to one HTML page, and back; works without torch and Optuna."""

from lrtune.reporting.page import answers_first, load, report

__all__ = ["answers_first", "load", "report"]
