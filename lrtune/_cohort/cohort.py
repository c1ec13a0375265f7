"""Cohort: runs trained in lockstep. This is where everything that lrtune learns comes from."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lrtune._cohort.batches import Streams
from lrtune._cohort.engine import Engine
from lrtune._cohort.loop import Loop
from lrtune._cohort.paces import Planned, Reacting, pace_of
from lrtune._cohort.retire import Retire, failed
from lrtune.curves import Outcome
from lrtune.errors import ArgumentError
from lrtune.randomness import NOISE, derive, preserved
from lrtune.records import table
from lrtune.results import EVALUATED, RUNS, TRACE, Trace
from lrtune.runs import Run, checked_runs, whole
from lrtune.task import Task

BLOCK = 32
"""Steps between two looks at the losses, which stay on the device until then."""

Progress = Callable[[str, int, int], None]
"""Told the stage, how many updates (of one run each) are done, and how many there are in all."""

TELL_EVERY = 0.1
"""Seconds between two words to `progress`."""


@dataclass
class _Live:
    """One run of a cohort, and what is known of it."""

    run: Run
    pace: Planned | Reacting
    first: int
    losses: list[float] = field(default_factory=list)
    unread: list[Tensor] = field(default_factory=list)
    outcome: Outcome | None = None
    look: int = BLOCK

    @property
    def steps(self) -> int:
        """Updates made so far."""
        return len(self.losses) + len(self.unread)


class Cohort:
    """Runs trained in lockstep: those of one seed start alike and see the same batches.

    Its laws, each of them a test: adding, removing or reordering runs changes no other run;
    advancing in parts equals advancing at once; a run that fails touches no other; a cohort of
    one equals a plain PyTorch loop, bit for bit on a CPU; the user's model and the global random
    states stay as they are, also when an exception or Ctrl-C escapes.

    Args:
        task: What is trained.
        runs: Candidates, with names of their own.
        steps: The horizon: optimizer updates of each run; schedules are spread over it.
        engine: What carries the updates out; the loop when None.
        retire: Tells when a run is out; non-finite or diverged when None.
        stage: A word for `progress`.
        progress: Told the stage, the updates done and the total, some ten times a second.

    Raises:
        ArgumentError: No runs, two of one name, or steps < 1.
        ScheduleError: A schedule gives no finite multiplier >= 0 somewhere; nothing has trained.
    """

    def __init__(
        self,
        task: Task,
        runs: Sequence[Run],
        steps: int,
        *,
        engine: Engine | None = None,
        retire: Retire = failed,
        stage: str = "training",
        progress: Progress | None = None,
    ) -> None:
        """Check everything, and start every run."""
        self.task, self.steps = task, whole("steps", steps, least=1)
        self._engine: Engine = Loop(task) if engine is None else engine
        self._retire, self._stage, self._progress = retire, stage, progress
        runs = checked_runs(runs)
        self._all = {run.name: _Live(run, pace_of(run, steps), 0) for run in runs}
        self._step, self._broken, self._told = 0, False, 0.0
        self._evaluated: list[tuple[str, int, float]] = []
        self._streams = Streams(task, list(dict.fromkeys(run.seed for run in runs)))
        with self._training():
            for run in runs:
                self._engine.begin(run)

    @property
    def live(self) -> list[Run]:
        """The runs that are neither out nor retired."""
        return [one.run for one in self._living()]

    def advance(self, to: int | None = None) -> "Cohort":
        """Train every living run up to step `to`, the horizon when None; returns itself."""
        end = self.steps if to is None else whole("to", to, least=self._step)
        if end > self.steps:
            raise ArgumentError(f"to={end} lies beyond the horizon of {self.steps} steps.")
        with self._training():
            while self._step < end and self._living():
                self._update()
                if self._step % BLOCK == 0:
                    self._read()
                self._tell()
            self._step = end
            self._read(look=True)
            self._tell(now=True)
        return self

    def keep(self, names: Iterable[str]) -> "Cohort":
        """Retire every living run that is not named; returns itself."""
        kept = set(names)
        unknown = kept - set(self._all)
        if unknown:
            raise ArgumentError(f"no run is named {min(unknown)!r}; there are {sorted(self._all)}.")
        for one in self._living():
            if one.run.name not in kept:
                self._out(one, Outcome.RETIRED)
        return self

    def fork(self, name: str, runs: Sequence[Run]) -> "Cohort":
        """Start `runs` from the present state of the living run `name`, on the same batches.

        Each goes on from this step, with its own rate and its schedule over the whole horizon.
        """
        parent = self._all.get(name)
        if parent is None or parent.outcome is not None:
            raise ArgumentError(f"no living run is named {name!r}: {[r.name for r in self.live]}.")
        checked_runs([*(one.run for one in self._all.values()), *runs])
        for run in runs:
            if run.seed != parent.run.seed:
                raise ArgumentError(
                    f"run {run.name!r} has seed {run.seed}, but a fork of {name!r} goes on with "
                    f"the batches of its seed, {parent.run.seed}. Use that seed."
                )
        begun = {
            run.name: _Live(run, pace_of(run, self.steps, self._step), self._step) for run in runs
        }
        with self._training():
            for run in runs:
                self._engine.begin(run, like=name)
        self._all |= begun
        return self

    def evaluate(self) -> "Cohort":
        """Measure every living run on the validation data, into the trace; returns itself."""
        with self._training():
            for one in self._living():
                self._evaluated.append((one.run.name, self._step, self._engine.validate(one.run)))
        return self

    @property
    def trace(self) -> Trace:
        """Everything recorded so far."""
        self._read()  # after an interruption, losses are still on the device
        rows = [self._rows(one) for one in self._all.values()]
        runs = [
            (
                one.run.name,
                one.run.lr,
                repr(one.run.schedule),
                one.run.seed,
                self._outcome(one).name,
                one.steps,
            )
            for one in self._all.values()
        ]
        return Trace(
            frame=table(pd.concat(rows, ignore_index=True), TRACE),
            runs=table(pd.DataFrame(runs, columns=list(RUNS)), RUNS),
            evaluated=table(pd.DataFrame(self._evaluated, columns=list(EVALUATED)), EVALUATED),
            steps=self.steps,
        )

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Global states are given back afterwards; what breaks in here stays broken."""
        if self._broken:
            raise ArgumentError(
                "this cohort was interrupted within a step, so its runs are no longer in lockstep. "
                "Its trace is good up to there; make a new Cohort to train on."
            )
        with preserved(), torch.inference_mode(mode=False), torch.enable_grad():
            try:
                yield
            except BaseException as error:
                self._broken = True
                told = any(note.startswith("at step") for note in getattr(error, "__notes__", []))
                if isinstance(error, Exception) and not told and self._living():
                    # A worker that dies is told by a signal, wherever we are just then.
                    error.add_note(f"at step {self._step} of {self.steps}, {_told(self.live)}")
                raise

    def _living(self) -> list[_Live]:
        return [one for one in self._all.values() if one.outcome is None]

    def _update(self) -> None:
        """One step of every living run."""
        step, by_seed = self._step, dict[int, list[_Live]]()
        for one in self._living():
            by_seed.setdefault(one.run.seed, []).append(one)
        for seed, living in by_seed.items():
            runs = [one.run for one in living]
            with _noted(f"drawing the batch for {_told(runs)}", step, self.steps):
                batch = self._streams.draw(seed)
            with _noted(f"in the stage {self._stage!r}", step, self.steps):
                losses = self._engine.update(
                    runs,
                    batch,
                    [one.pace.at(step) for one in living],
                    derive(seed, NOISE, step),
                )
            for one, loss in zip(living, losses, strict=True):
                one.unread.append(loss)
        self._step += 1

    def _read(self, *, look: bool = False) -> None:
        """Fetch the losses from the device, and retire the runs that are out."""
        living = self._living()
        unread = [loss for one in living for loss in one.unread]
        values = iter(torch.stack(unread).tolist() if unread else [])
        for one in living:
            one.losses += [next(values) for _ in one.unread]
            one.unread.clear()
            if look or len(one.losses) >= one.look:
                # The whole curve is judged each time, so the looks thin out as it grows.
                one.look = len(one.losses) + max(BLOCK, len(one.losses) // 4)
                self._judge(one)

    def _judge(self, one: _Live) -> None:
        verdict = self._retire(np.array(one.losses))
        if verdict is not None:
            step, outcome = verdict
            del one.losses[step + 1 :]
            self._out(one, outcome)

    def _tell(self, *, now: bool = False) -> None:
        if self._progress is None or not (now or time.monotonic() - self._told > TELL_EVERY):
            return
        self._told = time.monotonic()
        done = [(one.steps, one.outcome is not None, one.first) for one in self._all.values()]
        total = sum(steps if out else self.steps - first for steps, out, first in done)
        self._progress(self._stage, sum(steps for steps, _, _ in done), total)

    def _out(self, one: _Live, outcome: Outcome) -> None:
        one.outcome = outcome
        self._engine.drop(one.run)

    def _outcome(self, one: _Live) -> Outcome:
        if one.outcome is not None:
            return one.outcome
        return Outcome.FINISHED if self._step == self.steps else Outcome.RUNNING

    def _rows(self, one: _Live) -> pd.DataFrame:
        span = slice(one.first, one.first + len(one.losses))
        return pd.DataFrame(
            {
                "run": [one.run.name] * len(one.losses),
                "step": range(span.start, span.stop),
                "lr": [one.run.lr * rate for rate in one.pace.rates[span]],
                "loss": one.losses,
                "batch": self._streams.digests[one.run.seed][span],
            }
        )


@contextmanager
def _noted(doing: str, step: int, steps: int) -> Iterator[None]:
    """Whatever goes wrong is told with its step."""
    try:
        yield
    except Exception as error:
        error.add_note(f"at step {step} of {steps}, {doing}")
        raise


def _told(runs: Sequence[Run]) -> str:
    """The first of some runs of one seed, and how many more there are."""
    first, more = runs[0], len(runs) - 1
    told = f"run {first.name!r} (peak rate {first.lr:g}, seed {first.seed})"
    return f"{told} and {more} more" if more else told


def train(
    task: Task,
    runs: Sequence[Run],
    steps: int,
    *,
    stage: str = "training",
    validate: bool = True,
    until: int | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Train every run on the same batches for `steps` updates: one row per run and step.

    Args:
        task: What is trained; it stays as it is.
        runs: Candidates, with names of their own.
        steps: Optimizer updates of each run; schedules are spread over them.
        stage: A word for `progress`.
        validate: Measure the runs that are left on the validation data at the end, if any.
        until: Stop at this step of the horizon; at its end when None.
        progress: Told the stage, the updates done and the total.

    Returns:
        The trace: `frame`, `runs`, `evaluated`.

    Raises:
        ArgumentError, ScheduleError: Before anything trains.

    >>> from lrtune.testing import bowl
    >>> trace = train(bowl(curvature=4.0), [Run("a", 0.25), Run("b", 0.6)], steps=100)
    >>> trace.runs[["run", "outcome"]].values.tolist()
    [['a', 'FINISHED'], ['b', 'DIVERGED']]
    """
    cohort = Cohort(task, runs, steps, stage=stage, progress=progress).advance(until)
    return (cohort.evaluate() if validate and task.has_validation else cohort).trace
