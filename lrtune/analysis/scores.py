"""Scores: on what scale two losses are compared, which depends on whether their floor is known.

Where the floor of a loss is known, its score is the log of the loss above it, as ten times less is
ten times better. Where it is not, a log would depend on an unknown constant, so the score is the
share of the fall that is left. Nothing else in lrtune takes the log of a loss, or divides a loss by
a loss.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lrtune.analysis.curves import Floats

LEAST = 1e-12  # by convention: the lowest loss above a floor, as a share of the start
DECIMALS = 9  # by convention: of a share; further ones are lost where a loss has a constant of 1e6
HUGE = 1e100  # by definition: no share is larger, so that a finite loss has a finite score
COARSE = 0.01  # by convention: losses in coarser steps than this share of the fall get a note


@dataclass(frozen=True)
class Scale:
    """The scale on which losses of one task are compared.

    With an unknown floor, a constant added to all losses changes nothing here, and neither does a
    positive factor. With a known one, a factor on the losses and their floor shifts all scores by
    its log.

    Attributes:
        floor: The number below which the loss cannot fall; None where it is unknown.
        resolution: The smallest step between two losses near the start, in units of the loss.
    """

    floor: float | None
    resolution: float = 0.0

    def scores(self, losses: ArrayLike, start: float, best: float) -> Floats:
        """The score of each loss: lower is better, and infinite where the loss is not finite.

        With a known floor it is log(loss - floor); a loss at the floor, where only rounding takes
        it, counts as one that is `LEAST` x (start - floor) above. Otherwise it is the share of the
        fall that is left, (loss - best) / (start - best), to `DECIMALS` decimals; where nothing has
        fallen, all of it is left: 1.

        Args:
            losses: Any number of losses.
            start: The loss before training.
            best: The lowest loss seen so far; only an unknown floor needs it.

        >>> Scale(floor=0.0).scores([1.0, 0.1, math.nan], start=2.0, best=0.1).round(3).tolist()
        [0.0, -2.303, inf]
        >>> Scale(floor=None).scores([7.0, 6.5, math.nan], start=8.0, best=6.0).tolist()
        [0.5, 0.25, inf]
        """
        losses = np.asarray(losses, float)
        finite = np.where(np.isfinite(losses), losses, start)
        if self.floor is not None:
            least = max(LEAST * (start - self.floor), np.finfo(float).tiny)
            values = np.log(np.maximum(finite - self.floor, least))
        elif best < start:
            values = np.round(_share(finite - best, start - best), DECIMALS)
        else:
            values = np.ones_like(finite)
        return np.where(np.isfinite(losses), values, np.inf)

    def losses(self, scores: ArrayLike, start: float, best: float) -> Floats:
        """The losses that have these scores: the inverse of `scores`.

        >>> Scale(floor=0.0).losses([0.0], start=2.0, best=0.1).tolist()
        [1.0]
        >>> Scale(floor=None).losses([0.5, 0.25], start=8.0, best=6.0).tolist()
        [7.0, 6.5]
        """
        scores = np.asarray(scores, float)
        if self.floor is not None:
            with np.errstate(over="ignore"):
                return np.asarray(self.floor + np.exp(scores), float)
        return np.asarray(best + scores * (start - best), float)

    def stderr(self, errors: ArrayLike, losses: ArrayLike, start: float, best: float) -> Floats:
        """The standard errors of scores, from those of their losses.

        >>> Scale(floor=1.0).stderr([0.1], [1.5], start=9.0, best=1.5).tolist()
        [0.2]
        >>> Scale(floor=None).stderr([0.1], [1.5], start=2.5, best=1.5).tolist()
        [0.1]
        """
        unit = start - best if self.floor is None else np.asarray(losses, float) - self.floor
        return np.asarray(np.asarray(errors, float) / unit, float)

    def decrease(self, losses: ArrayLike, start: float, best: float) -> Floats:
        """How far each loss has come down from the start, as a share of the fall.

        The fall reaches to the floor, or where that is unknown, to `best`, the lowest loss seen.
        -inf where a loss is not finite; NaN where nothing has fallen, or can fall.

        >>> Scale(floor=0.0).decrease([1.0, 0.5], start=2.0, best=0.5).tolist()
        [0.5, 0.75]
        >>> Scale(floor=None).decrease([7.0, 6.5], start=8.0, best=6.0).tolist()
        [0.5, 0.75]
        """
        losses, fall = np.asarray(losses, float), self._fall(start, best)
        finite = np.where(np.isfinite(losses), losses, start)
        shares = _share(start - finite, fall) if fall > 0 else np.full_like(finite, np.nan)
        return np.where(np.isfinite(losses), shares, -np.inf)

    def coarseness(self, start: float, best: float) -> float:
        """The smallest step between two losses, as a share of the fall; infinite without a fall.

        Above `COARSE` the digits of the loss hide what differs: those of a float32 near a million
        end at 0.06. No scale brings them back.

        >>> Scale(floor=None, resolution=0.0625).coarseness(start=1_000_002.0, best=1_000_000.0)
        0.03125
        """
        fall = self._fall(start, best)
        return self.resolution / fall if fall > 0 else math.inf

    def _fall(self, start: float, best: float) -> float:
        return start - (best if self.floor is None else self.floor)


@np.errstate(over="ignore")
def _share(part: Floats, whole: float) -> Floats:
    return np.clip(part / whole, -HUGE, HUGE)


def digits_that_differ(values: ArrayLike, least: int) -> int:
    """How many significant digits show the differences of the finite values; at least `least`.

    That many of the span of the values are shown, so a constant on top hides none of them.

    >>> digits_that_differ([0.1, 2.3], least=4), digits_that_differ([1e6 + 0.1, 1e6 + 2.3], least=4)
    (4, 9)
    """
    values = np.asarray(values, float)
    finite = values[np.isfinite(values)]
    with np.errstate(over="ignore"):
        span = float(np.ptp(finite)) if len(finite) else 0.0
    if not 0 < span < math.inf:
        return least
    more = math.floor(math.log10(np.abs(finite).max()) - math.log10(span))
    return min(least + max(more, 0), 17)  # a float has no more
