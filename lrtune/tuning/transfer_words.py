"""What the trend of a best rate means, in words."""

import math
from collections.abc import Iterator
from typing import Any

from lrtune.analysis.trend import Trend

PER = {"data": 10, "width": 2, "batch_size": 2}
"""Trends are told for so many times the size."""

ALIKE = 2.0
"""By convention: rates within a factor of two end about alike."""

UNTOLD = 1000.0
"""By convention: an interval whose ends are so many times apart says nothing."""

LARGER = {"data": "ten times the data", "width": "twice the width", "batch_size": "twice the batch"}
SMALLER = {
    "data": "on a tenth of the data",
    "width": "at half the width",
    "batch_size": "at half the batch",
}
WHOLE = {"data": "all of the data", "width": "the full width", "batch_size": "the full batch"}


def factors_of(over: str, line: Trend) -> tuple[float, float, float]:
    """The factor of the best rate for `PER` times the size, and its interval."""
    step = math.log(PER[over])
    low, high = (step * (line.slope + side * line.reach) for side in (-1, 1))
    return math.exp(step * line.slope), power(low), power(high)


def power(value: float) -> float:
    """The exponential, infinite where it overflows."""
    return math.exp(value) if value < 700 else math.inf


def verdict(over: str, line: Trend) -> str:
    """yes, nearly, no, or not shown."""
    _, low, high = factors_of(over, line)
    alike, changes = 1 / ALIKE <= low <= high <= ALIKE, low > 1 or high < 1
    if changes:
        return "nearly" if alike else "no"
    return "yes" if alike else "not shown"


def trend_row(over: str, equal: str, line: Trend) -> tuple[Any, ...]:
    """A row of the table of trends: columns `TRENDS`."""
    slopes = line.slope, line.slope - line.reach, line.slope + line.reach
    return equal, *slopes, PER[over], *factors_of(over, line), verdict(over, line)


def statement(over: str, equal: str, line: Trend) -> str:
    """The trend, and what it means for the whole, in two sentences."""
    factor, low, high = factors_of(over, line)
    away = "too low" if factor > 1 else "too high"
    widest = max(high, 1 / low) if low > 0 else math.inf
    meaning = {
        "yes": f"It transfers: a rate tuned {SMALLER[over]} is right for {WHOLE[over]} within a "
        f"factor of {widest:.2g}.",
        "nearly": f"It nearly transfers: a rate tuned {SMALLER[over]} is {away} for {WHOLE[over]}, "
        f"by less than a factor of {widest:.2g}.",
        "no": f"It does not transfer: a rate tuned {SMALLER[over]} is {away} for {WHOLE[over]}; "
        f"multiply it by {factor:.2g}.",
        "not shown": "Whether it transfers is not shown: more seeds or a larger budget narrow the "
        "interval.",
    }[verdict(over, line)]
    shown = verdict(over, line) != "not shown"
    if not shown and (not (low > 0 and math.isfinite(high)) or high > UNTOLD * low):
        return (
            f"At equal {equal} it cannot be told how the best constant rate changes with "
            f"{LARGER[over]}: so few rates, seeds or sizes leave it open within a factor of "
            f"{UNTOLD:,.0f} or more. More seeds or a larger budget narrow it."
        )
    return (
        f"At equal {equal} the best constant rate for {LARGER[over]} is {factor:.2g} times as high "
        f"(90 % interval {low:.2g} to {high:.2g}). {meaning}"
    )


def batch_rules(over: str) -> Iterator[str]:
    """What rules of thumb say of the batch size."""
    if over == "batch_size":
        yield (
            "at equal epochs the linear rule would double the rate for twice the batch (Goyal et "
            "al. 2017), the square-root rule would multiply it by 1.4 (Malladi et al. 2022)"
        )
