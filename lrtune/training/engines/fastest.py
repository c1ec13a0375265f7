"""The engine `auto`: times the loop and the vmapped engine, and goes on with the faster."""

import functools
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

import torch
from torch import Tensor

from lrtune.errors import EngineError, quantity
from lrtune.results.runs import Run
from lrtune.task.batches import Batch
from lrtune.task.task import Task
from lrtune.training.engines import StepSettings
from lrtune.training.engines.loop import Loop, LoopStates
from lrtune.training.engines.vmapped import Vmapped

ROUNDS = 3
"""Timed updates of each configuration, after a first one that warms caches up."""

GAIN = 1.05
"""A configuration must be this much faster than an earlier one: timings scatter by some 5 %."""

HOPELESS = 2
"""A configuration this many times as slow as the fastest is not timed again."""

MIN_RUNS = 3
"""Fewer runs share too little work; they go through the loop, as the user's own would."""


@dataclass(frozen=True)
class EngineConfig:
    """An engine, `loop` or `vmapped`, and the number of threads that share one operation.

    >>> print(EngineConfig("vmapped", 2))
    vmapped, 2 threads
    """

    engine: str
    threads: int

    def __str__(self) -> str:
        return f"{self.engine}, {quantity(self.threads, 'thread')}"

    def to_json(self) -> str:
        """Return the text that a study keeps."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "EngineConfig":
        """Read the text that a study keeps; no more threads than this computer has processors.

        Raises:
            EngineError: The text is no configuration.
        """
        try:
            match json.loads(text):
                case {
                    "engine": ("loop" | "vmapped") as engine,
                    "threads": int(threads),
                    **rest,
                } if type(threads) is int and threads > 0 and not rest:
                    return cls(engine, min(threads, os.cpu_count() or 1))
        except (ValueError, RecursionError):
            pass
        example = cls("loop", 1).to_json()
        raise EngineError(f"the choice {text[:40]!r} is no engine; expected such as {example!r}.")


def engine_configs(device: torch.device) -> list[EngineConfig]:
    """Return the configurations worth timing, the user's own (loop, all threads) first."""
    threads = torch.get_num_threads()
    # Models as small as those of a search often lose more to threads than they gain.
    counts = [threads, 1] if device.type == "cpu" and threads > 1 else [threads]
    return [EngineConfig(engine, count) for engine in ("loop", "vmapped") for count in counts]


@dataclass
class EngineBenchmark:
    """The seconds that updates took with each engine and number of threads, for `runs` runs.

    `refused` is the reason of the vmapped engine, where it cannot train these runs.

    >>> benchmark = EngineBenchmark(9, [EngineConfig("loop", 1), EngineConfig("vmapped", 1)])
    >>> seconds = {"loop": 0.9, "vmapped": 0.3}
    >>> while (config := benchmark.next_config()) is not None:
    ...     benchmark.add_time(config, seconds[config.engine])
    >>> print(benchmark)
    9 runs: vmapped, 1 thread; 3.0 times as fast as the loop
    """

    runs: int
    configs: Sequence[EngineConfig]
    times: dict[EngineConfig, list[float]] = field(default_factory=dict)
    refused: str = ""

    def next_config(self) -> EngineConfig | None:
        """Return the configuration to time now; None when the benchmark is complete."""
        return next((config for config in self.configs if self._is_open(config)), None)

    def add_time(self, config: EngineConfig, seconds: float) -> None:
        """Record the time of one update."""
        self.times.setdefault(config, []).append(seconds)

    def refuse_vmapped(self, reason: str) -> None:
        """Leave the vmapped engine out."""
        self.refused = reason
        self.configs = [config for config in self.configs if config.engine != "vmapped"]

    def covers(self, runs: int) -> bool:
        """Return whether the result may be used for this number of runs, too."""
        return self.runs / 1.5 <= runs <= self.runs * 1.5

    @property
    def best(self) -> EngineConfig:
        """The fastest configuration; an earlier one where the gain is small."""
        best = self.configs[0]
        for config in self.configs[1:]:
            if self._seconds(config) * GAIN < self._seconds(best):
                best = config
        return best

    def __str__(self) -> str:
        chosen = f"{quantity(self.runs, 'run')}: {self.best}"
        if self.refused:
            return f"{chosen}; the vmapped engine refuses these runs: {self.refused}"
        if not self.times:
            return f"{chosen}, as there are too few steps to time anything else"
        others = [self._seconds(one) for one in self.configs if one.engine != self.best.engine]
        gain = min(others) / self._seconds(self.best)
        other = "vmapped" if self.best.engine == "loop" else "the loop"
        return f"{chosen}; {gain:.1f} times as fast as {other}"

    def _is_open(self, config: EngineConfig) -> bool:
        known = self.times.get(config, [])
        if len(known) > ROUNDS:
            return False
        fastest = min((self._seconds(other) for other in self.times), default=math.inf)
        return len(known) < 2 or self._seconds(config) <= HOPELESS * fastest

    def _seconds(self, config: EngineConfig) -> float:
        """Return the median time of an update; infinite before it was timed."""
        timed = self.times.get(config, [])[1:]  # the first update also warms caches up
        return median(timed) if timed else math.inf


