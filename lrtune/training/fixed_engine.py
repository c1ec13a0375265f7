"""The engine that a study keeps: chosen by a benchmark before a cohort begins, then fixed."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from lrtune.errors import EngineError
from lrtune.results.runs import Run
from lrtune.task.batch import Batch
from lrtune.task.task import Task
from lrtune.training.cohort import Cohort
from lrtune.training.engines import StepSettings
from lrtune.training.engines.fastest import (
    MIN_RUNS,
    ROUNDS,
    EngineBenchmark,
    EngineConfig,
    EngineSwitch,
    Fastest,
    engine_configs,
)
from lrtune.training.engines.loop import LoopStates

Decide = Callable[[str, Callable[[], str]], str]
"""Takes the name of a choice and a function that makes it; returns the one made first."""


class FixedEngine(LoopStates):
    """Makes every update with one configuration, or by the loop where `vmap` refuses the runs.

    Args:
        task: What is trained.
        config: Engine and threads.
        discarded: Updates that the benchmark made for each run and threw away.
    """

    def __init__(
        self, task: Task, config: EngineConfig, discarded: Mapping[str, int] | None = None
    ) -> None:
        """Start without runs."""
        self._switch, self._config = EngineSwitch(task), config
        super().__init__(self._switch.loop)
        self.discarded = dict(discarded or {})

    def update(
        self, runs: Sequence[Run], batch: Batch, settings: Sequence[StepSettings], noise: int
    ) -> Tensor:
        """Make one optimizer update of each run; see `Engine`."""
        try:
            return self._switch.update_by(self._config, runs, batch, settings, noise)
        except EngineError:  # a study may come from a torch whose vmap could do more
            if self._config.engine == "loop":
                raise
            self._config = EngineConfig("loop", self._config.threads)
            return self._switch.update_by(self._config, runs, batch, settings, noise)


def choose_engine(
    task: Task, runs: Sequence[Run], steps: int, decide: Decide
) -> tuple[FixedEngine, dict[int, str]]:
    """Return the engine decided on for about this number of runs, benchmarked if none is yet.

    Args:
        task: What is trained.
        runs: The cohort; those of its largest seed are benchmarked.
        steps: The horizon.
        decide: Keeps the choice.

    Returns:
        The engine, and what to tell about it: rounded number of runs to sentence.
    """
    seed, count = _largest_seed(runs)
    if count < MIN_RUNS:
        return FixedEngine(task, engine_configs(task.device)[0]), {}
    benchmarks: list[EngineBenchmark] = []
    discarded: dict[str, int] = {}

    def choose() -> str:
        benchmark, updates = _benchmark(task, [run for run in runs if run.seed == seed], steps)
        benchmarks.append(benchmark)
        discarded.update(updates)
        return benchmark.best.to_json()

    config = EngineConfig.from_json(decide(_choice(count), choose))
    size = _rounded(count)
    # Another session may have decided while this one was timing.
    ours = bool(benchmarks) and config == benchmarks[0].best
    note = str(benchmarks[0]) if ours else f"about {size} runs: {config}, as was decided before"
    return FixedEngine(task, config, discarded), {size: note}


def benchmark_updates(
    task: Task, runs: Sequence[Run], steps: int, decide: Decide
) -> dict[str, int]:
    """Return the updates per run that `choose_engine` would discard; none if it has decided."""
    seed, count = _largest_seed(runs)
    if count < MIN_RUNS or _is_decided(decide, _choice(count)):
        return {}
    length = _benchmark_length(task, steps)
    return {run.name: length for run in runs if run.seed == seed}


class _UndecidedError(Exception):
    """No choice was made yet."""


def _is_decided(decide: Decide, name: str) -> bool:
    def refuse() -> str:
        raise _UndecidedError

    try:
        decide(name, refuse)
    except _UndecidedError:
        return False
    return True


def _largest_seed(runs: Sequence[Run]) -> tuple[int, int]:
    """Return the seed with most runs, and their number."""
    return Counter(run.seed for run in runs).most_common(1)[0]


def _choice(runs: int) -> str:
    """Return the name under which the choice for this number of runs is kept."""
    return f"engine for about {_rounded(runs)} runs"


def _rounded(runs: int) -> int:
    """Round to a power of 1.5, so that cohorts of similar size share one benchmark.

    >>> [_rounded(runs) for runs in (3, 4, 5, 6, 9, 13)]
    [3, 3, 5, 5, 8, 11]
    """
    return round(1.5 ** round(math.log(runs, 1.5)))


def _benchmark(
    task: Task, runs: Sequence[Run], steps: int
) -> tuple[EngineBenchmark, dict[str, int]]:
    """Time the configurations on updates that are discarded; a short horizon allows none."""
    benchmarks: list[EngineBenchmark] = []
    cohort = Cohort(task, runs, steps, engine=Fastest(task, benchmarks), stage="benchmark")
    cohort.advance(_benchmark_length(task, steps))
    untimed = EngineBenchmark(len(runs), engine_configs(task.device)[:1])
    return benchmarks[0] if benchmarks else untimed, cohort.updates


def _benchmark_length(task: Task, steps: int) -> int:
    """Return the updates of each run in a benchmark."""
    return min(steps, len(engine_configs(task.device)) * (ROUNDS + 1) + 1)
