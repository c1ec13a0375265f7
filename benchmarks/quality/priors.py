"""Makes lrtune/analysis/prior.toml: what the tasks tell about schedules before a task is trained.

From the open tasks and those for practice (some hundred steps), and from Fashion-MNIST (thousands).
The held-out tasks are in none of it.
"""

import functools
import math
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.quality.fashion import FASHION, LENET, RESNET
from benchmarks.quality.halves import HALVES
from benchmarks.quality.practice import PRACTICE
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.training import RUNS
from lrtune.analysis.prior import REFERENCE

TARGET = Path(__file__).parents[2] / "lrtune" / "analysis" / "prior.toml"

FASHION_TASKS = {spec.name: spec for spec in (LENET, RESNET)}
NEAR = 0.15  # rates whose mean log loss is so near to the best belong to the best
SOFT = 0.05  # the best place is the mean of places, weighted by exp(-excess / SOFT)
TUNED = {name: spec for name, spec in TASKS.items() if not spec.held_out} | PRACTICE


@functools.cache
def guessing(spec_name: str) -> float:
    return {**TUNED, **FASHION_TASKS}[spec_name].guessing()


@functools.cache
def losses() -> pd.DataFrame:
    """Every whole training at T: `task`, `schedule`, `lr`, `seed`, `log`."""
    frames = []
    for store in (HALVES, FASHION):
        table = store.read()
        table = table[(table["at"] == table["steps"]) & (table["seed"] < 200)]
        loss = (table["val_a"].astype(float) + table["val_b"].astype(float)) / 2
        frames.append(table.assign(loss=loss))
    oracle = RUNS.read()
    oracle = oracle[
        oracle["task"].isin(list(TUNED)) & ~oracle["schedule"].isin(["trapezoid", "constant"])
    ]
    frames.append(oracle.assign(loss=oracle["val_1"].astype(float)))
    every = pd.concat(frames, ignore_index=True)
    lengths = {name: spec.steps for name, spec in {**TUNED, **FASHION_TASKS}.items()}
    every = every[every["steps"] == every["task"].map(lengths)]
    limit = every["task"].map(guessing)
    every["log"] = np.log(every["loss"].fillna(math.inf).clip(upper=limit))
    every["lost"] = ~np.isfinite(every["loss"]) | (every["loss"] > 0.98 * limit)
    return every[["task", "schedule", "lr", "seed", "log", "lost"]].drop_duplicates(
        ["task", "schedule", "lr", "seed"]
    )


def curve(task: str, schedule: str) -> pd.DataFrame:
    """Log losses of one schedule on one task: rates as index, seeds as columns."""
    table = losses()
    some = table[(table["task"] == task) & (table["schedule"] == schedule)]
    return some.pivot_table("log", "lr", "seed", dropna=False)


def best_place(mean: pd.Series) -> float:
    """The log of the best rate: the mean of the good ones, as one of them may be lucky."""
    weights = np.exp(-(mean - mean.min()) / SOFT)
    return float((weights * np.log(mean.index)).sum() / weights.sum())


def facts(task: str, schedule: str) -> dict[str, float] | None:
    """One schedule on one task: its best place and loss, and how its losses lie around it."""
    table = curve(task, schedule)
    if len(table) < 4 or table.isna().all(axis=None):
        return None
    mean = table.mean(axis=1)
    place = best_place(mean)
    near = table[mean - mean.min() < NEAR].dropna(axis=1)
    spread = float(np.sqrt(near.var(axis=1, ddof=1).mean())) if near.shape[1] > 1 else math.nan
    return {"place": place, "log": float(near.mean(axis=1).min()), "noise": spread}


def rises(tasks: Iterable[str], schedule: str) -> dict[str, float]:
    """How the score rises on both sides of the best rate, and where half of the seeds are lost."""
    points = []
    table = losses()
    for task in tasks:
        known = facts(task, schedule)
        if known is None:
            continue
        some = table[(table["task"] == task) & (table["schedule"] == schedule)]
        for lr, rows in some.groupby("lr"):
            distance = math.log(lr) - known["place"]
            excess = float(rows["log"].mean()) - known["log"]
            points.append((distance, excess, float(rows["lost"].mean())))
    frame = pd.DataFrame(points, columns=["distance", "excess", "lost"])
    sides = {"low": frame[frame["distance"].between(-1.8, -0.4)],
             "high": frame[frame["distance"].between(0.4, 1.8)]}  # fmt: skip
    found = {
        name: float((side["excess"] / side["distance"] ** 2).clip(lower=0).median())
        for name, side in sides.items()
    }
    return found | {"cliff": _half_lost(frame)}


def _half_lost(frame: pd.DataFrame) -> float:
    """The distance above the best rate at which half of the seeds are lost."""
    above = frame[frame["distance"] > 0]
    places = np.linspace(0.3, 4.0, 75)
    wrong = [float(((above["distance"] > at) - above["lost"]).abs().sum()) for at in places]
    return float(places[int(np.argmin(wrong))])


def group(tasks: Collection[str]) -> dict[str, dict[str, float]]:
    """The entries of one length, by schedule."""
    names = [name for name in losses()["schedule"].unique() if "(" not in name]
    reference = {task: facts(task, REFERENCE) for task in tasks}
    entries = {}
    for name in names:
        both = {
            task: (found, reference[task])
            for task in tasks
            if (found := facts(task, name)) is not None and reference[task] is not None
        }
        if not both:
            continue
        scores = np.array([mine["log"] - theirs["log"] for mine, theirs in both.values()])
        places = np.array([mine["place"] - theirs["place"] for mine, theirs in both.values()])
        noises = np.array([mine["noise"] for mine, _ in both.values()])
        entries[name] = {
            "score": float(scores.mean()),
            "spread": float(scores.std(ddof=1)) if len(scores) > 1 else math.nan,
            "peak": math.exp(float(np.median(places))),
            "peak_factor": math.exp(float(places.std(ddof=1))) if len(places) > 1 else math.nan,
            "noise": float(np.nanmedian(noises)) if np.isfinite(noises).any() else math.nan,
            "tasks": len(both),
        } | rises(both, name)
    return entries
