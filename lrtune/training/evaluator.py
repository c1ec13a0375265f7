"""`Evaluator` trains runs and continues those it has trained before; `train` does it once."""

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import pandas as pd

from lrtune.errors import ArgumentError, whole_number
from lrtune.results import Trace, concat_traces
from lrtune.results.runs import Run, checked_runs
from lrtune.results.schema import COSTS, as_table
from lrtune.task.memory import max_runs
from lrtune.task.task import Task, checked_task
from lrtune.training.batch_cache import BatchCache
from lrtune.training.cohort import Cohort, Progress
from lrtune.training.engines import Engine
from lrtune.training.engines.fastest import (
    MIN_RUNS,
    ROUNDS,
    ChosenEngine,
    EngineBenchmark,
    EngineConfig,
    Fastest,
    engine_configs,
)
from lrtune.training.engines.loop import Loop
from lrtune.training.engines.vmapped import Vmapped

ENGINES = ("loop", "vmapped", "auto")

Decide = Callable[[str, Callable[[], str]], str]
"""Takes the name of a choice and a function that makes it; returns the one made first."""


class Evaluate(Protocol):
    """Trains runs. Searches and comparisons know no more, so a lambda can test them."""

    def __call__(
        self,
        runs: Sequence[Run],
        steps: int,
        *,
        stage: str,
        validate: int | None = None,
        until: int | None = None,
    ) -> Trace:
        """Train every run, over a horizon of `steps`, up to step `until` (to the end when None).

        `validate` is how many samples of the selection part of the validation data each run is
        measured on at `until`: 0 for none; None for the whole selection part and the test part.

        `stage` names the part of a search for people, such as `coarse`. A second call with some
        of the runs and a later `until` continues them, as if they had trained without a stop.

        An evaluator may have a method `price(runs, steps, until)`, which returns the most updates
        that a call would make for each run, and may fill `Trace.costs`. Budgets use both.
        """


