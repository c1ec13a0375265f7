"""Where the best rate lies, from a few rates and their losses. Pure."""

import math
from collections.abc import Mapping

STABLE = 0.7
"""A rate kept constant to the end is best somewhat below the one that leads in shorter runs."""

REACH = 2.4
"""The best rate lies within this factor of the answer in nine of ten tasks."""


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
    rates = sorted(losses)
    at = min(range(len(rates)), key=lambda index: losses[rates[index]])
    best = rates[at]
    if not 0 < at < len(rates) - 1:
        return best
    lower, upper = (
        max(0.0, min(losses[rates[at + side]], max(start, losses[best])) - losses[best])
        for side in (-1, 1)
    )
    left, right = math.log(best / rates[at - 1]), math.log(rates[at + 1] / best)
    curvature = (lower / left + upper / right) / (left + right)
    slope = (upper * left / right - lower * right / left) / (left + right)
    return best if curvature <= 0 else best * math.exp(-slope / (2 * curvature))
