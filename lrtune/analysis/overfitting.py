"""Where the validation loss of a run turns, while its training loss goes on falling."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from lrtune.analysis.curves import noise

LEAST_VALIDATIONS = 5  # by definition: fewer show no turn
AFTER = 2  # by convention: a curve ends at the mean of its last two validations
ABOVE = 3  # by convention: all of its last three validations lie above its lowest one
ERRORS = 3  # by convention: and rises by so many standard deviations of a validation
SHARE = 0.05  # by convention: and by this share of the fall before it


@dataclass(frozen=True)
class Turn:
    """Where a validation loss turns.

    Attributes:
        step: Of the lowest validation loss, by the median of three.
        lowest: That loss.
        last: The mean of the last two.
    """

    step: float
    lowest: float
    last: float


def turn(steps: ArrayLike, losses: ArrayLike) -> Turn | None:
    """Where a validation loss turns and rises until its end; None where it does not.

    It rises by more than three standard deviations of its noise, and than 5 % of its fall before;
    and none of its last three values comes back: a loss that dances does.

    >>> turn(range(10), [2.0, 1.0, 0.8, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3])
    Turn(step=3.0, lowest=0.8, last=1.25)
    """
    at, measured = np.asarray(steps, float), np.asarray(losses, float)
    finite = np.isfinite(measured)
    at, values = at[finite], measured[finite]
    if len(values) < LEAST_VALIDATIONS:
        return None
    calm = ndimage.median_filter(values, 3, mode="nearest")
    least = float(calm.min())
    lowest = int(np.where(calm == least, values, np.inf).argmin())
    last = float(values[-AFTER:].mean())
    single = noise(values)
    rise, fall = last - least, max(float(values[0]) - least, 0.0)
    returned = float(values[-ABOVE:].min()) - least <= max(single, SHARE * fall)
    if lowest > len(values) - 1 - ABOVE or returned or rise <= max(ERRORS * single, SHARE * fall):
        return None
    return Turn(float(at[lowest]), least, last)
