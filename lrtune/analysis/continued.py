"""What the continuations of a run show: how each differs from the same again, on the same batches.

A constant added to all losses changes nothing here, and a positive factor scales every number.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lrtune.analysis.curves import WINDOW, Floats, noise, robust_std
from lrtune.analysis.paired import NORMAL, Paired, paired

EARLY, LATE = (0.25, 0.5), (0.75, 1.0)  # by convention: the parts that are compared
"""What is better at once is so in the second quarter of the continuations; later, in
the last one. In the first quarter a momentum still holds the gradients from before the fork."""

APART = math.log(7 / 5)  # by definition: from the middle of the third quarter to that of the last
FEW = 16  # by convention: with fewer losses nothing shows whether a run falls
STANDS_OUT = 8  # by convention: a spike stands out by so many standard deviations


@dataclass(frozen=True)
class Difference:
    """A mean, and half the width of its 90 % interval."""

    mean: float
    reach: float

    def above(self, least: float) -> bool:
        """Whether it is at least so large, and certainly above zero."""
        return self.mean > self.reach and self.mean >= least

    def below(self, most: float) -> bool:
        """Whether it certainly lies below this."""
        return self.mean + self.reach < most


@dataclass(frozen=True)
class Effect:
    """By how much a continuation lies below another one, on the same batches.

    Attributes:
        early: In the second quarter.
        late: In the last quarter.
        failed: With how many orders of the batches it is at the bound in the end, or non-finite.
    """

    early: Difference
    late: Difference
    failed: int

    @property
    def best(self) -> Difference:
        """The larger of both."""
        return max(self.early, self.late, key=lambda one: one.mean)

    def lowers(self, least: float) -> bool:
        """Whether it is better by at least so much, at once or later."""
        return self.early.above(least) or self.late.above(least)

    def idle(self, least: float) -> bool:
        """Whether it is certainly not better by so much, neither at once nor later."""
        return self.early.below(least) and self.late.below(least)


def bounded(losses: Floats, most: float) -> Floats:
    """Losses of at most so much, so that no spike decides; those of a run that failed are that."""
    return np.minimum(np.where(np.isfinite(losses), losses, most), most)


def effect(one: Floats, other: Floats, most: float) -> Effect:
    """By how much `one` lies below `other`.

    Args:
        one: Losses, one row per order of the batches, one column per step; NaN where it failed.
        other: The same of what it is held against.
        most: No loss counts as higher than this.

    >>> effect(np.full((3, 8), 1.0), np.full((3, 8), 1.5), most=2.0).late
    Difference(mean=0.5, reach=0.0)
    """
    mine, theirs = bounded(one, most), bounded(other, most)
    steps = one.shape[1]
    failed = int((np.median(mine[:, round(LATE[0] * steps) :], axis=1) >= most).sum())
    return Effect(*_differences(window_means(theirs - mine)), failed)


def fall_of(again: Floats, rest: Floats, most: float) -> Difference:
    """By how much a continuation falls from its second quarter to its last one.

    Args:
        again: Its losses, order x step.
        rest: Those of the state that it began with, which tell how hard each batch is.
        most: As in `effect`.
    """
    early, late = window_means(bounded(again, most) - bounded(rest, most))
    return _differences(np.stack([early - late, early - late]))[0]


def mean_difference(values: Floats) -> Difference:
    """The mean of a number per order, and half the width of its 90 % interval."""
    return _difference(paired({"one": values})["one"])


def late_fall(losses: Floats) -> Difference:
    """By how much a run falls from its third quarter to its last one; NaN with few losses.

    A line through the losses over the log of the step, from a third on, tells it more exactly than
    the means of both quarters do: half of the noise, for a loss that falls as a power does.

    >>> losses = 3 - np.log(np.arange(1.0, 101.0)) / 4
    >>> round(late_fall(losses).mean, 3)  # from 62.5 to 87.5: log(7 / 5) / 4
    0.084
    """
    if len(losses) < FEW:
        return Difference(math.nan, math.nan)
    calm = ndimage.median_filter(losses, WINDOW, mode="nearest")
    first = len(losses) // 3
    at = np.log(np.arange(first, len(losses)) + 1.0)
    at -= at.mean()
    slope = float(at @ calm[first:]) / float(at @ at)
    error = noise(losses[first:]) / math.sqrt(float(at @ at))
    return Difference(-slope * APART, NORMAL * error * APART)


def window_means(losses: Floats) -> Floats:
    """The means of the early and the late window, window x order."""
    steps = losses.shape[1]
    windows = [losses[:, round(a * steps) : round(b * steps)] for a, b in (EARLY, LATE)]
    return np.stack([some.mean(axis=1) for some in windows])


def spikes(net: Floats, least: float) -> int:
    """How many losses stand out of the course of a run.

    Args:
        net: Losses less those of the untrained state on the same batches, order x step.
        least: They stand out by so much at least.
    """
    calm = ndimage.median_filter(net, (1, WINDOW), mode="nearest")
    above = (net - calm)[np.isfinite(net)]
    return int((above > max(STANDS_OUT * robust_std(above), least)).sum()) if len(above) else 0


@np.errstate(over="ignore")  # of runs that diverge
def _differences(values: Floats) -> tuple[Difference, Difference]:
    """The mean of each row; rows vary alike, so their variances are drawn together."""
    early, late = paired({"early": values[0], "late": values[1]}).values()
    return _difference(early), _difference(late)


def _difference(one: Paired) -> Difference:
    return Difference(one.mean, one.reach())
