"""Batches that fail for another reason than the rate."""

import math
from collections.abc import Sequence

from lrtune.task.task import Task
from lrtune.training.recording import SeedGroup


class FailedBatches:
    """The steps at which no run of a seed had a finite loss any more, not yet looked into."""

    def __init__(self, task: Task) -> None:
        self._task, self._steps = task, dict[int, int]()

    def note(self, group: SeedGroup, rows: Sequence[Sequence[float]], end: int) -> None:
        """Note the step at which the last run of a group lost its finite loss, if it did.

        Runs that never learn do not count, if there are others. But where one of them has a finite
        loss, the batch is fine, and only a gradient may have failed without any rise of the loss.

        Args:
            group: The runs of a seed, without these losses.
            rows: Their losses, a row for each step up to `end`.
            end: The step after the last row.
        """
        if all(math.isfinite(loss) for row in rows for loss in row):
            return
        curves = [list(one.losses) for one in group.records]
        learns = [one.settings.at(end - 1).learns for one in group.records]
        learning = [curve for curve, one in zip(curves, learns, strict=True) if one] or curves
        for step, row in enumerate(rows, start=end - len(rows)):
            live = [curve for curve in learning if not curve or math.isfinite(curve[-1])]
            for curve, loss in zip(curves, row, strict=True):
                curve.append(loss)
            failed = not any(math.isfinite(curve[-1]) for curve in learning)
            if live and failed and (not any(map(math.isfinite, row)) or not any(map(rose, live))):
                self._steps.setdefault(group.seed, step)

    def refuse(self) -> None:
        """Raise a DataError where no rate could have a finite loss; else forget the steps.

        Call it inside `preserve_random_state()`.
        """
        for seed, step in self._steps.items():
            if (error := self._task.batch_error(seed, step)) is not None:
                raise error
        self._steps.clear()


def rose(curve: Sequence[float]) -> bool:
    """Return whether the last finite loss of a run that failed was the highest one.

    >>> rose([2.0, 1.9, 2.4, math.nan]), rose([2.0, 1.9, 1.8, math.nan]), rose([2.0, math.nan])
    (True, False, False)
    """
    *before, last = curve[:-1] or [math.nan]
    return bool(before) and last > max(before)
