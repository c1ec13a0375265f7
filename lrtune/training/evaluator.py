"""Training for those who want traces: an Evaluator, which goes on with what it knows; train()."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import pandas as pd

from lrtune.errors import ArgumentError
from lrtune.results import Trace, concat_traces
from lrtune.results.runs import Run, checked_runs, whole
from lrtune.results.schema import COSTS
from lrtune.results.serialization import as_table
from lrtune.task.task import Task
from lrtune.training.batch_cache import Shelf
from lrtune.training.cohort import Cohort, Progress
from lrtune.training.engine_choice import Decide, Decided, decided, trial_updates
from lrtune.training.engines import Engine
from lrtune.training.engines.benchmark import Trial
from lrtune.training.engines.fastest import Auto
from lrtune.training.engines.loop import Loop
from lrtune.training.engines.vmapped import Stacked
from lrtune.training.memory import room

ENGINES = ("loop", "stacked", "auto")

COPIES = 5
"""A run holds its weights, their gradients, up to two moments, and for a moment a stack's copy."""


class Evaluate(Protocol):
    """Trains runs; a verb knows nothing else of how, so it is tested with a lambda."""

    def __call__(
        self,
        runs: Sequence[Run],
        steps: int,
        *,
        stage: str,
        validate: bool = True,
        until: int | None = None,
    ) -> Trace:
        """Train every run, over a horizon of `steps`, up to step `until` (to the end when None).

        `stage` is a word for people, such as `coarse`. Asked again for some of the runs and a
        later `until`, it goes on with them: the trace is that of one training without a stop.

        A method `price(runs, steps, until)` may give, for each run, the most updates that a call
        would make now; and the trace may carry its `costs`. A search within a budget uses both.
        """


