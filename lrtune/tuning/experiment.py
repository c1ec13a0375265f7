"""What strategies ask for, and who answers: runs up to a step, within budget and time."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from lrtune.errors import ArgumentError, positive_number, shown
from lrtune.results.runs import Run
from lrtune.results.schema import SPENDING, as_table
from lrtune.schedules.feedback import validations_between
from lrtune.task.drift import Drift, in_every_run
from lrtune.training import Evaluate
from lrtune.tuning.history import Asking, History, Question
from lrtune.tuning.planning import Plan, Sizes

FORWARD = 3  # by convention: so many forward passes cost as much as an update
LONG = 1000
"""Runs of so many steps are asked for in parts; shorter ones are trained again after a kill."""


class Experiment:
    """What one search may spend, and what it has measured: strategies train through it.

    Args:
        sizes: What a training and a validation cost.
        budget: The most to spend, in full trainings.
        drift: How the loss changes by itself; None where it does not.
    """

    def __init__(self, sizes: Sizes, budget: float, drift: Drift | None = None) -> None:
        self.sizes, self.budget = sizes, budget
        self.history, self.notes = History(sizes.summed, drift), list[str]()
        self._spent: dict[str, float] = {}
        self._reserved = 0.0

    @property
    def spent(self) -> float:
        """What was spent so far, in full trainings."""
        return math.fsum(self._spent.values())

    @property
    def left(self) -> float:
        """What may still be spent, without what is set aside for later stages."""
        return self.budget * (1 + 1e-9) - self.spent - self._reserved

    @property
    def updates_left(self) -> int:
        """The updates that this holds."""
        return max(0, int(self.left * self.sizes.steps))

    def set_aside(self, cost: float) -> None:
        """Keep so much for later stages; it replaces what was kept before."""
        self._reserved = cost

    def cost(
        self,
        runs: Sequence[Run],
        until: int,
        validate: int | None = 0,
        *,
        horizon: int | None = None,
    ) -> float:
        """What it costs to train these runs on to a step, in full trainings.

        A run that fails on the way is charged to the end, as engines may notice it late. The
        validations that a schedule asks for on the way count; `horizon` is `until` when None.
        """
        both = self.sizes.selection + self.sizes.test
        samples = both if validate is None else min(validate, self.sizes.selection)
        new = [
            run
            for run in runs
            if self.history.trained(run) < until or (samples and not self.history.validated(run))
        ]
        updates: float = self.history.missing(runs, until)
        if new and until == self.sizes.steps and in_every_run(self.history.drift):
            # Beside the first whole training a model runs along that is not trained.
            first = all(one.until < until for one in self.history.runs.values())
            updates += first * until / FORWARD
        watched = self.sizes.selection * sum(
            validations_between(run.schedule, horizon or until, self.history.trained(run), until)
            for run in runs
        )
        validated = len(new) * self.sizes.validation(samples) + self.sizes.validation(watched)
        return self.sizes.updates(updates) + validated

    def pays(self, runs: Sequence[Run], until: int, validate: int | None = 0) -> bool:
        """Whether the budget holds these runs up to this step."""
        return self.cost(runs, until, validate) <= self.left

    def train(
        self,
        stage: str,
        runs: Sequence[Run],
        steps: int,
        until: int,
        *,
        validate: int | None = 0,
        checkpoint: bool = False,
        ahead: float = 0.0,
    ) -> Asking:
        """Ask for these runs, and remember what they gave."""
        question = Question(
            stage, tuple(runs), steps, until, validate, checkpoint,
            cost=self.cost(runs, until, validate, horizon=steps), ahead=ahead,
        )  # fmt: skip
        trace = yield question
        self._spent[stage] = self._spent.get(stage, 0.0) + question.cost
        self.history.add(question, trace)

    def train_whole(self, stage: str, runs: Sequence[Run], steps: int) -> Asking:
        """Train whole runs with checkpoints, long ones in parts; those that fail drop out."""
        going, parts = list(runs), parts_of(steps)
        for until in parts:
            last = until == parts[-1]
            whole = self.cost(going, steps, None)
            validate = None if last else 0
            ahead = whole - self.cost(going, until, validate, horizon=steps)
            yield from self.train(
                stage, going, steps, until, validate=validate, checkpoint=True, ahead=ahead
            )
            going = [run for run in going if not self.history.runs[run.name].failed]
            if not going:
                return

    def spending(self, plan: Plan) -> pd.DataFrame:
        """One row per stage: columns `SPENDING`."""
        planned = {stage.name: stage.cost for stage in plan.stages}
        rows = [
            (stage, planned.get(stage, 0.0), self._spent.get(stage, 0.0))
            for stage in dict.fromkeys([*planned, *self._spent])
        ]
        return as_table(rows, SPENDING)


def parts_of(steps: int) -> list[int]:
    """The steps at which a long run is recorded, so that a kill costs at most half of it.

    >>> parts_of(400), parts_of(4000)
    ([400], [500, 1000, 2000, 4000])
    """
    if steps < LONG:
        return [steps]
    return [steps // 8, steps // 4, steps // 2, steps]


class Event(NamedTuple):
    """What a search tells while it runs.

    Attributes:
        stage: before, coarse, horizons, current or fine.
        done: What was spent, in full trainings.
        total: What the plan holds.
        lr: The best peak so far; None before the first answer.
        schedule: Its schedule, as text.
    """

    stage: str
    done: float
    total: float
    lr: float | None
    schedule: str


Tell = Callable[[Event], None]


def checked_tell(progress: Tell | None) -> Tell | None:
    """The function that is told; raises where it is none."""
    if progress is not None and not callable(progress):
        raise ArgumentError(
            f"progress={shown(progress)}; expected a function that takes an Event, such as print."
        )
    return progress


class Clock:
    """Tells whether what a question costs would still fit into the time limit.

    A training's time is estimated from all that was trained since the clock began to run.

    Args:
        limit: Seconds, or None for no limit.
        now: The time in seconds; for tests.
    """

    def __init__(self, limit: float | None, now: Callable[[], float] = time.monotonic) -> None:
        if limit is not None:
            positive_number("time_limit", limit, such_as="600, in seconds")
        self._limit, self._now = limit, now
        self._begin, self._cost = now(), 0.0

    @property
    def seconds_per_training(self) -> float | None:
        """Measured time of one full training; None before anything was trained."""
        return (self._now() - self._begin) / self._cost if self._cost else None

    def allows(self, question: Question) -> bool:
        """Whether the runs of this question would finish in time."""
        if self._limit is None:
            return True
        left = self._limit - (self._now() - self._begin)
        needed = (question.cost + question.ahead) * (self.seconds_per_training or 0.0)
        return left > 0 and needed <= left

    def charge(self, question: Question) -> None:
        """Note that a question was answered."""
        self._cost += question.cost


def ask_all(
    asking: Asking,
    evaluate: Evaluate,
    clock: Clock,
    told: Callable[[Question], None],
    *,
    interruptible: Callable[[], bool],
) -> str:
    """Answer questions until there are none; returns why it stopped: "", "time", "interrupted".

    What is asked next depends on the traces alone. Time and Ctrl-C only decide whether it is asked,
    so a search that was stopped and is resumed ends as if it had never been stopped.

    Args:
        asking: The strategy.
        evaluate: Trains runs.
        clock: Ends the search before a question that would take too long.
        told: Called before each question.
        interruptible: Whether Ctrl-C ends the search; before, it passes through.
    """
    try:
        question = next(asking)
        while clock.allows(question) or not interruptible():
            told(question)
            # A plain function, which gives no checkpoints, need not know of them.
            saves = question.checkpoint and hasattr(evaluate, "checkpoint")
            more: dict[str, Any] = {"checkpoint": True} if saves else {}
            trace = evaluate(
                question.runs,
                question.steps,
                stage=question.stage,
                validate=question.validate,
                until=question.until,
                **more,
            )
            clock.charge(question)
            question = asking.send(trace)
    except StopIteration:
        return ""
    except KeyboardInterrupt:
        if not interruptible():
            raise
        return "interrupted"
    return "time"
