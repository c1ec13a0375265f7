"""lrtune's search as a user meets it: the training that it hands out, and the rate that it says.

The search is given one half of the validation data as `val`, which it splits again; what it hands
out is judged on the other half, and the other way round. Held against the best constant rate of the
oracle, the mean of three fresh seeds, on that half.
"""

import math
import time

import numpy as np
import pandas as pd

from benchmarks.quality.answers import metered
from benchmarks.quality.halves import HALVES, halves, validated
from benchmarks.quality.regret import geometric
from benchmarks.quality.store import FOLDER, Store
from benchmarks.quality.tasks import Spec
from benchmarks.quality.training import FEWER
from lrtune import Task, search
from lrtune.errors import SearchError

SEARCHED = Store(
    FOLDER / "searched.csv",
    (
        "task", "budget", "schedule", "half", "repeat", "lr", "low", "high", "best_lr", "kept",
        "stated", "cost", "updates", "val_samples", "seconds", "said",
    ),
    ("task", "budget", "schedule", "half", "repeat"),
)  # fmt: skip
"""One row per search: its rate with the interval; the loss of the training that it hands out, on
the half that it did not see (`kept`), and on the part of its own half that selected nothing
(`stated`); what it says it cost, in trainings, and what was counted. `said`: why there is no
answer."""

BUDGETS = (1.0, 4.0)
SEED = 1000
"""The first seed of the first search; the judging seeds are others."""


def search_task(spec: Spec, budget: float, schedule: str | None, repeats: int) -> None:
    """Search where it was not done yet, once for each half and repeat."""
    name = schedule or "default"
    for repeat in range(repeats):
        for half in (0, 1):
            if (spec.name, budget, name, half, repeat) not in SEARCHED.known():
                about = {"task": spec.name, "budget": budget, "schedule": name}
                row = _searched(spec, budget, schedule, half, SEED + 100 * repeat)
                SEARCHED.add([about | {"half": half, "repeat": repeat} | row])


def _searched(
    spec: Spec, budget: float, schedule: str | None, half: int, seed: int
) -> dict[str, object]:
    train, _ = spec.data
    task = Task(
        spec.model, train, val=halves(spec)[half], loss=spec.loss, optimizer=spec.optimizer,
        batch_size=spec.batch, device="cpu",
    )  # fmt: skip
    begin = time.perf_counter()
    with metered() as counted:
        try:
            found = search(task, steps=spec.steps, budget=budget, schedule=schedule, seed=seed)
        except SearchError as error:
            said = str(error).splitlines()[0][:200]
            return {"said": said, "seconds": time.perf_counter() - begin}
    best = found.best
    return {
        "lr": found.lr, "low": found.interval[0], "high": found.interval[1],
        "best_lr": best.lr if best else math.nan,
        "kept": validated(spec, 1 - half, found.model()) if best else math.nan,
        "stated": best.loss if best else math.nan,
        "cost": found.cost, "updates": counted.updates, "seconds": counted.seconds,
    }  # fmt: skip


def best_constant(spec: Spec) -> tuple[float, float]:
    """The mean loss of the best constant rate on each half, over three seeds."""
    table = HALVES.read()
    some = table[(table["task"] == spec.name) & (table["at"] == spec.steps)]
    some = some[(some["schedule"] == "constant") & some["seed"].isin(FEWER)]
    vals = some[["val_a", "val_b"]].astype(float).clip(upper=spec.guessing())
    means = vals.groupby(some["lr"]).mean()
    best = means.loc[means.sum(axis=1).idxmin()]
    return float(best["val_a"]), float(best["val_b"])


def kept(specs: list[Spec], budget: float) -> pd.DataFrame:
    """One row per task: `ratio`, the training handed out over the best constant rate; `worst`."""
    table, rows = SEARCHED.read(), []
    for spec in specs:
        constant = best_constant(spec)
        some = table[(table["task"] == spec.name) & (table["budget"] == budget)]
        ratios = [
            (spec.guessing() if math.isnan(row.kept) else row.kept) / constant[1 - row.half]
            for row in some[some["schedule"] == "default"].itertuples()
        ]
        if ratios:
            rows.append((spec.name, geometric(ratios), max(ratios), float(np.mean(some["cost"]))))
    return pd.DataFrame(rows, columns=["task", "ratio", "worst", "cost"])
