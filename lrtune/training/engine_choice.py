"""Which engine trains the runs of a cohort; the choice of `auto` may outlive the session."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from lrtune.errors import ArgumentError, shown
from lrtune.results.runs import Run
from lrtune.task.task import Task
from lrtune.training.cohort import Cohort
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
from lrtune.training.engines.varied import Variations, VariedLoop
from lrtune.training.engines.vmapped import Vmapped

ENGINES = ("loop", "vmapped", "auto")

Wish = TypeVar("Wish")

Decide = Callable[[str, Callable[[], str]], str]
"""Takes the name of a choice and a function that makes it; returns the one made first."""


class EngineChoice:
    """Makes the engine of each cohort; see `Evaluator` for what it is made from."""

    def __init__(
        self,
        task: Task,
        engine: str,
        decide: Decide | None,
        variations: Variations | None = None,
    ) -> None:
        if engine not in ENGINES:
            raise ArgumentError(
                f"engine={shown(engine)}; there are {', '.join(ENGINES)}. Take loop, which trains "
                "every task."
            )
        if variations is not None and engine != "loop":
            raise ArgumentError(
                f"engine={engine!r} with variations; expected 'loop', which alone trains runs that "
                "vary. Leave engine out."
            )
        self._task, self.name, self._decide = task, engine, decide
        self.variations = variations
        self._benchmarks: list[EngineBenchmark] = []
        self._choices: dict[str, str] = {}

    @property
    def notes(self) -> list[str]:
        """Which engine `auto` chose, for how many runs, and by how much it is faster."""
        return [*map(str, self._benchmarks), *self._choices.values()]

    def make(self, runs: Sequence[Run], steps: int, charge: Callable[[str, int], None]) -> Engine:
        """Return an engine for these runs; charge each run for the updates of a benchmark."""
        if self.name == "loop":
            if self.variations is None:
                return Loop(self._task)
            return VariedLoop(self._task, self.variations)
        if self.name == "vmapped":
            return Vmapped(self._task)
        if self._decide is None:
            return Fastest(self._task, self._benchmarks)
        group, choice = _benchmark_group(runs)
        if len(group) < MIN_RUNS:
            return ChosenEngine(self._task, engine_configs(self._task.device)[0])
        made: list[EngineBenchmark] = []

        def choose() -> str:
            # A study keeps the choice. Timed on updates of the runs themselves, their first losses
            # would be those of several engines, and a resumed study could not repeat them.
            fastest = Fastest(self._task)
            cohort = Cohort(self._task, group, steps, engine=fastest, stage="benchmark")
            try:
                cohort.advance(self._benchmark_length(steps))
            finally:
                for name, updates in cohort.updates.items():
                    charge(name, updates)
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
        return ChosenEngine(self._task, config)

    def _benchmark_length(self, steps: int) -> int:
        """Return the updates of each run in a benchmark."""
        return min(steps, len(engine_configs(self._task.device)) * (ROUNDS + 1) + 1)


def separable_units(runs: Mapping[Wish, Run], engine: str) -> list[list[Wish]]:
    """Return the least groups whose numbers stay the same if each is trained apart, seed by seed.

    With the loop each run is one. A vmapped run is rounded by its neighbours of the same seed, and
    `auto` chooses the engine of a call by how many these are.

    Args:
        runs: Anything that stands for a run, such as its name, to the run.
        engine: The class of the engine.
    """
    by_seed: dict[int, list[Wish]] = {}
    for wish, run in runs.items():
        by_seed.setdefault(run.seed, []).append(wish)
    seeds = list(by_seed.values())
    if engine == "loop" or (engine == "auto" and max(map(len, seeds)) < MIN_RUNS):
        return [[wish] for some in seeds for wish in some]
    return seeds if engine == "vmapped" else [list(runs)]


def _benchmark_group(runs: Sequence[Run]) -> tuple[list[Run], str]:
    """Return the runs of the seed with most runs, and the name of their choice in a study."""
    ((seed, count),) = Counter(run.seed for run in runs).most_common(1)
    # Rounded to a power of 1.5, so that cohorts of similar size share one benchmark.
    size = round(1.5 ** round(math.log(count, 1.5)))
    return [run for run in runs if run.seed == seed], f"engine for about {size} runs"
