"""One run of a cohort: its optimizer settings at each step, its losses, its outcome."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
from torch import Tensor

from lrtune.analysis.curves import Outcome
from lrtune.errors import ArgumentError, ScheduleError, shown
from lrtune.results.runs import Run
from lrtune.results.schema import RUNS, TRACE, as_table
from lrtune.schedules import Feedback, Schedule, ValidatedFeedback, momenta, multipliers
from lrtune.schedules.feedback import check_validation, validation_interval
from lrtune.task.task import Task
from lrtune.training.checkpoints import Checkpoint
from lrtune.training.engines import Engine, StepSettings

BLOCK = 32
"""Steps between two reads of the losses: each read makes a GPU wait."""


class TabulatedSettings:
    """The settings of a run for all its updates, computed from its schedule before it trains."""

    every = 0  # it asks for no validation
    val_losses: Sequence[float] = ()

    def __init__(self, schedule: Schedule, steps: int) -> None:
        self.rates = multipliers(schedule, steps)
        given = momenta(schedule, steps)
        momentum = [None] * steps if given is None else given
        learns = any(self.rates)  # a run at rate 0 only measures the loss, and needs no gradients
        pairs = zip(self.rates, momentum, strict=True)
        self._settings = [StepSettings(rate, beta, learns) for rate, beta in pairs]

    def at(self, step: int) -> StepSettings:
        """Return the settings of this step."""
        return self._settings[step]


class FeedbackSettings:
    """The settings of a run whose schedule computes each multiplier from the loss at that step.

    Attributes:
        rates: The multiplier of every step so far.
        every: The steps between two validations that the schedule asks for; 0 for none.
        val_losses: The validation losses that it was given.
    """

    def __init__(self, feedback: Feedback[Any], steps: int, first: int) -> None:
        self._feedback, self._state = feedback, feedback.start(steps)
        self.rates = [0.0] * first  # so that a fork's rates have the numbers of their steps
        self.every, self._first = validation_interval(feedback, steps), first
        self.val_losses: list[float] = []

    def at(self, _step: int) -> StepSettings:
        """Return the settings of this step, whose rate is a function of the loss."""
        return StepSettings(self._react)

    def awaits(self, step: int) -> bool:
        """Return whether the schedule is to be given the validation loss before this update."""
        due = step // self.every - self._first // self.every if self.every else 0
        return step % max(self.every, 1) == 0 and due > len(self.val_losses)

    def validated(self, loss: float) -> None:
        """Give the schedule a validation loss."""
        self.val_losses.append(loss)
        feedback = cast("ValidatedFeedback[Any]", self._feedback)
        self._state = feedback.validated(self._state, loss)

    def _react(self, loss: float) -> float:
        rate, self._state = self._feedback.next(self._state, loss)
        if not 0 <= rate < float("inf"):
            raise ScheduleError(
                f"{shown(self._feedback)} gave {rate!r} at step {len(self.rates)}, for a loss of "
                f"{loss:g}; expected a finite multiplier >= 0."
            )
        self.rates.append(rate)
        return rate

    def replay(self, losses: Sequence[float], val_losses: Sequence[float]) -> None:
        """React to the losses of the steps before a checkpoint, and to the validation losses."""
        given = iter(val_losses)
        for step, loss in enumerate(losses, self._first):
            if self.awaits(step):
                self.validated(next(given))
            self._react(loss)


def step_settings(run: Run, steps: int, first: int = 0) -> TabulatedSettings | FeedbackSettings:
    """Return the optimizer settings of a run, from step `first` of `steps` on."""
    if isinstance(run.schedule, Schedule):
        return TabulatedSettings(run.schedule, steps)
    return FeedbackSettings(run.schedule, steps, first)


@dataclass
class RunRecord:
    """One run of a cohort: its losses so far, and how it ended, or None while it trains.

    The losses begin at step `first`: 0, or the step at which the run was forked from another.
    """

    run: Run
    settings: TabulatedSettings | FeedbackSettings
    first: int
    losses: list[float] = field(default_factory=list)
    outcome: Outcome | None = None
    next_check: int = BLOCK

    @property
    def history(self) -> dict[str, Sequence[float]]:
        """The training losses so far, and the validation losses that its schedule was given."""
        return {"losses": self.losses, "val_losses": self.settings.val_losses}

    @property
    def untrained(self) -> bool:
        """Whether its rate is zero at every step."""
        return isinstance(self.settings, TabulatedSettings) and not any(self.settings.rates)

    def start_check(self) -> bool:
        """Return whether to check the curve now, and if so, set when to check it again."""
        if len(self.losses) < self.next_check:
            return False
        # A check reads the whole curve, so checks become rarer as it grows.
        self.next_check = len(self.losses) + max(BLOCK, len(self.losses) // 4)
        return True


@dataclass
class SeedGroup:
    """The live runs of one seed, which see the same batches; `unread` losses are on the device."""

    seed: int
    records: list[RunRecord]
    unread: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        """List the runs of the records."""
        self.runs = [one.run for one in self.records]


def fork_records(parent: Run, runs: Sequence[Run], steps: int, step: int) -> list[RunRecord]:
    """Return the records of runs that are forked from another one after `step` updates.

    Raises:
        ArgumentError: One has another seed.
        ScheduleError: A schedule gives no finite multiplier >= 0 somewhere.
    """
    for run in runs:
        if run.seed != parent.seed:
            raise ArgumentError(
                f"run {run.name!r} has seed {run.seed}, but a fork of {parent.name!r} goes on with "
                f"the batches of its seed, {parent.seed}. Use that seed."
            )
    return [RunRecord(run, step_settings(run, steps, step), step) for run in runs]


def start_record(run: Run, steps: int, saved: Checkpoint | None) -> RunRecord:
    """Return the record of a new run, or what it was when its checkpoint was saved."""
    if saved is None:
        return RunRecord(run, step_settings(run, steps), 0)
    losses = saved["losses"].tolist()
    first = saved["step"] - len(losses)
    settings = step_settings(run, steps, first)
    if isinstance(settings, FeedbackSettings):
        settings.replay(losses, saved["val_losses"].tolist())
    return RunRecord(run, settings, first, losses)


def check_schedules(runs: Sequence[Run], steps: int, task: Task) -> None:
    """Raise `ScheduleError` for a schedule that asks for validation data that the task lacks."""
    for run in runs:
        check_validation(run.schedule, steps, available=task.has_validation)


def tell_validation(
    records: Sequence[RunRecord], step: int, engine: Engine, samples: int
) -> dict[str, int]:
    """Give each schedule that waits for it the validation loss before this update.

    Args:
        records: Live runs.
        step: The number of the update.
        engine: Measures them.
        samples: How many of the selection part of the validation data.

    Returns:
        The samples that each run was measured on whose schedule waited.
    """
    waiting = {
        one.run.name: (one.run, one.settings)
        for one in records
        if isinstance(one.settings, FeedbackSettings) and one.settings.awaits(step)
    }
    runs = [run for run, _ in waiting.values()]
    measured = engine.validate(runs, samples) if runs else []
    for (_, settings), parts in zip(waiting.values(), measured, strict=True):
        settings.validated(parts[0].loss)
    return {name: parts[0].samples for name, parts in zip(waiting, measured, strict=True)}


def trace_rows(records: Sequence[RunRecord], digests: Mapping[int, Sequence[int]]) -> pd.DataFrame:
    """Return one row per run and recorded step, in the columns of `Trace.frame`."""
    parts = []
    for one in records:
        end = one.first + len(one.losses)
        parts.append(
            (
                np.full(len(one.losses), one.run.name, dtype=object),
                np.arange(one.first, end),
                np.array(one.settings.rates[one.first : end]) * one.run.lr,
                np.array(one.losses, dtype=np.float64),
                np.array(digests[one.run.seed][one.first : end], dtype=np.int64),
            )
        )
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return as_table(pd.DataFrame(dict(zip(TRACE, columns, strict=True))), TRACE)


def run_rows(records: Sequence[RunRecord], otherwise: Outcome) -> pd.DataFrame:
    """Return one row per run; `otherwise` is the outcome of those that have none."""
    rows = [
        (run.name, run.lr, repr(run.schedule), run.seed, (outcome or otherwise).name, len(losses))
        for run, outcome, losses in ((one.run, one.outcome, one.losses) for one in records)
    ]
    return as_table(rows, RUNS)


Progress = Callable[[str, int, int], None]
"""Called with the stage, the updates done (each of one run), and their total."""

REPORT_SECONDS = 0.1
"""Time between two calls of `progress`: a person sees no more, and each call costs."""


class Reporter:
    """Tells how far the runs of a cohort have come, at most ten times a second."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._told_at = progress, 0.0

    def due(self, *, now: bool = False) -> bool:
        """Return whether somebody listens, and enough time has passed, or it is to be told now."""
        if self._progress is None:
            return False
        return now or time.monotonic() - self._told_at > REPORT_SECONDS

    def report(self, stage: str, records: Iterable[RunRecord], step: int, goal: int) -> None:
        """Tell how many updates were made at this step, of how many up to step `goal`."""
        assert self._progress is not None, "a report is due only if somebody listens"
        self._told_at = time.monotonic()
        every = list(records)
        live = [one for one in every if one.outcome is None]
        spent = sum(len(one.losses) for one in every if one.outcome is not None)
        done = spent + sum(step - one.first for one in live)
        self._progress(stage, done, spent + sum(goal - one.first for one in live))