class Evaluator:
    """Trains runs of one task, and continues those that it has trained before.

    Args:
        task: What is trained; it stays as it is.
        engine: `loop` trains one run after the other on each batch; `vmapped` all runs of a seed
            in one pass; `auto` times both on the task's own updates, takes the faster, and says
            so in `engine_notes`. They differ by rounding. With the loop a run's numbers depend
            neither on its neighbours nor on timings, so the same seed repeats the answer.
        progress: Called with the stage, the updates done and their total.
        decide: Keeps the choices of `auto`, as `Study.decide` does. Each is made before the runs
            begin, by a benchmark whose updates are discarded. Then a trace depends on its call
            alone, bit for bit on a CPU: only the loop continues runs of earlier calls.

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
        if engine not in ENGINES:
            raise ArgumentError(f"engine={engine!r}; there are {', '.join(ENGINES)}.")
        self._task, self._progress = checked_task(task), progress
        self._engine, self._decide = engine, decide
        self._benchmarks: list[EngineBenchmark] = []
        self._choices: dict[str, str] = {}
        # Vmapped losses round differently when neighbours leave, so a run that is continued
        # would differ in its last bits from one that a resumed study trains from the start.
        self._continues = decide is None or engine == "loop"
        self._cohorts: list[Cohort] = []
        self._cache = BatchCache(task)

    @property
    def engine_notes(self) -> list[str]:
        """Which engine `auto` chose, for how many runs, and by how much it is faster."""
        return [*map(str, self._benchmarks), *self._choices.values()]

    def __call__(
        self,
        runs: Sequence[Run],
        steps: int,
        *,
        stage: str,
        validate: int | None = None,
        until: int | None = None,
    ) -> Trace:
        """Train the runs; see `Evaluate`."""
        end = whole_number("steps", steps, least=1)
        whole_number("validate", validate or 0, least=0)
        if until is not None:
            end = whole_number("until", until, least=1)
        if end > steps:
            raise ArgumentError(f"until={end} lies beyond the horizon of {steps} steps.")
        held, new = self._split(checked_runs(runs), steps, end)
        idle, self._cohorts = self._cohorts, []  # an interrupted cohort cannot be continued
        traces = [self._advance(cohort, known, end, stage, validate) for cohort, known in held]
        if len(new) + sum(len(cohort.live) for cohort in idle) > self._max_runs:
            idle = []  # frees their memory; asked for again, they train from the start
        for some in self._parts(new):
            engine, discarded = self._make_engine(some, steps)
            cohort = Cohort(
                self._task, some, steps, engine=engine, cache=self._cache, progress=self._progress
            )
            trace = self._advance(cohort, some, end, stage, validate)
            trace.costs["updates"] += [discarded.get(run.name, 0) for run in some]
            traces.append(trace)
            idle.append(cohort)
        unfinished = [one for one in idle if one.live and one.step < one.steps]
        self._cohorts = unfinished if self._continues else []
        return concat_traces(traces).select([run.name for run in runs])

    def price(self, runs: Sequence[Run], steps: int, until: int) -> list[int]:
        """Return the most updates that a call would make for each run; see `Evaluate`.

        A held run continues from its step. Any other starts at 0, and an engine benchmark may come
        first.
        """
        held, new = self._split(runs, steps, until)
        prices = {run.name: until - cohort.step for cohort, known in held for run in known}
        prices |= {run.name: until for run in new}
        if self._engine == "auto" and self._decide is not None:
            for some in self._parts(new):
                group, choice = _benchmark_group(some)
                if len(group) >= MIN_RUNS and not _is_decided(self._decide, choice):
                    for run in group:
                        prices[run.name] += self._benchmark_length(steps)
        return [prices[run.name] for run in runs]

    def _split(
        self, runs: Sequence[Run], steps: int, end: int
    ) -> tuple[list[tuple[Cohort, list[Run]]], list[Run]]:
        """Split runs into those that held cohorts can continue, and those that start at 0."""
        held, new = [], list(runs)
        for cohort in self._cohorts:
            known = [run for run in new if run in cohort.live]
            if known and cohort.steps == steps and cohort.step <= end:
                new = [run for run in new if run not in known]
                held.append((cohort, known))
        return held, new

    @property
    def _max_runs(self) -> int:
        return max_runs(self._task.nbytes, self._task.device)

    def _parts(self, runs: Sequence[Run]) -> list[Sequence[Run]]:
        """Cut runs into cohorts that fit into memory."""
        size = self._max_runs
        return [runs[first : first + size] for first in range(0, len(runs), size)]

    def _advance(
        self, cohort: Cohort, runs: Sequence[Run], end: int, stage: str, validate: int | None
    ) -> Trace:
        """Train these runs of the cohort up to `end` and retire its others; return their trace."""
        names = [run.name for run in runs]
        updates, val_samples = dict(cohort.updates), dict(cohort.val_samples)
        begin = time.perf_counter()
        cohort.retain(names).advance(end, stage=stage)
        if validate != 0 and self._task.has_validation:
            cohort.validate(validate)
        costs = pd.DataFrame({"run": names})
        costs["updates"] = [cohort.updates[name] - updates[name] for name in names]
        costs["val_samples"] = [cohort.val_samples[name] - val_samples[name] for name in names]
        costs["seconds"] = (time.perf_counter() - begin) / len(runs)
        trace = cohort.trace.select(names)
        asked = (trace.validations["step"] == end) & (validate != 0)
        validations = trace.validations[asked].reset_index(drop=True)
        return dataclasses.replace(trace, validations=validations, costs=as_table(costs, COSTS))

    # --- which engine: without a study, `Fastest` decides while it trains -------------------------

    def _make_engine(self, runs: Sequence[Run], steps: int) -> tuple[Engine, Mapping[str, int]]:
        """Return an engine for these runs, and the updates that choosing it discarded."""
        if self._engine == "loop":
            return Loop(self._task), {}
        if self._engine == "vmapped":
            return Vmapped(self._task), {}
        if self._decide is None:
            return Fastest(self._task, self._benchmarks), {}
        group, choice = _benchmark_group(runs)
        if len(group) < MIN_RUNS:
            return ChosenEngine(self._task, engine_configs(self._task.device)[0]), {}
        made: list[EngineBenchmark] = []
        discarded: dict[str, int] = {}

        def choose() -> str:
            # A study keeps the choice. Timed on updates of the runs themselves, their first losses
            # would be those of several engines, and a resumed study could not repeat them.
            fastest = Fastest(self._task)
            cohort = Cohort(self._task, group, steps, engine=fastest, stage="benchmark")
            discarded.update(cohort.advance(self._benchmark_length(steps)).updates)
            untimed = EngineBenchmark(len(group), engine_configs(self._task.device)[:1])
            made.extend([*fastest.benchmarks, untimed][:1])
            return made[0].best.to_json()

        config = EngineConfig.from_json(self._decide(choice, choose))
        # Another session may have decided while this one was timing.
        ours = bool(made) and config == made[0].best
        about = choice.removeprefix("engine for ")
        note = str(made[0]) if ours else f"{about}: {config}, as was decided before"
        # The first note tells how the choice was made, so it stays.
        self._choices = {choice: note} | self._choices
        return ChosenEngine(self._task, config), discarded

    def _benchmark_length(self, steps: int) -> int:
        """Return the updates of each run in a benchmark."""
        return min(steps, len(engine_configs(self._task.device)) * (ROUNDS + 1) + 1)


def _benchmark_group(runs: Sequence[Run]) -> tuple[list[Run], str]:
    """Return the runs of the seed with most runs, and the name of their choice in a study."""
    ((seed, count),) = Counter(run.seed for run in runs).most_common(1)
    # Rounded to a power of 1.5, so that cohorts of similar size share one benchmark.
    size = round(1.5 ** round(math.log(count, 1.5)))
    return [run for run in runs if run.seed == seed], f"engine for about {size} runs"


class _UndecidedError(Exception):
    """Ends a call of `decide` before anything is decided."""


def _is_decided(decide: Decide, choice: str) -> bool:
    def refuse() -> str:
        raise _UndecidedError

    try:
        decide(choice, refuse)
    except _UndecidedError:
        return False
    return True


def train(
    task: Task,
    runs: Sequence[Run],
    steps: int,
    *,
    engine: str = "loop",
    validate: bool = True,
    progress: Progress | None = None,
) -> Trace:
    """Train every run on the same batches for `steps` updates: one row per run and step.

    Args:
        task: What is trained; it stays as it is.
        runs: Their names must differ.
        steps: Optimizer updates of each run; schedules are spread over them.
        engine: `loop`, `vmapped` or `auto`; see `Evaluator`.
        validate: Measure the validation losses of the runs that reached the end, if there is data.
        progress: Called with the stage, the updates done and their total.

    Returns:
        The trace: `frame`, `runs`, `validations`, `costs`.

    Raises:
        ArgumentError, ScheduleError: Before anything trains.
        EngineError: `engine` is `vmapped`, and `vmap` cannot train the runs.

    >>> from lrtune.testing import bowl
    >>> trace = train(bowl(curvature=4.0), [Run("a", 0.25), Run("b", 0.6)], steps=100)
    >>> trace.runs[["run", "outcome"]].values.tolist()
    [['a', 'FINISHED'], ['b', 'DIVERGED']]
    """
    evaluator = Evaluator(task, engine=engine, progress=progress)
    return evaluator(runs, steps, stage="training", validate=None if validate else 0)