class Evaluator:
    """Trains runs of one task, and goes on with those that it has trained before.

    Args:
        task: What is trained; it stays as it is.
        engine: `loop` trains one run after the other on each batch; `stacked` all runs of a seed
            at once; `auto` times both on the task's own updates, takes the faster, and says so in
            `told`. Loop and stack differ by rounding. With the loop a run's numbers do not depend
            on its neighbours, nor on what was faster that day, so the same seed gives the same
            answer again.
        progress: Told the stage, the updates done and the total.
        decide: Keeps the choices of `auto`, as `Study.decide` does: each is made before the runs
            begin, by a trial on updates that are thrown away. Then what a call gives depends on
            that call alone, bit for bit on a CPU: nothing is gone on with, but by the loop.

    Raises:
        ArgumentError: There is no such engine.

    >>> from lrtune.testing import bowl
    >>> evaluate, run = Evaluator(bowl(4.0), engine="loop"), Run("a", 0.1)
    >>> evaluate([run], 100, stage="short", until=10).runs["steps"].item()
    10
    >>> evaluate([run], 100, stage="long").runs["steps"].item()  # trains 90 more
    100
    """

    def __init__(
        self,
        task: Task,
        *,
        engine: str = "loop",
        progress: Progress | None = None,
        decide: Decide | None = None,
    ) -> None:
        """Nothing trained yet."""
        if engine not in ENGINES:
            raise ArgumentError(f"engine={engine!r}; there are {', '.join(ENGINES)}.")
        self._task, self._progress = task, progress
        self._trials: list[Trial] = []
        self._told: dict[int, str] = {}
        self._goes_on = decide is None or engine == "loop"  # a stack's rounding is of its runs
        self._cohorts: list[Cohort] = []
        self._shelf = Shelf(task)
        self._trial_updates = (
            None
            if decide is None or engine != "auto"
            else lambda runs, steps: trial_updates(task, runs, steps, decide)
        )
        self._make: Callable[[Sequence[Run], int], Engine] = {
            "auto": lambda runs, steps: (
                decided(task, runs, steps, decide, self._tell)
                if decide is not None
                else Auto(task, self._trials)
            ),
            "loop": lambda _runs, _steps: Loop(task),
            "stacked": lambda _runs, _steps: Stacked(task),
        }[engine]

    @property
    def told(self) -> list[str]:
        """Which engine was the faster, for how many runs, and by how much; for `auto`."""
        return [*(str(trial) for trial in self._trials), *self._told.values()]

    def __call__(
        self,
        runs: Sequence[Run],
        steps: int,
        *,
        stage: str,
        validate: bool = True,
        until: int | None = None,
    ) -> Trace:
        """Train the runs; see `Evaluate`."""
        end = whole("steps", steps, least=1) if until is None else whole("until", until, least=1)
        if end > steps:
            raise ArgumentError(f"until={end} lies beyond the horizon of {steps} steps.")
        held, new = self._split(checked_runs(runs), steps, end)
        idle, self._cohorts = self._cohorts, []  # one that is interrupted cannot go on
        traces = [
            self._advanced(cohort, known, end, stage, validate=validate) for cohort, known in held
        ]
        if len(new) + sum(len(cohort.live) for cohort in idle) > self._most:
            idle = []  # to be trained again from the start, should they be asked for
        for some in self._parts(new):
            engine = self._make(some, steps)
            cohort = Cohort(
                self._task, some, steps, engine=engine, shelf=self._shelf, progress=self._progress
            )
            discarded = engine.discarded if isinstance(engine, Decided) else {}
            traces.append(
                self._advanced(cohort, some, end, stage, validate=validate, discarded=discarded)
            )
            idle.append(cohort)
        going_on = [one for one in idle if one.live and one.step < one.steps]
        self._cohorts = going_on if self._goes_on else []
        return concat_traces(traces).select([run.name for run in runs])

    def price(self, runs: Sequence[Run], steps: int, until: int) -> list[int]:
        """The most updates that a call would make for each run now; see `Evaluate`.

        A run that is held goes on from where it is; any other begins anew, and may first be tried
        with each engine.
        """
        held, new = self._split(runs, steps, until)
        prices = {run.name: until - cohort.step for cohort, known in held for run in known}
        prices |= {run.name: until for run in new}
        if self._trial_updates is not None:
            for some in self._parts(new):
                for name, updates in self._trial_updates(some, steps).items():
                    prices[name] += updates
        return [prices[run.name] for run in runs]

    def _split(
        self, runs: Sequence[Run], steps: int, end: int
    ) -> tuple[list[tuple[Cohort, list[Run]]], list[Run]]:
        """The runs that cohorts hold and can go on with, and those that begin anew."""
        held, new = [], list(runs)
        for cohort in self._cohorts:
            known = [run for run in new if run in cohort.live]
            if known and cohort.steps == steps and cohort.step <= end:
                new = [run for run in new if run not in known]
                held.append((cohort, known))
        return held, new

    @property
    def _most(self) -> int:
        """How many runs fit into the memory at once."""
        return int(room(self._task.device) / (COPIES * self._task.nbytes)) or 1

    def _parts(self, runs: Sequence[Run]) -> list[Sequence[Run]]:
        most = self._most
        return [runs[first : first + most] for first in range(0, len(runs), most)]

    def _tell(self, about: int, told: str) -> None:
        self._told.setdefault(about, told)

    def _advanced(
        self,
        cohort: Cohort,
        runs: Sequence[Run],
        end: int,
        stage: str,
        *,
        validate: bool,
        discarded: Mapping[str, int] | None = None,
    ) -> Trace:
        """What the runs of this cohort have shown up to `end`; its others are retired."""
        names = [run.name for run in runs]
        updates, val_samples = dict(cohort.updates), dict(cohort.val_samples)
        begin = time.perf_counter()
        cohort.keep(names).advance(end, stage=stage)
        if validate and self._task.has_validation:
            cohort.evaluate()
        seconds = (time.perf_counter() - begin) / len(runs)
        trace = cohort.trace.select(names)
        costs = [
            (
                name,
                cohort.updates[name] - updates[name] + (discarded or {}).get(name, 0),
                cohort.val_samples[name] - val_samples[name],
                seconds,
            )
            for name in names
        ]
        return dataclasses.replace(
            trace,
            validations=trace.validations[trace.validations["step"] == end].reset_index(drop=True),
            costs=as_table(pd.DataFrame(costs, columns=list(COSTS)), COSTS),
        )


def train(
    task: Task,
    runs: Sequence[Run],
    steps: int,
    *,
    engine: str = "loop",
    stage: str = "training",
    validate: bool = True,
    progress: Progress | None = None,
) -> Trace:
    """Train every run on the same batches for `steps` updates: one row per run and step.

    Args:
        task: What is trained; it stays as it is.
        runs: Candidates, with names of their own.
        steps: Optimizer updates of each run; schedules are spread over them.
        engine: `loop`, `stacked` or `auto`, as of an `Evaluator`.
        stage: A word for `progress`.
        validate: Measure the runs that are left on the validation data at the end, if any.
        progress: Told the stage, the updates done and the total.

    Returns:
        The trace: `frame`, `runs`, `validations`.

    Raises:
        ArgumentError, ScheduleError: Before anything trains.
        EngineError: The runs cannot be stacked, and `engine` is `stacked`.

    >>> from lrtune.testing import bowl
    >>> trace = train(bowl(curvature=4.0), [Run("a", 0.25), Run("b", 0.6)], steps=100)
    >>> trace.runs[["run", "outcome"]].values.tolist()
    [['a', 'FINISHED'], ['b', 'DIVERGED']]
    """
    evaluator = Evaluator(task, engine=engine, progress=progress)
    return evaluator(runs, steps, stage=stage, validate=validate)
