"""The limits of a search: the lowest and the highest rate to try, and the rates within."""

from collections.abc import Iterable

from lrtune.analysis.short_runs import rounded

Limits = tuple[float, float]
"""The lowest and the highest rate to try."""

SLACK = 1e-3  # rates this close are the same rate, as they are rounded to three or four digits


def within(rates: Iterable[float], limits: Limits, digits: int = 4) -> list[float]:
    """Those of the rates that lie within the limits, rounded to so many digits.

    >>> within([0.001, 0.0316228, 10.0], (0.01, 1.0))
    [0.03162]
    """
    low, high = limits[0] / (1 + SLACK), limits[1] * (1 + SLACK)
    inside = [rounded(rate, digits) for rate in rates if low <= rate <= high]
    return [min(max(rate, limits[0]), limits[1]) for rate in inside]


def clip(rate: float, limits: tuple[float, float]) -> float:
    """The nearest rate within the limits, rounded to three digits if they allow it."""
    return min(max(rounded(rate), limits[0]), limits[1])
