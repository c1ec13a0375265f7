"""Estimate the best rate from a few rates and their losses; infinite where a rate failed."""

import math
from collections.abc import Mapping

import numpy as np

from lrtune.analysis.fitted import fitted
from lrtune.schedules.schedule import Schedule, multipliers

UNDERTRAINED_SHIFT = fitted("undertrained_shift")
INTERVAL_FACTOR = fitted("interval_factor")
LEVEL_SHARE = fitted("level_share")
LEVEL_ERRORS = fitted("level_errors")
UNMOVED_SHARE = fitted("unmoved_share")
PEAK_RATIO = fitted("peak_ratio")

NEIGHBOUR = math.sqrt(10)  # by convention: half a decade; nearer rates differ by noise
MIN_FACTOR = 2  # by convention: on a finer grid, nearer rates are no neighbours
CONSTANT_MEAN = 0.95  # by definition: a schedule with a higher mean multiplier is constant


def rounded(rate: float, digits: int = 3) -> float:
    """The rate to so many significant digits, as people write it."""
    return float(f"{rate:.{digits}g}")


def decays(schedule: Schedule) -> bool:
    """Whether the schedule leaves its peak by more than a few percent of it, on average.

    >>> from lrtune.schedules import constant, cosine
    >>> decays(constant()), decays(cosine())
    (False, True)
    """
    return bool(np.mean(multipliers(schedule, 100)) <= CONSTANT_MEAN)


def mask_unstable(losses: Mapping[float, float]) -> dict[float, float]:
    """The losses, infinite for every rate above one that failed: it only had luck.

    >>> mask_unstable({0.01: 1.0, 0.1: math.inf, 1.0: 0.9})
    {0.01: 1.0, 0.1: inf, 1.0: inf}
    """
    failed = min((rate for rate, loss in losses.items() if math.isinf(loss)), default=math.inf)
    return {rate: math.inf if rate >= failed else loss for rate, loss in losses.items()}


def leading_rate(losses: Mapping[float, float], error: float) -> float | None:
    """The best rate so far, from the losses of short runs and their standard error.

    None when all failed. Usually it has the lowest loss. Two kinds of equal losses mislead. While
    nothing has been learned, all lower rates have the same loss, and the highest of them will learn
    first. Rates that are too high fall to the loss of guessing: the lowest is nearest to learning.

    >>> leading_rate({0.001: 2.301, 0.01: 2.3, 0.1: 2.305, 1.0: 2.5}, error=0.01)
    0.1
    >>> leading_rate({0.001: 3.7, 0.01: 2.304, 0.1: 2.303, 1.0: 2.305}, error=0.01)
    0.01
    """
    finite = {rate: loss for rate, loss in mask_unstable(losses).items() if math.isfinite(loss)}
    if not finite:
        return None
    lowest, highest = min(finite), max(finite)
    best = min(finite, key=finite.__getitem__)
    shelf = min(LEVEL_SHARE * abs(finite[best]), LEVEL_ERRORS * error)
    level = [rate for rate, loss in finite.items() if loss - finite[best] <= shelf]
    if finite[lowest] - finite[best] <= UNMOVED_SHARE * abs(finite[lowest]):
        return max(level)
    return min(level) if highest in level else best


def estimate_optimum(losses: Mapping[float, float], start: float) -> float:
    """Estimate the best constant rate for the full length, from the losses of shorter runs.

    Short runs favour rates that are too high, and more so the less they have learned. With r the
    share of the initial loss that remains, the answer is `vertex` times UNDERTRAINED_SHIFT ** r.
    The lowest rate must not have failed; `start` is the loss before training.

    >>> round(estimate_optimum({0.01: 2.0, 0.1: 0.0, 1.0: 2.0}, start=9.0), 4)
    0.1
    >>> round(estimate_optimum({0.01: 9.0, 0.1: 8.9, 1.0: 9.0}, start=9.0), 4)
    0.0454
    """
    losses = mask_unstable(losses)
    return vertex(losses, start) * math.pow(UNDERTRAINED_SHIFT, remaining_loss(losses, start))


def likely_range(lr: float, losses: Mapping[float, float]) -> tuple[float, float]:
    """The 90 % interval of the best rate, cut off at the lowest rate above it that failed.

    >>> likely_range(0.1, {0.1: 1.0, 0.2: math.inf})
    (0.04, 0.2)
    """
    failed = (rate for rate, loss in losses.items() if math.isinf(loss) and rate > lr)
    low, high = lr / INTERVAL_FACTOR, min(lr * INTERVAL_FACTOR, min(failed, default=math.inf))
    return rounded(low), rounded(high)


def remaining_loss(losses: Mapping[float, float], start: float) -> float:
    """The share of the initial loss, if that is positive, that remains at the lowest; else 1.

    >>> remaining_loss({0.1: 0.5, 0.2: math.inf}, start=2.0)
    0.25
    """
    return min(max(min(losses.values()) / start, 0.0), 1.0) if start > 0 else 1.0


def vertex(losses: Mapping[float, float], start: float) -> float:
    """The lowest point of the parabola over log rate through the best rate and its neighbours.

    It is the best rate itself where that has no neighbour on one side.

    >>> vertex({0.01: 2.0, 0.1: 1.0, 1.0: 2.0}, start=9.0)
    0.1
    >>> round(vertex({0.01: 1.2, 0.1: 1.0, 1.0: math.inf}, start=9.0), 4)
    0.0334
    """
    best = min(losses, key=losses.__getitem__)
    below = max((rate for rate in losses if rate * MIN_FACTOR <= best), default=None)
    above = min((rate for rate in losses if rate >= best * MIN_FACTOR), default=None)
    if below is None or above is None:
        return best
    # A neighbour counts as no worse than one that learned nothing: a failure does not decide alone.
    lower, upper = (
        max(0.0, min(losses[rate], max(start, losses[best])) - losses[best])
        for rate in (below, above)
    )
    down, up = math.log(best / below), math.log(above / best)
    curvature = (lower / down + upper / up) / (down + up)
    slope = (upper * down / up - lower * up / down) / (down + up)
    return best if curvature <= 0 else best * math.exp(-slope / (2 * curvature))
