"""Results to one HTML page, and back. Needs neither torch nor Optuna."""

from lrtune.reporting.load import load
from lrtune.reporting.page import report

__all__ = ["load", "report"]
