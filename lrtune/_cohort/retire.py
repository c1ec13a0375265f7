"""When a run is out: pure functions of its losses so far."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lrtune.curves import Outcome, diverged_at

Retire = Callable[[NDArray[np.float64]], tuple[int, Outcome] | None]
"""Losses of a run from its first step on, to the step at which it is out, and why.

The answer may depend only on the losses up to that step: then it does not matter when it is asked.
"""


def failed(losses: NDArray[np.float64]) -> tuple[int, Outcome] | None:
    """Out when the loss is not finite, or has diverged (`lrtune.curves.diverged_at`).

    >>> failed(np.array([2.0, 1.0, np.nan, np.nan]))
    (2, <Outcome.NONFINITE: 'The loss became NaN or infinite.'>)
    """
    finite = np.isfinite(losses)
    end = len(losses) if finite.all() else int(np.argmin(finite))
    diverged = diverged_at(losses[:end])
    if diverged is not None:
        return diverged, Outcome.DIVERGED
    return None if end == len(losses) else (end, Outcome.NONFINITE)
