"""Read the best rate from short runs at a few rates; a loss is infinite where a run failed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lrtune.analysis.fitted import fitted

REACHED_SHARE = fitted("reached_share")

NEIGHBOUR = math.sqrt(10)  # by convention: half a decade; nearer rates differ by noise
ROUNDING = 1e-12  # by convention: a share of a loss that means of equal losses may differ by
UNSETTLED = 1.0  # by convention: a loss falls from far above if it starts at twice that of guessing
MIN_FACTOR = 2  # by convention: on a finer grid, nearer rates are no neighbours


def rounded(rate: float, digits: int = 3) -> float:
    """The rate to so many significant digits, as people write it."""
    return float(f"{rate:.{digits}g}")


def mask_unstable(losses: Mapping[float, float]) -> dict[float, float]:
    """The losses, infinite for every rate above one that failed: it only had luck.

    >>> mask_unstable({0.01: 1.0, 0.1: math.inf, 1.0: 0.9})
    {0.01: 1.0, 0.1: inf, 1.0: inf}
    """
    failed = min((rate for rate, loss in losses.items() if math.isinf(loss)), default=math.inf)
    return {rate: math.inf if rate >= failed else loss for rate, loss in losses.items()}


@dataclass(frozen=True)
class Scene:
    """What losses of short runs are held against.

    Attributes:
        start: The loss before training.
        guess: The loss of the best prediction that does not look at the input; `start` where it is
            not known.
        error: The standard error of one run's loss.
    """

    start: float
    guess: float
    error: float

    def learned(self, loss: float, errors: float = 2) -> bool:
        """Whether a loss lies below that of guessing by more than so many times its error."""
        least = ROUNDING * (abs(self.guess) + abs(loss))
        return loss < self.guess - errors * self.error - least

    @property
    def unsettled(self) -> bool:
        """Whether the loss before training lies far above that of guessing."""
        return self.start - self.guess > UNSETTLED * abs(self.guess)

    def reached(self, loss: float) -> bool:
        """Whether a loss has come down to that of guessing, or never was above it."""
        return loss <= self.guess + max(2 * self.error, REACHED_SHARE * (self.start - self.guess))


def leading_rate(losses: Mapping[float, float], scene: Scene) -> float | None:
    """The rate that is ahead after short runs; None when all failed.

    Usually it has the lowest loss. Where none is below the loss of guessing, equal losses mislead
    in two ways. Rates that are too high fall to it and stay there, so the lowest rate that reached
    it is the nearest to learning. And while nothing has moved, all lower rates have the same loss,
    and the highest of them will learn first.

    >>> scene = Scene(start=9.0, guess=2.3, error=0.01)
    >>> leading_rate({0.001: 3.7, 0.01: 2.304, 0.1: 2.303, 1.0: 2.305}, scene)
    0.01
    >>> leading_rate({0.001: 2.301, 0.01: 2.3, 0.1: 2.304, 1.0: 2.5}, Scene(2.3, 2.3, 0.01))
    0.1
    """
    finite = {rate: loss for rate, loss in mask_unstable(losses).items() if math.isfinite(loss)}
    if not finite:
        return None
    best = min(finite, key=finite.__getitem__)
    # All runs see the same batches, and the lowest rate hardly learns from so few of them.
    gained = finite[min(finite)] - finite[best]
    if scene.learned(finite[best]) and gained > scene.error:
        return best
    reached = [rate for rate, loss in finite.items() if scene.reached(loss)]
    if scene.unsettled and reached and min(reached) > min(finite):
        return min(reached)
    return max(rate for rate, loss in finite.items() if loss - finite[best] <= scene.error / 2)


def vertex(losses: Mapping[float, float], best: float, worst: float) -> float:
    """The lowest point of the parabola over log rate through `best` and its neighbours.

    It is `best` itself where that has no neighbour on one side. A loss above `worst` counts as
    that: a failure does not decide alone.

    >>> vertex({0.01: 2.0, 0.1: 1.0, 1.0: 2.0}, 0.1, worst=9.0)
    0.1
    >>> round(vertex({0.01: 1.2, 0.1: 1.0, 1.0: math.inf}, 0.1, worst=9.0), 4)
    0.0334
    """
    below = max((rate for rate in losses if rate * MIN_FACTOR <= best), default=None)
    above = min((rate for rate in losses if rate >= best * MIN_FACTOR), default=None)
    if below is None or above is None:
        return best
    here = min(losses[best], worst)
    lower, upper = (max(0.0, min(losses[rate], worst) - here) for rate in (below, above))
    down, up = math.log(best / below), math.log(above / best)
    curvature = (lower / down + upper / up) / (down + up)
    slope = (upper * down / up - lower * up / down) / (down + up)
    if curvature <= 0:
        return best
    return best * math.exp(max(-down, min(up, -slope / (2 * curvature))))
