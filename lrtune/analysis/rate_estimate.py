"""Where the best rate lies, from a few rates and their losses. Pure."""

import math
from collections.abc import Mapping

import numpy as np

from lrtune.schedules.schedule import Schedule, multipliers

NEIGHBOUR = math.sqrt(10)
"""The bottom of the curve is read from rates so far apart; nearer ones differ by noise."""

APART = 2
"""Rates less than this factor apart are no neighbours, where a grid is finer."""

UNDERTRAINED_SHIFT = 0.45
"""How far below the bottom of the curve the best rate lies when nothing has been learned yet."""

INTERVAL_FACTOR = 2.5
"""The best rate lies within this factor of the answer in nine of ten tasks."""

LEVEL, ERRORS = 0.005, 5
"""Early losses that differ by less than this share, and by less than so many times their standard
error, say nothing about their rates."""

MOVED = 0.02
"""Nothing has been learned while the best loss is within this share of the lowest rate's."""

PEAK_RATIO = 1.6
"""How far above the best constant rate the peak of a schedule that comes down may lie."""

CONSTANT = 0.95
"""A schedule that keeps more than this share of its peak, on average, hardly comes down."""


def peak_ratio(schedule: Schedule) -> float:
    """How far above the best constant rate the peak of this schedule is likely to lie.

    >>> from lrtune.schedules import constant, cosine
    >>> peak_ratio(constant()), peak_ratio(cosine())
    (1.0, 1.6)
    """
    return 1.0 if np.mean(multipliers(schedule, 100)) > CONSTANT else PEAK_RATIO


def mask_unstable(losses: Mapping[float, float]) -> dict[float, float]:
    """The same losses, infinite for every rate above one that failed: that it did not is luck.

    >>> mask_unstable({0.01: 1.0, 0.1: math.inf, 1.0: 0.9})
    {0.01: 1.0, 0.1: inf, 1.0: inf}
    """
    failed = min((rate for rate, loss in losses.items() if math.isinf(loss)), default=math.inf)
    return {rate: math.inf if rate >= failed else loss for rate, loss in losses.items()}


def leading_rate(losses: Mapping[float, float], error: float) -> float | None:
    """The rate to go on from after short runs; None when all failed.

    It is that of the lowest loss, but for shelves. While nothing has been learned, all lower rates
    are level, and the highest of them is the one that will move first. Rates that are too high fall
    to the loss of guessing, and are level there: the lowest of these is next to those that learn.

    Args:
        losses: By rate; infinite where a rate failed.
        error: The standard error of a loss.

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
    shelf = min(LEVEL * abs(finite[best]), ERRORS * error)
    level = [rate for rate, loss in finite.items() if loss - finite[best] <= shelf]
    if finite[lowest] - finite[best] <= MOVED * abs(finite[lowest]):
        return max(level)
    return min(level) if highest in level else best


def estimate_optimum(losses: Mapping[float, float], start: float) -> float:
    """The rate that is best when it is kept to the end: at the bottom of the curve, or below.

    The less was learned so far, the more the runs flatter high rates: while a share `left` of the
    initial loss remains, the answer is UNDERTRAINED_SHIFT ** left times the bottom.

    Args:
        losses: By rate; infinite where a rate failed, but not for the lowest.
        start: The loss before training.

    >>> round(estimate_optimum({0.01: 2.0, 0.1: 0.0, 1.0: 2.0}, start=9.0), 4)
    0.1
    >>> round(estimate_optimum({0.01: 9.0, 0.1: 8.9, 1.0: 9.0}, start=9.0), 4)
    0.0454
    """
    losses = mask_unstable(losses)
    return vertex(losses, start) * math.pow(UNDERTRAINED_SHIFT, remaining_loss(losses, start))


def likely_range(lr: float, losses: Mapping[float, float]) -> tuple[float, float]:
    """Where the best rate lies in nine of ten tasks, but not at or above one that failed.

    >>> likely_range(0.1, {0.1: 1.0, 0.2: math.inf})
    (0.04, 0.2)
    """
    failed = (rate for rate, loss in losses.items() if math.isinf(loss) and rate > lr)
    low, high = lr / INTERVAL_FACTOR, min(lr * INTERVAL_FACTOR, min(failed, default=math.inf))
    return float(f"{low:.3g}"), float(f"{high:.3g}")


def remaining_loss(losses: Mapping[float, float], start: float) -> float:
    """The share of the initial loss that remains at the lowest one, in [0, 1].

    A loss that begins below zero has no end to measure by: as if nothing had been learned.

    >>> remaining_loss({0.1: 0.5, 0.2: math.inf}, start=2.0)
    0.25
    """
    return min(max(min(losses.values()) / start, 0.0), 1.0) if start > 0 else 1.0


def vertex(losses: Mapping[float, float], start: float) -> float:
    """The bottom of the parabola, over log rate, through the lowest loss and its two neighbours.

    Args:
        losses: By rate; infinite where a rate failed.
        start: The loss before training: a neighbour counts as no worse than one that learned
            nothing, so a failure does not decide alone.

    Returns:
        A rate; the lowest loss's own where it has no neighbour on one side.

    >>> vertex({0.01: 2.0, 0.1: 1.0, 1.0: 2.0}, start=9.0)
    0.1
    >>> round(vertex({0.01: 1.2, 0.1: 1.0, 1.0: math.inf}, start=9.0), 4)
    0.0334
    """
    best = min(losses, key=losses.__getitem__)
    below = max((rate for rate in losses if rate * APART <= best), default=None)
    above = min((rate for rate in losses if rate >= best * APART), default=None)
    if below is None or above is None:
        return best
    lower, upper = (
        max(0.0, min(losses[rate], max(start, losses[best])) - losses[best])
        for rate in (below, above)
    )
    down, up = math.log(best / below), math.log(above / best)
    curvature = (lower / down + upper / up) / (down + up)
    slope = (upper * down / up - lower * up / down) / (down + up)
    return best if curvature <= 0 else best * math.exp(-slope / (2 * curvature))
