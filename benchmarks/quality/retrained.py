"""Whether `retrained` holds: the interval of one more training, from those of a search.

Replayed with what is measured: some trainings, the interval that they give, and a training with
another seed that it should hold. Half A of the validation data is the stated part; B selects.
"""

import itertools
import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from benchmarks.quality.halves import HALVES, halves
from benchmarks.quality.readings import READINGS
from benchmarks.quality.store import FOLDER, Store
from benchmarks.quality.tasks import Spec
from benchmarks.quality.training import shape
from lrtune import Cohort, Run, Task
from lrtune.analysis.prior import prior
from lrtune.analysis.scores import Scale
from lrtune.analysis.surrogate import Surrogate
from lrtune.results.trained import Retrained
from lrtune.training.engines.loop import Loop
from lrtune.tuning.answer import moved, one_more
from lrtune.tuning.fine import APART
from lrtune.tuning.history import Measured
from lrtune.tuning.scoring import Scoring

ERRORS = Store(FOLDER / "errors.csv", ("task", "lr", "samples", "loss", "stderr"), ("task",))
"""One row per task: the loss of a trapezoid at its best rate on half A, and its standard error,
of which the replay takes the ratio for all trainings of the task."""

GOOD = 0.15
"""Rates whose mean log loss is so near to the best are where a search trains."""

SCHEDULES = ("trapezoid", "constant")


def finals(spec: Spec, schedule: str) -> pd.DataFrame:
    """The whole trainings of a task: `lr`, `seed`, and log losses `a` and `b`."""
    table = HALVES.read()
    some = table[(table["task"] == spec.name) & (table["schedule"] == schedule)]
    some = some[(some["at"] == spec.steps) & (some["steps"] == spec.steps) & (some["seed"] < 200)]
    vals = some[["val_a", "val_b"]].astype(float).fillna(math.inf).clip(upper=spec.guessing())
    logs = np.log(vals).set_axis(["a", "b"], axis=1)
    return logs.assign(lr=some["lr"], seed=some["seed"])


def measure_error(spec: Spec) -> None:
    """Train once at the best rate, where that was not done yet."""
    runs = finals(spec, SCHEDULES[0])
    if (spec.name,) in ERRORS.known() or runs.empty:
        return
    lr = float((runs["a"] + runs["b"]).groupby(runs["lr"]).mean().idxmin())
    task = Task(
        spec.model, spec.data[0], val=halves(spec)[0], loss=spec.loss, optimizer=spec.optimizer,
        batch_size=spec.batch, device="cpu",
    )  # fmt: skip
    engine = Loop(task)
    run = Run("", lr, shape(SCHEDULES[0]), 100)
    Cohort(task, [run], spec.steps, engine=engine).advance(spec.steps)
    parts = task.validate({"": engine.states[""].state})[""]
    shares = np.array([part.samples for part in parts], float)
    shares /= shares.sum()
    ERRORS.add([{
        "task": spec.name, "lr": lr, "samples": sum(part.samples for part in parts),
        "loss": float(shares @ [part.loss for part in parts]),
        "stderr": math.hypot(*(shares * [part.stderr for part in parts])),
    }])  # fmt: skip


def intervals(specs: Mapping[str, Spec]) -> pd.DataFrame:
    """One row per interval: `task`, `runs`, `near`, `holds`, `width` (a factor)."""
    known = ERRORS.read().set_index("task")
    rows = []
    for name, spec in specs.items():
        if name in known.index:
            share = known.loc[name, "stderr"] / known.loc[name, "loss"]
            rows += [(name, *row) for row in _at_one_rate(spec, share)]
            rows += [(name, *row) for row in _elsewhere(spec, share)]
    return pd.DataFrame(rows, columns=["task", "runs", "near", "holds", "width"])


Row = tuple[int, bool, bool, float]


def _at_one_rate(spec: Spec, share: float) -> Iterator[Row]:
    """One to three seeds at a good rate, and another seed there."""
    for schedule in SCHEDULES:
        table, noise = finals(spec, schedule), prior(schedule, spec.steps).noise
        means = (table["a"] + table["b"]).groupby(table["lr"]).mean() / 2
        for lr in means.index[means < means.min() + GOOD]:
            logs = table[table["lr"] == lr].set_index("seed")["a"]
            for count in (1, 2, 3):
                for some in itertools.combinations(logs.index, count):
                    told = one_more(
                        [_measured(lr, logs[one], share) for one in some],
                        Scoring(Scale(0.0)), noise,
                    )  # fmt: skip
                    for other in logs.index.difference(some):
                        yield count, True, *_judged(told, logs[other])


def _elsewhere(spec: Spec, share: float) -> Iterator[Row]:
    """The first one or two trainings of a search, on both sides of its first answer."""
    table = finals(spec, SCHEDULES[0]).set_index(["lr", "seed"]).sort_index()
    rates = table.index.unique("lr")
    known = READINGS.read()
    known = known[(known["task"] == spec.name) & (known["schedule"] == SCHEDULES[0])]
    about = prior(SCHEDULES[0], spec.steps)
    for row in known.itertuples():
        belief = about.belief(row.rate, row.steps, sure=bool(row.learned))
        first = Surrogate.fit(belief, about).best_rate()
        peaks = [_nearest(rates, first * math.exp(side * APART * belief.sd)) for side in (-1, 1)]
        for seeds in itertools.permutations(table.index.unique("seed"), 2):
            runs = table.loc[list(zip(peaks, seeds, strict=True))]
            for count in (1, 2):
                some = runs.iloc[:count]
                fitted = Surrogate.fit(belief, about, peaks[:count], some["b"].tolist())
                lr = _nearest(rates, fitted.best_rate())
                if lr in peaks[:count]:
                    continue
                told = one_more(
                    [_measured(peak, log, share) for (peak, _), log in some["a"].items()],
                    Scoring(Scale(0.0)), about.noise, moved(fitted, peaks[:count], lr),
                )  # fmt: skip
                for other in table.loc[lr].index.difference(seeds[:count]):
                    yield count, False, *_judged(told, table.loc[(lr, other), "a"])


def _nearest(rates: pd.Index, rate: float) -> float:
    return float(rates[int(np.abs(np.log(rates / rate)).argmin())])


def _measured(lr: float, log: float, share: float) -> Measured:
    loss = math.exp(log)
    parts = {"selection": (loss, share * loss, 1), "test": (loss, share * loss, 1)}
    return Measured(Run("", lr, shape("constant")), "fine", 1, 1, "FINISHED", np.ones(1), parts)


def _judged(told: Retrained, log: float) -> tuple[bool, float]:
    return told.low <= math.exp(log) <= told.high, told.high / told.low
