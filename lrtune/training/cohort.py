"""Cohort: runs trained in lockstep. This is where everything that lrtune learns comes from."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lrtune.analysis.curves import Outcome
from lrtune.errors import ArgumentError
from lrtune.results import Trace
from lrtune.results.runs import Run, checked_runs, whole
from lrtune.results.schema import VALIDATIONS
from lrtune.results.serialization import as_table
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state
from lrtune.task.task import Task
from lrtune.training.batch_cache import Shelf, Streams
from lrtune.training.engines import Engine
from lrtune.training.engines.loop import Loop, named
from lrtune.training.run_state import (
    BLOCK,
    Record,
    Retire,
    failed,
    run_rows,
    step_settings,
    trace_rows,
)

Progress = Callable[[str, int, int], None]
"""Told the stage, how many updates (of one run each) are done, and how many there are in all."""

TELL_EVERY = 0.1
"""Seconds between two words to `progress`."""


@dataclass
class _Lane:
    """The living runs of one seed, which see the same batches; their losses not yet read."""

    seed: int
    noise: Sequence[int]
    records: list[Record]
    unread: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runs = [one.run for one in self.records]


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
        shelf: Keeps batches for other cohorts of this task; they are not kept when None.
        stage: A word for `progress`.
        progress: Told the stage, the updates done and the total, some ten times a second.

    Attributes:
        updates: Each run to the updates made for it, those after a divergence included.
        val_samples: Each run to the samples it was validated on.

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
        shelf: Shelf | None = None,
        stage: str = "training",
        progress: Progress | None = None,
    ) -> None:
        """Check everything, and start every run."""
        self.task, self.steps = task, whole("steps", steps, least=1)
        self._engine: Engine = Loop(task) if engine is None else engine
        self._retire, self._stage, self._progress = retire, stage, progress
        runs = checked_runs(runs)
        self._all = {run.name: Record(run, step_settings(run, steps), 0) for run in runs}
        self._step, self._goal, self._broken, self._told = 0, steps, False, 0.0
        self._evaluated: list[tuple[str, int, float]] = []
        self.updates = {run.name: 0 for run in runs}
        self.val_samples = dict(self.updates)
        seeds = list(dict.fromkeys(run.seed for run in runs))
        self._streams = Streams(shelf or Shelf(task, most=0), seeds)
        # Counted out here, where the processor has nothing else in mind, they cost next to nothing.
        self._noise = {
            seed: [derive_seed(seed, NOISE, step) for step in range(steps)] for seed in seeds
        }
        with self._training():
            for run in runs:
                self._engine.begin(run)
        self._line_up()

    @property
    def step(self) -> int:
        """How many updates the living runs have made."""
        return self._step

    @property
    def live(self) -> list[Run]:
        """The runs that are neither out nor retired."""
        return [one.run for one in self._living()]

    def advance(self, to: int | None = None, *, stage: str = "") -> "Cohort":
        """Train every living run up to step `to`, the horizon when None; returns itself.

        `stage` is a new word for `progress`.
        """
        end = self.steps if to is None else whole("to", to, least=self._step)
        if end > self.steps:
            raise ArgumentError(f"to={end} lies beyond the horizon of {self.steps} steps.")
        self._goal, self._stage = end, stage or self._stage
        with self._training():
            while self._step < end and self._lanes:
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
        self._read()
        for one in self._living():
            if one.run.name not in kept:
                self._out(one, Outcome.RETIRED)
        self._line_up()
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
        step = self._step
        begun = {run.name: Record(run, step_settings(run, self.steps, step), step) for run in runs}
        with self._training():
            for run in runs:
                self._engine.begin(run, like=name)
        self._read()
        self._all |= begun
        self.updates |= {run.name: 0 for run in runs}
        self.val_samples |= {run.name: 0 for run in runs}
        self._line_up()
        return self

    def evaluate(self) -> "Cohort":
        """Measure every living run on the validation data, once a step; returns itself."""
        done = {name for name, step, _ in self._evaluated if step == self._step}
        runs = [run for run in self.live if run.name not in done]
        with self._training():
            for run, loss in zip(runs, self._engine.validate(runs), strict=True):
                self._evaluated.append((run.name, self._step, loss))
                self.val_samples[run.name] += self.task.val_samples
        return self

    @property
    def trace(self) -> Trace:
        """Everything recorded so far."""
        self._read()  # after an interruption, losses are still on the device
        records = list(self._all.values())
        otherwise = Outcome.FINISHED if self._step == self.steps else Outcome.RUNNING
        return Trace(
            frame=trace_rows(records, self._streams.digests),
            runs=run_rows(records, otherwise),
            validations=as_table(
                pd.DataFrame(self._evaluated, columns=list(VALIDATIONS)), VALIDATIONS
            ),
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
        with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
            try:
                yield
            except BaseException as error:
                self._broken = True
                told = any(note.startswith("at step") for note in getattr(error, "__notes__", []))
                if isinstance(error, Exception) and not told and self._living():
                    # A worker that dies is told by a signal, wherever we are just then.
                    error.add_note(f"at step {self._step} of {self.steps}, {_told(self.live)}")
                raise

    def _living(self) -> list[Record]:
        return [one for one in self._all.values() if one.outcome is None]

    def _line_up(self) -> None:
        """Sort the living runs by their seeds; every loss has been read."""
        by_seed: dict[int, list[Record]] = {}
        for one in self._living():
            by_seed.setdefault(one.run.seed, []).append(one)
        self._lanes = [_Lane(seed, self._noise[seed], some) for seed, some in by_seed.items()]

    def _update(self) -> None:
        """One step of every living run."""
        step = self._step
        for lane in self._lanes:
            try:
                batch = self._streams.draw(lane.seed)
                paces = [one.pace.at(step) for one in lane.records]
                lane.unread.append(self._engine.update(lane.runs, batch, paces, lane.noise[step]))
                for run in lane.runs:
                    self.updates[run.name] += 1
            except Exception as error:
                error.add_note(
                    f"at step {step} of {self.steps}, in the stage {self._stage!r}, with "
                    f"{_told(lane.runs)}"
                )
                raise
        self._step += 1

    def _read(self, *, look: bool = False) -> None:
        """Fetch the losses from the device, and retire the runs that are out."""
        for lane in self._lanes:
            if lane.unread:
                rows = torch.stack(lane.unread).tolist()
                lane.unread.clear()
                for one, losses in zip(lane.records, zip(*rows, strict=True), strict=True):
                    one.losses.extend(losses)
        living = self._living()
        for one in living:
            if one.due or look:
                self._judge(one)
        if any(one.outcome is not None for one in living):
            self._line_up()

    def _judge(self, one: Record) -> None:
        verdict = self._retire(np.array(one.losses))
        if verdict is not None:
            step, outcome = verdict
            del one.losses[step + 1 :]
            self._out(one, outcome)

    def _tell(self, *, now: bool = False) -> None:
        if self._progress is None or not (now or time.monotonic() - self._told > TELL_EVERY):
            return
        self._told = time.monotonic()
        out = [one for one in self._all.values() if one.outcome is not None]
        living = self._living()
        spent = sum(len(one.losses) for one in out)
        done = spent + sum(self._step - one.first for one in living)
        self._progress(self._stage, done, spent + sum(self._goal - one.first for one in living))

    def _out(self, one: Record, outcome: Outcome) -> None:
        one.outcome = outcome
        self._engine.drop(one.run)


def _told(runs: Sequence[Run]) -> str:
    """The first of some runs of one seed, and how many more there are."""
    first, more = runs[0], len(runs) - 1
    return f"{named(first)} and {more} more" if more else named(first)
