"""What comparisons say of schedules, held against fresh trainings.

A comparison follows a search, and says of each rival that it trains to the end: ahead, tied or
behind. Each "behind" and "ahead" is a claim about the mean loss at T. Eight fresh seeds, on which
rival and recommended schedule are paired, tell whether the mean difference has that sign.

What the same task has told about schedules and rates is left out of what its search knows.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from benchmarks.quality.priors import left_out
from benchmarks.quality.searched import SEED
from benchmarks.quality.store import FOLDER, Store
from benchmarks.quality.tasks import Spec
from benchmarks.quality.training import RUNS, Judge
from lrtune import compare, search
from lrtune.errors import SearchError

STATEMENTS = Store(
    FOLDER / "statements.csv",
    (
        "task", "repeat", "schedule", "lr", "verdict", "estimate", "low", "high",
        "recommended", "recommended_lr", "cost", "said",
    ),
    ("task", "repeat", "schedule"),
)  # fmt: skip
"""One row per rival that was trained to the end: its peak and the verdict, with the 90 % interval
of the difference in score; what was recommended; the cost of its comparison, in trainings."""

FRESH_RUNS = Store(FOLDER / "fresh.csv", RUNS.columns, RUNS.keys)
"""One row per run that a statement is held against."""

FRESH = tuple(range(300, 308))
"""The seeds of these runs."""

RIVALS = (("constant", "step", "exponential"), ("cosine", "linear", "wsd"))
"""One comparison for each of these, after the same search."""


def measure(spec: Spec, repeats: int) -> None:
    """Let comparisons claim something of a task, and check it."""
    state(spec, repeats)
    check(spec)


def state(spec: Spec, repeats: int) -> None:
    """Search and compare, where that was not done yet."""
    done = {(task, repeat) for task, repeat, _ in STATEMENTS.known()}
    for repeat in range(repeats):
        if (spec.name, repeat) in done:
            continue
        about = {"task": spec.name, "repeat": repeat}
        with left_out(spec.name):
            try:
                STATEMENTS.add([about | row for row in _said(spec, SEED + 100 * repeat)])
            except SearchError as error:
                said = str(error).splitlines()[0][:200]
                STATEMENTS.add([about | {"schedule": "", "said": said}])


def _said(spec: Spec, seed: int) -> Iterator[dict[str, object]]:
    task = spec.task()
    found = search(task, steps=spec.steps, seed=seed)
    for rivals in RIVALS:
        ranked = compare(task, found, schedules=rivals, seeds=3, budget=12)
        trained = ranked.table[ranked.table["verdict"].isin(["ahead", "tied", "behind"])]
        about = {"recommended": found.schedule, "recommended_lr": found.lr, "cost": ranked.cost}
        for row in trained[["schedule", "lr", "verdict", "estimate", "low", "high"]].to_dict(
            "records"
        ):
            yield about | row


def check(spec: Spec) -> None:
    """Train what the claims are about with fresh seeds."""
    some = claims()
    some = some[some["task"] == spec.name]
    pairs = [*zip(some["recommended"], some["recommended_lr"], strict=True)]
    pairs += zip(some["schedule"], some["lr"], strict=True)
    Judge(spec, FRESH_RUNS)(pairs, halfway=False, seeds=FRESH)


def claims() -> pd.DataFrame:
    """Every row that says "behind" or "ahead"."""
    table = STATEMENTS.read()
    return table[table["verdict"].isin(["behind", "ahead"])]


def checked(specs: dict[str, Spec]) -> pd.DataFrame:
    """One row per claim that was checked: `task`, `verdict`, `difference` (mean log), `wrong`."""
    runs = FRESH_RUNS.read()
    runs = runs[runs["task"].isin(list(specs))]
    limit = runs["task"].map(lambda name: specs[name].guessing())
    runs = runs.assign(log=np.log(runs["val_1"].astype(float).fillna(np.inf).clip(upper=limit)))
    logs = runs.set_index(["task", "schedule", "lr", "seed"])["log"]
    rows = []
    for one in claims().itertuples():
        keys = [(one.task, one.schedule, _key(one.lr)),
                (one.task, one.recommended, _key(one.recommended_lr))]  # fmt: skip
        if all((*key, seed) in logs.index for key in keys for seed in FRESH):
            rival, held = (logs.loc[key].loc[list(FRESH)] for key in keys)
            difference = float((rival - held).mean())
            wrong = difference < 0 if one.verdict == "behind" else difference > 0
            rows.append((one.task, one.schedule, one.verdict, difference, wrong))
    return pd.DataFrame(rows, columns=["task", "schedule", "verdict", "difference", "wrong"])


def _key(lr: float) -> float:
    return float(f"{lr:.6g}")
