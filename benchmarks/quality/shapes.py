"""Which shape should an answer be trained with, and how far above it may the peak lie?

The tasks for practice are searched with a budget of one, and trained from that answer.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.quality.regret import geometric
from benchmarks.quality.store import FOLDER, Store
from benchmarks.quality.tasks import Spec
from benchmarks.quality.training import SEEDS, lost, shape
from lrtune import Cohort, Run, search
from lrtune.results.runs import validation_losses
from lrtune.training.engines.fastest import Fastest

PRACTISED = Store(
    FOLDER / "practice.csv",
    ("task", "schedule", "factor", "repeat", "lr", "val"),
    ("task", "schedule", "factor", "repeat"),
)
"""One row per training: with which schedule, and a peak of which `factor` times which answer; the
final validation loss, empty where the run was lost."""

TRIED = (
    "linear",
    "warmup(0.2, then=cosine())",
    "wsd",
    "warmup(0.05, then=stable_decay(0.4))",
    "warmup(0.1, then=stable_decay(0.4))",
    "warmup(0.2, then=stable_decay(0.2))",
    "warmup(0.2, then=stable_decay(0.4))",
    "trapezoid",
    "warmup(0.3, then=stable_decay(0.5))",
    "warmup(0.5, then=linear())",
)
FACTORS = (1.0, 1.5, 2.2)
REPEATS = 3

KEPT = ("constant", 1.0)
"""The answer itself, kept to the end: what the others are held against."""


def practise(spec: Spec) -> None:
    """Train every shape at every factor from each of the answers; each on a seed of its own."""
    known, keys, runs = PRACTISED.known(), {}, []
    ways = [KEPT, *((name, factor) for name in TRIED for factor in FACTORS)]
    for repeat in range(REPEATS):
        new = [way for way in ways if (spec.name, *way, repeat) not in known]
        if not new:
            continue
        lr = _answer(spec, repeat)
        for schedule, factor in new:
            run = Run(f"{schedule} {factor} {repeat}", factor * lr, shape(schedule), SEEDS[repeat])
            runs.append(run)
            keys[run.name] = {"task": spec.name, "schedule": schedule, "factor": factor,
                              "repeat": repeat, "lr": run.lr}  # fmt: skip
    if runs:
        task = spec.task()
        cohort = Cohort(task, runs, spec.steps, engine=Fastest(task), retire=lost(spec.guessing()))
        val = validation_losses(cohort.advance().validate().trace.validations)
        PRACTISED.add({**key, "val": val.get(name, math.nan)} for name, key in keys.items())


def _answer(spec: Spec, repeat: int) -> float:
    """What the search says, with seeds of its own; taken from the table where it is there."""
    table = PRACTISED.read()
    some = table[(table["task"] == spec.name) & (table["repeat"] == repeat)]
    for row in some.itertuples():
        return float(row.lr) / float(row.factor)
    return search(
        spec.task(), steps=spec.steps, budget=1.0, schedule="constant", seed=10 * repeat
    ).lr


def compared(specs: Sequence[Spec]) -> pd.DataFrame:
    """One row per shape and factor, over the tasks that are measured.

    Returns:
        Index (`schedule`, `factor`). Columns `tasks`; `mean` and `worst` (of a task): the final
        loss over that of the same answer kept constant, a lost run counting as guessing;
        `above`: the share of answers that it made worse.
    """
    guessing = {spec.name: spec.guessing() for spec in specs}
    table = PRACTISED.read()
    table = table[table["task"].isin(list(guessing))]
    limit = table["task"].map(guessing)
    table = table.assign(val=table["val"].astype(float).fillna(math.inf).clip(upper=limit))
    losses = table.pivot_table("val", ["task", "repeat"], ["schedule", "factor"], sort=False)
    logs = np.log(losses.dropna())
    logs = logs.sub(logs[KEPT], axis=0)
    tasks = np.exp(logs.groupby(level="task").mean())
    return pd.DataFrame({
        "tasks": tasks.count(),
        "mean": tasks.apply(geometric),
        "worst": tasks.max(),
        "above": (logs > 0).mean(),
    })  # fmt: skip
