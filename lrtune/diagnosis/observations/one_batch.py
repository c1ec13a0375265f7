"""Whether one batch can be overfitted, by Adam or by the task's own optimizer, at three rates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.optim import Adam, Optimizer

from lrtune.analysis.curves import noise
from lrtune.results.runs import Run
from lrtune.task.part_guess import TRAIN
from lrtune.task.random_state import preserve_random_state
from lrtune.task.task import Task
from lrtune.training import Cohort

ADAM = (0.01, 0.003, 0.001)
"""By convention. Adam is tried first, as its updates hardly depend on the scale of a gradient: a
net without normalisation, or a summed loss, needs hundreds of updates of SGD at a usual rate."""
OWN, ADAPTING = (0.1, 0.01, 0.001), (3.0, 1.0, 0.3)
LOOKS, OWN_LOOKS = (15, 30, 45, 60, 90), (10, 20, 30)  # updates until a look at the losses
ALL = 2  # looks at all rates; then the best one goes on alone
MOST_UPDATES = sum(2 * looks[ALL - 1] + looks[-1] for looks in (LOOKS, OWN_LOOKS))  # of all
LONG, FALLING = 60, 0.05
"""By convention: after so many updates, a run only goes on while the last quarter of its updates
still makes this share of the fall, and one that its noise does not explain; a run that does so at
its end is slow, and not stuck."""
SURE = 3.0  # by convention: standard deviations of a mean of the last losses
LAST = 5  # by convention: losses whose mean is looked at, as dropout and the like add noise

ENOUGH, ENOUGH_UNKNOWN = 0.1, 0.2
"""By convention: so much of the way from guessing to the lowest loss shows that a batch can be
learned; where guessing is unknown, of the way from the start to zero. Of 58 healthy tasks all come
to 0.32 and more within 45 updates, and 48 to 0.1 within 15; a model whose outputs do not depend on
its inputs never passes 0."""

SAME = 0.01  # by convention: guessing has no more of the way left than this: all targets are alike


@dataclass(frozen=True)
class OneBatch:
    """Trainings on the first batch alone; losses are per sample.

    Attributes:
        start: The loss before training.
        guess: The loss of the best constant prediction for this batch; NaN where it is unknown.
        curves: The losses by optimizer and rate, such as `Adam, lr 0.01`.
        best: The lowest level that one of them came to; NaN where all failed.
        adam_lr: The rate of Adam that came lowest; NaN where Adam did not learn it.
        learned: Whether one of them came far enough below guessing.
        slow: Whether Adam's best still falls at the end, so that nobody knows where to.
        cut: Whether the budget ended the trainings before they told.
        updates: How many updates were made in all.
    """

    start: float
    guess: float
    curves: dict[str, tuple[float, ...]]
    best: float
    adam_lr: float
    learned: bool
    slow: bool
    cut: bool
    updates: int


def overfit_one_batch(task: Task, most: float = math.inf) -> OneBatch:
    """Train on the first batch alone until one rate has learned it, or until none has.

    It costs 45 updates where the first look is enough, as on most healthy tasks, and 220 at most.

    Args:
        task: Its first batch is learned.
        most: The most updates to make; where they are not enough to tell, `cut` is True.
    """
    with preserve_random_state(), torch.inference_mode(mode=False):
        single = task.trained_on([next(task.batches(0))])
    guess, size = single.guess(TRAIN), task.loss_kind.summed
    lowest = (task.loss_kind.floor or 0.0) / size
    aim = _Aim(math.nan if guess is None else guess.loss, lowest, most)
    own = ADAPTING if task.adapts_rate else OWN
    tried = []
    if not _has_sparse_gradients(task):
        tried.append(_Trial(with_adam(single), "Adam", ADAM, LOOKS, aim))
    by_adam = bool(tried) and tried[0].learned
    if not by_adam and not (tried and tried[0].slow):
        name = f"its own {task.describe()['optimizer']}"
        rest = replace(aim, most=most - sum(one.updates for one in tried))
        tried.append(_Trial(single, name, own, OWN_LOOKS, rest))
    return OneBatch(
        tried[0].start,
        aim.guess,
        {name: curve for one in tried for name, curve in one.curves.items()},
        min((one.best for one in tried if math.isfinite(one.best)), default=math.nan),
        tried[0].lr if by_adam else math.nan,
        tried[-1].learned,
        tried[0].slow,
        any(one.cut for one in tried),
        sum(one.updates for one in tried),
    )


@dataclass(frozen=True)
class _Aim:
    """Where a loss has to come to.

    Attributes:
        guess: That of the best constant; NaN where it is unknown.
        floor: The lowest one.
        most: How many updates may be made.
    """

    guess: float
    floor: float
    most: float

    def reached(self, start: float, level: float) -> bool:
        """Whether a level is far enough below guessing, or where that says nothing, the start.

        It says nothing where the batch has a single label, which guessing knows, too.
        """
        known = math.isfinite(self.guess) and self.guess - self.floor > SAME * (start - self.floor)
        reference, enough = (self.guess, ENOUGH) if known else (start, ENOUGH_UNKNOWN)
        return reference - level > enough * abs(reference - self.floor)


class _Trial:
    """A cohort on one batch, which ends where the aim is reached."""

    def __init__(
        self,
        task: Task,
        name: str,
        rates: Sequence[float],
        looks: Sequence[int],
        aim: _Aim,
    ) -> None:
        cohort = Cohort(task, [Run(f"{name}, lr {lr:g}", lr) for lr in rates], looks[-1])
        size, self.best, self.learned = task.loss_kind.summed, math.nan, False
        self.curves, self.start = dict[str, tuple[float, ...]](), math.nan
        self.lr, self.slow, self.cut = math.nan, False, False
        for place, look in enumerate(looks):
            more = (look - cohort.step) * len(cohort.live)
            if sum(cohort.updates.values()) + more > aim.most:
                self.cut = True
                break
            frame = cohort.advance(look).trace.frame
            self.curves = {
                str(run): tuple((rows["loss"].to_numpy() / size).tolist())
                for run, rows in frame.groupby("run", sort=False)
            }
            self.start = next(iter(self.curves.values()))[0]
            ends = {run: float(np.mean(curve[-LAST:])) for run, curve in self.curves.items()}
            self.best = min(filter(math.isfinite, [self.best, *ends.values()]), default=math.nan)
            self.learned = aim.reached(self.start, self.best)
            live = sorted(cohort.live, key=lambda run: ends[run.name])
            self.lr = live[0].lr if live else math.nan
            self.slow = bool(live) and _still_falls(self.curves[live[0].name])
            if self.learned or not live or (look >= LONG and not self.slow):
                break
            if place == ALL - 1:
                cohort.retain([live[0].name])
        self.updates = sum(cohort.updates.values())


def _still_falls(losses: Sequence[float]) -> bool:
    """Whether the last quarter of the updates makes a good part of the fall."""
    before = len(losses) - len(losses) // 4
    last, earlier = (float(np.mean(some[-LAST:])) for some in (losses, losses[:before]))
    least = max(FALLING * (losses[0] - last), SURE * noise(losses) / math.sqrt(LAST))
    return earlier - last > least and losses[0] > last


def with_adam(task: Task) -> Task:
    """The same task with Adam, but the groups, their rates and decays of its own optimizer."""
    return task.changed(optimizer=_adam_like)


def _adam_like(own: Optimizer) -> Adam:
    return Adam(
        [
            {
                "params": group["params"],
                "lr": float(group["lr"]),
                "weight_decay": float(group.get("weight_decay") or 0.0),
                "maximize": bool(group.get("maximize", False)),
            }
            for group in own.param_groups
        ]
    )


def _has_sparse_gradients(task: Task) -> bool:
    """Whether a layer has sparse gradients, which Adam refuses."""
    return any(getattr(part, "sparse", False) is True for part in task.new_model().modules())
