"""Which runs of a cohort end before their time."""

import math
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lrtune.analysis.curves import Outcome, diverged_at
from lrtune.task.task import Task
from lrtune.training.engines.loop import describe_run
from lrtune.training.recording import RunRecord

RetireRule = Callable[[NDArray[np.float64]], tuple[int, Outcome] | None]
"""Maps the losses of a run to the step at which it is retired and the outcome; None to go on.

The answer may depend only on the losses up to that step: then it does not matter when it is asked.
"""


def retire_failed(
    losses: NDArray[np.float64], resolution: float = 0.0
) -> tuple[int, Outcome] | None:
    """Retire runs whose loss is not finite or diverged (`lrtune.analysis.curves.diverged_at`).

    >>> retire_failed(np.array([2.0, 1.0, np.nan, np.nan]))
    (2, <Outcome.NONFINITE: 'The loss became NaN or infinite.'>)
    """
    finite = np.isfinite(losses)
    # What comes after the first NaN cannot show a divergence.
    end = len(losses) if finite.all() else int(np.argmin(finite))
    diverged = diverged_at(losses[:end], resolution)
    if diverged is not None:
        return diverged, Outcome.DIVERGED
    return None if end == len(losses) else (end, Outcome.NONFINITE)


class Judge:
    """Tells which runs are to be retired, by their losses without what changes by itself.

    Args:
        task: What is trained.
        rule: Decides by the losses of a run; `retire_failed` when None.
    """

    def __init__(self, task: Task, rule: RetireRule | None) -> None:
        self._task = task
        self._rule = rule or partial(retire_failed, resolution=task.loss_kind.resolution)
        self._drift = task.drift  # measured before anything trains

    def verdict(
        self, one: RunRecord, records: Iterable[RunRecord], step: int
    ) -> tuple[int, Outcome] | None:
        """Return when a run ends and why, or None; `records` are all runs of the cohort."""
        lowest = min(one.losses, default=math.inf)
        self._task.check_floor(lowest, f"the training loss of {describe_run(one.run)}")
        told = self._rule(self._net_losses(one, records))
        late = told is not None and told[1] is Outcome.DIVERGED and self._drift is None
        if not (late and one.untrained):
            return told
        # Nothing was trained, so the loss has changed by itself, later than was tried so far.
        self._drift = self._task.drift_within(step)
        return told if self._drift is None else self._rule(self._net_losses(one, records))

    def _net_losses(self, one: RunRecord, records: Iterable[RunRecord]) -> NDArray[np.float64]:
        losses = np.array(one.losses)
        if self._drift is None:
            return losses
        return self._drift.without(losses, one.first, twin_losses(one, records))


def twin_losses(one: RunRecord, records: Iterable[RunRecord]) -> NDArray[np.float64] | None:
    """Return the losses of the untrained run of the same seed among `records`, if there is one."""
    twins = (other for other in records if other.untrained and other.run.seed == one.run.seed)
    twin = next(twins, None)
    return None if twin is None else np.array(twin.losses)
