"""Trainings whose validation data are judged in two halves, A and B, at any step of the way.

A choice made by one half is judged by the other. The oracle (`oracle.py`) knows the whole only.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from benchmarks.quality import data
from benchmarks.quality.oracle import place, rate
from benchmarks.quality.store import FOLDER, Store
from benchmarks.quality.tasks import Spec
from benchmarks.quality.training import lost, shape
from lrtune import Cohort, Run, Task
from lrtune.analysis.curves import end_level
from lrtune.task.task import TrainState
from lrtune.training.engines.loop import Loop

HALVES = Store(
    FOLDER / "halves.csv",
    ("task", "schedule", "lr", "seed", "steps", "at", "train", "val_a", "val_b"),
    ("task", "schedule", "lr", "seed", "steps", "at"),
)
"""One row per run of `steps` updates and step `at` on its way: the mean training loss of the last
fifth so far, and the validation losses; infinite where the run was out."""


def halves(spec: Spec) -> tuple[data.Pair, data.Pair]:
    """The validation data in two halves, with as many of each class in both.

    >>> from benchmarks.quality.tasks import TASKS
    >>> [len(targets) for _, targets in halves(TASKS["digits CNN"])]
    [180, 179]
    """
    _, (inputs, targets) = spec.data
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    if not targets.is_floating_point():
        order = order[targets[order].argsort(stable=True)]
    first, second = order[::2], order[1::2]
    return (inputs[first], targets[first]), (inputs[second], targets[second])


class Halves:
    """Trains runs of a task in parts, and notes what both halves say; known ones are skipped."""

    def __init__(self, spec: Spec, store: Store = HALVES, *, most: int = 16) -> None:
        self.spec, self._store, self._most = spec, store, most
        train, _ = spec.data
        self._tasks = [
            Task(spec.model, train, val=half, loss=spec.loss, optimizer=spec.optimizer,
                 batch_size=spec.batch, device="cpu")
            for half in halves(spec)
        ]  # fmt: skip

    def __call__(
        self,
        pairs: Iterable[tuple[str, float]],
        steps: int,
        seeds: Sequence[int],
        at: Sequence[int] = (),
    ) -> None:
        """Train every (schedule, rate) with every seed; note it at these steps and at the end."""
        known, stops = self._store.known(), sorted({*(k for k in at if k < steps), steps})
        runs, keys = [], {}
        for schedule, lr in dict.fromkeys((one, float(f"{lr:.6g}")) for one, lr in pairs):
            for seed in seeds:
                key = (self.spec.name, schedule, lr, seed, steps)
                if any((*key, stop) not in known for stop in stops):
                    runs.append(Run(f"{schedule}/{lr:.6g}/{seed}", lr, shape(schedule), seed))
                    keys[runs[-1].name] = key
        for first in range(0, len(runs), self._most):
            some = runs[first : first + self._most]
            rows = self._trained(some, steps, stops)
            self._store.add(
                dict(zip(HALVES.columns, (*keys[name], *row), strict=True)) for name, *row in rows
            )

    def _trained(
        self, runs: Sequence[Run], steps: int, stops: Sequence[int]
    ) -> list[tuple[str, int, float, float, float]]:
        engine, rows = Loop(self._tasks[0]), []
        retire = lost(self.spec.guessing())
        cohort = Cohort(self._tasks[0], runs, steps, engine=engine, retire=retire)
        for stop in stops:
            cohort.advance(stop)
            states = {run.name: engine.states[run.name].state for run in cohort.live}
            said = [_losses(task, states) if states else {} for task in self._tasks]
            losses = cohort.trace.frame.groupby("run")["loss"].apply(lambda one: one.to_numpy())
            for run in runs:
                lives = run.name in states
                train = float(end_level(losses[run.name])) if lives else math.inf
                vals = [half.get(run.name, math.inf) if lives else math.inf for half in said]
                rows.append((run.name, stop, train, *vals))
        return rows


def _losses(task: Task, states: dict[str, TrainState]) -> dict[str, float]:
    """The validation loss of each state over all data of a task, both of its parts."""
    found = {}
    for name, parts in task.validate(states).items():
        count = sum(part.samples for part in parts)
        found[name] = sum(part.loss * part.samples for part in parts) / count
    return found


def validated(spec: Spec, which: int, model: nn.Module) -> float:
    """The loss of a trained model on one of the halves, 0 or 1; that of guessing at most."""
    inputs, targets = halves(spec)[which]
    with torch.no_grad():
        pairs = zip(inputs.split(spec.batch), targets.split(spec.batch), strict=True)
        total = sum(float(spec.loss(model.eval()(x), y)) * len(y) for x, y in pairs)
    loss = total / len(targets)
    return min(loss, spec.guessing()) if math.isfinite(loss) else spec.guessing()


WAY = (10, 15, 20, 30, 40, 60, 80, 100, 120, 150, 200, 300)
"""Steps at which a constant rate is judged on its way."""

WHOLE = (20, 30, 40, 60, 80, 120)
"""Lengths of whole, compressed runs."""

FIRST, SECOND = (200, 201, 202), (100, 101, 102, 103)
"""Seeds of what a search would see, and of what judges it."""


def measure(spec: Spec) -> None:
    """Short runs at all rates, whole trainings around the best: constant rates and trapezoids."""
    train, steps = Halves(spec), spec.steps
    grid = [rate(place) for place in range(-20, 5, 2)]
    train([("constant", lr) for lr in grid], steps, FIRST[:1], WAY)
    train([("constant", lr) for lr in grid], min(steps, 150), FIRST[1:], WAY)
    for length in WHOLE:
        train([("trapezoid", lr) for lr in grid], length, FIRST[:2])
    table = HALVES.read()
    some = table[(table["task"] == spec.name) & (table["steps"] == steps)]
    some = some[(some["at"] == steps) & (some["schedule"] == "constant")]
    best = place(float(some.set_index("lr")[["val_a", "val_b"]].sum(axis=1).idxmin()))
    train([("constant", rate(best + k)) for k in range(-3, 4)], steps, SECOND[:3])
    train([("trapezoid", rate(best + k)) for k in range(-2, 6)], steps, SECOND)
