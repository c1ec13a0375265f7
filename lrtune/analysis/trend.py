"""The trend of a best rate over the size of something: a straight line in logs, with intervals."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lrtune.analysis.curves import Floats
from lrtune.analysis.paired import LEVEL

LEAST_SPREAD = math.log(10) / 10  # by convention: a tenth of a decade
"""Rates half a decade apart tell the best one no better than to a tenth of one."""


@dataclass(frozen=True)
class Trend:
    """A power law: the best rate is proportional to size ** slope.

    Attributes:
        slope: The exponent.
        reach: Half the width of its 90 % interval; infinite where nothing tells how wide it is.
        rate_reach: The same of the log of each size's best rate.
    """

    slope: float
    reach: float
    rate_reach: float


def trend(sizes: ArrayLike, rates: ArrayLike) -> Trend:
    """Fit the line of log rates over log sizes.

    Args:
        sizes: k sizes, > 0, two or more of them different.
        rates: The best rate of each size and seed, > 0, shape [k, seeds].

    Each interval is the wider one of two: by how the rates of the seeds scatter, and by how their
    means over the seeds scatter around the line, as seeds share what a size has of its own.

    >>> line = trend([0.1, 1.0, 10.0], [[0.2], [0.02], [0.002]])
    >>> round(line.slope, 6), round(line.reach, 2)
    (-1.0, 0.45)
    """
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(rates, float))
    count, seeds = y.shape
    means, x = y.mean(axis=1), x - x.mean()
    squares = float(x @ x)
    slope = float(x @ means / squares)
    within = float(((y - means[:, None]) ** 2).sum())
    residual: Floats = means - means.mean() - slope * x
    lack = seeds * float(residual @ residual)
    inside, outside = count * (seeds - 1), count - 2
    reach = _reach(within + lack, inside + outside, seeds * squares)
    rate_reach = _reach(within, inside, seeds) if inside else _reach(lack, outside, seeds)
    if outside:
        reach = max(reach, _reach(lack, outside, seeds * squares, least=0.0))
        rate_reach = max(rate_reach, _reach(lack, outside, seeds, least=0.0))
    return Trend(slope, reach, rate_reach)


def _reach(total: float, free: int, squares: float, least: float = LEAST_SPREAD) -> float:
    """Half the width of an interval, from a sum of squares and its degrees of freedom."""
    if not free:
        return math.inf
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, free))
    return quantile * math.sqrt(max(total / free, least**2) / squares)
