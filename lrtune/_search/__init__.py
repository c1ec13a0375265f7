"""search(): coarse, between, fine, verified; or what a budget pays for. Training is handed in."""

from lrtune._search.book import verdict
from lrtune._search.planning import Plan, plan
from lrtune._search.searching import COARSE, FINE, LIMITS, search

__all__ = ["COARSE", "FINE", "LIMITS", "Plan", "plan", "search", "verdict"]