class EngineSwitch(LoopStates):
    """Base of engines that make each update with the loop or the vmapped engine."""

    def __init__(self, task: Task) -> None:
        super().__init__(Loop(task))
        self._task, self._vmapped = task, Vmapped(task, loop=self._loop)

    def update_by(
        self,
        config: EngineConfig,
        runs: Sequence[Run],
        batch: Batch,
        settings: Sequence[StepSettings],
        noise: int,
    ) -> Tensor:
        """Make one optimizer update of each run with this engine and number of threads.

        Raises:
            EngineError: The vmapped engine refuses the runs; the message is the bare reason.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(config.threads)  # for the whole process, hence set back below
        try:
            if config.engine == "vmapped":
                return self._vmapped.try_update(runs, batch, settings, noise)
            # In the loop a layer may replace a buffer, and the stack would hold the old one.
            self._vmapped.unstack(runs)
            return self._loop.update(runs, batch, settings, noise)
        finally:
            torch.set_num_threads(threads)


class ChosenEngine(EngineSwitch):
    """Updates runs with one chosen engine and thread count; by the loop where `vmap` fails."""

    def __init__(self, task: Task, config: EngineConfig) -> None:
        super().__init__(task)
        self._config = config

    def update(
        self, runs: Sequence[Run], batch: Batch, settings: Sequence[StepSettings], noise: int
    ) -> Tensor:
        """Make one optimizer update of each run; see `Engine`."""
        try:
            return self.update_by(self._config, runs, batch, settings, noise)
        except EngineError:  # a study may come from a torch whose vmap could do more
            if self._config.engine == "loop":
                raise
            self._config = EngineConfig("loop", self._config.threads)
            return self.update_by(self._config, runs, batch, settings, noise)


class Fastest(EngineSwitch):
    """Times the loop and the vmapped engine, with all threads and with one; takes the fastest.

    It works in two phases. While a benchmark is open, each update is made with the next
    configuration, and timed; then all are made with the fastest. The updates that are timed are
    the runs' own, so a benchmark costs only what the slower configurations take longer.

    Args:
        task: What is trained.
        benchmarks: Those of earlier cohorts of this task; new ones are appended.
    """

    def __init__(self, task: Task, benchmarks: list[EngineBenchmark] | None = None) -> None:
        super().__init__(task)
        self.benchmarks = [] if benchmarks is None else benchmarks
        self._running: tuple[int, EngineBenchmark] | None = None

    def update(
        self, runs: Sequence[Run], batch: Batch, settings: Sequence[StepSettings], noise: int
    ) -> Tensor:
        """Make one optimizer update of each run; see `Engine`."""
        if len(runs) < MIN_RUNS:
            return self._loop.update(runs, batch, settings, noise)
        by = functools.partial(
            self.update_by, runs=runs, batch=batch, settings=settings, noise=noise
        )
        done = next((one for one in self.benchmarks if one.covers(len(runs))), None)
        if done is not None:
            return by(done.best)
        seed, benchmark = self._benchmark_of(runs)
        config = benchmark.next_config()
        if config is None:
            self.benchmarks.append(benchmark)
            self._running = None
            return by(benchmark.best)
        if seed != runs[0].seed:  # one seed is timed; the others train as the user's loop would
            return by(benchmark.configs[0])
        begin = self._now()
        try:
            losses = by(config)
        except EngineError as error:  # raised before any run has changed
            benchmark.refuse_vmapped(str(error))
            return by(benchmark.configs[0])
        benchmark.add_time(config, self._now() - begin)
        return losses

    def _benchmark_of(self, runs: Sequence[Run]) -> tuple[int, EngineBenchmark]:
        """Return the benchmark that is under way, and the seed whose updates it times."""
        if self._running is None or not self._running[1].covers(len(runs)):
            configs = engine_configs(self._task.device)
            self._running = runs[0].seed, EngineBenchmark(len(runs), configs)
        return self._running

    def _now(self) -> float:
        if self._task.device.type == "cuda":  # its updates run on after the call returns
            torch.cuda.synchronize(self._task.device)
        return time.perf_counter()
