"""search(): coarse, between, fine, verified. The strategy is pure; training is handed to it."""

from lrtune._search.book import verdict
from lrtune._search.searching import COARSE, FINE, LIMITS, search

__all__ = ["COARSE", "FINE", "LIMITS", "search", "verdict"]
