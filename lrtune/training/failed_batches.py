"""Batches that fail for another reason than the rate."""

import math
from collections.abc import Collection, Sequence

from lrtune.task.task import Task
from lrtune.training.recording import SeedGroup

LEAST, TIMES = 7, 3.0
"""By convention: a loss has risen that is above so many others by so many times their range."""


class FailedBatches:
    """The steps at which a batch, and no rate, may have cost runs their finite losses."""

    def __init__(self, task: Task) -> None:
        self._task, self._steps = task, dict[int, int]()

    def note(self, group: SeedGroup, rows: Sequence[Sequence[float]], end: int) -> None:
        """Note a step that cost a run its finite loss, if the rate may not be to blame.

        That is so if the run never learns. Of the others it is so if no other one lives on, and
        its loss had not risen far: data that are read again up to there cost time.

        Args:
            group: The runs of a seed, without these losses.
            rows: Their losses, a row for each step up to `end`.
            end: The step after the last row.
        """
        if all(math.isfinite(loss) for row in rows for loss in row):
            return
        curves = [list(one.losses) for one in group.records]
        learns = [one.settings.at(end - 1).learns for one in group.records]
        for step, row in enumerate(rows, start=end - len(rows)):
            live = [not curve or math.isfinite(curve[-1]) for curve in curves]
            for curve, loss in zip(curves, row, strict=True):
                curve.append(loss)
            runs = list(zip(curves, learns, live, row, strict=True))
            lost = [
                (curve, learn) for curve, learn, was, now in runs if was and not math.isfinite(now)
            ]
            alive = any(learn and math.isfinite(now) for _, learn, _, now in runs)
            untrained = any(not learn for _, learn in lost)
            if untrained or (not alive and any(learn and not rose(curve) for curve, learn in lost)):
                self._steps.setdefault(group.seed, step)

    def refuse(self) -> None:
        """Raise a DataError where no rate could have a finite loss; else forget the steps.

        Call it inside `preserve_random_state()`.
        """
        for seed, step in self._steps.items():
            if (error := self._task.batch_error(seed, step)) is not None:
                raise error
        self._steps.clear()

    def refuse_broken(self, seeds: Collection[int], steps: int) -> None:
        """Raise a DataError where the gradient of a batch is not finite before any update.

        The loss hides it, as with `nan_to_num`. Call it inside `preserve_random_state()`.
        """
        for seed in seeds:
            if (error := self._task.gradient_error(seed, steps)) is not None:
                raise error


def rose(curve: Sequence[float]) -> bool:
    """Return whether a loss had risen far before its last number, which is not finite.

    >>> falling = [2.0 - 0.1 * step for step in range(8)]
    >>> rose([*falling, 9.0, math.nan]), rose([*falling, 2.1, math.nan])
    (True, False)
    """
    *before, last = curve[:-1] or [math.nan]
    if len(before) < LEAST:
        return False
    return last - max(before) > TIMES * (max(before) - min(before))
