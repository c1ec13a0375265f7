"""Training that the benchmark judges by: runs to their end, with what they showed on the way.

It uses lrtune's cohorts, but not lrtune's judgement of divergence: a run is out here only when its
loss is not finite, or lies far above that of guessing for several updates.
"""

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.quality.store import FOLDER, Store
from benchmarks.quality.tasks import Spec
from lrtune import Cohort, Run, Task
from lrtune.analysis.curves import Outcome
from lrtune.results.runs import validation_losses
from lrtune.schedules import Schedule, parse
from lrtune.training.engines.fastest import EngineBenchmark, Fastest

SHARES = (32, 16, 8, 4, 2, 1)
"""Losses are noted after T / 32, T / 16 ... updates."""

SEEDS = tuple(range(100, 106))
"""The seeds that rates are judged on; no finder uses them."""

FEWER = SEEDS[:3]
"""Those of short runs, and of optimizers that need no rate."""

HOPELESS, WINDOW = 10.0, 5
"""A run is out when so many losses in a row lie above so many times the start, or guessing."""

RUNS = Store(
    FOLDER / "runs.csv",
    (
        "task", "schedule", "lr", "seed", "steps", "outcome",
        *(f"val_{share}" for share in SHARES),
    ),
    ("task", "schedule", "lr", "seed", "steps"),
)  # fmt: skip
"""One row per run: losses on the validation data after a share of `steps`; empty where the run was
out."""


def shape(name: str) -> Schedule:
    """A schedule of the registry with its defaults, or the call of one."""
    return parse(name)


def lost(guessing: float) -> Callable[[np.ndarray], tuple[int, Outcome] | None]:
    """Tells when a run is out.

    >>> lost(2.0)(np.array([1.0, 3.0, np.nan]))[0]
    2
    >>> lost(2.0)(np.array([1.0, 21.0, 21.0, 21.0, 21.0, 21.0, 1.0]))[0]
    5
    """

    def judge(losses: np.ndarray) -> tuple[int, Outcome] | None:
        finite = np.isfinite(losses)
        end = len(losses) if finite.all() else int(np.argmin(finite))
        high = losses[:end] > HOPELESS * max(losses[0], guessing)
        row = np.convolve(high, np.ones(WINDOW))[:end] >= WINDOW
        if row.any():
            return int(row.argmax()), Outcome.DIVERGED
        return None if end == len(losses) else (end, Outcome.NONFINITE)

    return judge


class Judge:
    """Trains a task's runs on the judging seeds; what is in the table is taken from there."""

    def __init__(self, spec: Spec, store: Store = RUNS) -> None:
        self.spec, self._store = spec, store
        self._benchmarks: list[EngineBenchmark] = []
        self._task: Task | None = None

    def __call__(
        self,
        pairs: Sequence[tuple[str, float]],
        steps: int | None = None,
        *,
        halfway: bool = True,
        seeds: Sequence[int] = SEEDS,
    ) -> None:
        """Train every (schedule, rate) for `steps`, T when None, and note it.

        With `halfway`, the losses at the shares of `steps` are noted, too.
        """
        length = steps or self.spec.steps
        known, name = self._store.known(), self.spec.name
        runs, keys = [], {}
        for schedule, lr in dict.fromkeys((one, float(f"{lr:.6g}")) for one, lr in pairs):
            for seed in seeds:
                if (name, schedule, lr, seed, length) not in known:
                    run = Run(f"{schedule}/{lr:.6g}/{seed}", lr, shape(schedule), seed)
                    runs.append(run)
                    keys[run.name] = {"task": name, "schedule": schedule, "lr": lr, "seed": seed}
        if runs:
            trace = self._trained(runs, length, SHARES if halfway else (1,))
            self._store.add({**keys[key], "steps": length, **row} for key, row in trace.items())

    def _trained(
        self, runs: Sequence[Run], steps: int, shares: Sequence[int]
    ) -> dict[str, dict[str, object]]:
        self._task = self._task or self.spec.task()
        engine = Fastest(self._task, self._benchmarks)
        cohort = Cohort(self._task, runs, steps, engine=engine, retire=lost(self.spec.guessing()))
        stops = {share: max(1, round(steps / share)) for share in shares}
        for stop in sorted(set(stops.values())):
            cohort.advance(stop).validate()
        trace = cohort.trace
        outcome = trace.runs.set_index("run")["outcome"]
        val = validation_losses(trace.validations, by=("run", "step"))
        rows: dict[str, dict[str, object]] = {}
        for name, frame in trace.frame.groupby("run", sort=False):
            losses, row = frame["loss"].to_numpy(), {"outcome": outcome[name]}
            for share, stop in stops.items():
                if len(losses) >= stop and (name, stop) in val.index:
                    row[f"val_{share}"] = float(val[name, stop])
            rows[str(name)] = row
        return rows
