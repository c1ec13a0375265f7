"""Results to one HTML page, and back. Needs neither torch nor Optuna."""

from lrtune._report.files import load
from lrtune._report.write import report

__all__ = ["load", "report"]
