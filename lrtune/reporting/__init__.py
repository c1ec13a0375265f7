"""Results to one HTML page, and back; works without torch and Optuna."""

from lrtune.reporting.load import load
from lrtune.reporting.page import report

__all__ = ["load", "report"]
