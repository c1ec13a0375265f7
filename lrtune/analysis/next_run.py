"""Where the loss of one more training lies, from a few like it."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from lrtune.analysis.fitted import fitted
from lrtune.analysis.paired import LEVEL

WEIGHT = fitted("next_run_weight")
SHARE = fitted("next_run_share")


def usual_spread(noise: float, sampling: float) -> float:
    """Standard deviation of the score of one training, before any is known of this task.

    Args:
        noise: That on other tasks, a median.
        sampling: The standard error of a score, of the data that it is measured on.
    """
    return SHARE * math.hypot(noise, sampling)


def next_score(scores: Sequence[float], spread: float, shared: float = 0.0) -> tuple[float, float]:
    """The middle, and half the width, of the 90 % interval of one more score like these.

    One to three scores tell little about how much they scatter, and tasks differ by factors in it.
    So their variance is drawn towards the usual one, which counts like `WEIGHT` more scores, and
    the interval is Student's.

    Args:
        scores: Of trainings that differ by their seed.
        spread: The usual standard deviation of one of them.
        shared: The standard error of what they all have in common, and the next one has not.

    >>> [round(next_score([1.0] * count, spread=0.1)[1], 2) for count in (1, 2, 3)]
    [0.41, 0.24, 0.17]
    """
    values, free = np.asarray(scores, float), WEIGHT + len(scores) - 1
    squares = float(((values - values.mean()) ** 2).sum())
    variance = (WEIGHT * spread**2 + squares) / free * (1 + 1 / len(values)) + shared**2
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, free))
    return float(values.mean()), quantile * math.sqrt(variance)
