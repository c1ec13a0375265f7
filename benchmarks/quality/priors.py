"""Makes lrtune/analysis/prior.toml: what the tasks tell about schedules before a task is trained.

From the open tasks and those for practice (some hundred steps), and from Fashion-MNIST (thousands).
The held-out tasks are in none of it. A task that is judged is left out of what its search knows.
"""

import functools
import math
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.quality.fashion import FASHION, LENET, RESNET
from benchmarks.quality.halves import HALVES
from benchmarks.quality.practice import PRACTICE
from benchmarks.quality.readings import READINGS
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.training import RUNS
from lrtune.analysis import prior as known
from lrtune.analysis.prior import DRIFT, REFERENCE, SHORT

TARGET = Path(__file__).parents[2] / "lrtune" / "analysis" / "prior.toml"

ABOUT = """\
# What benchmark tasks tell of schedules before a task is trained, by length. Made by
# `python -m benchmarks.quality prior` from docs/quality/, which `python -m benchmarks.quality
# halves readings scheduled fashion` measures. `lrtune.analysis.prior` says what each number means.
# Those for thousands of steps rest on two tasks.
"""
INTERVAL = 0.8
"""Chosen so that nine of ten intervals hold; docs/quality.md says how many do."""

FEW = 4
"""The spread of fewer tasks than this is taken over all schedules together."""

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
    if len(table) < 3 or table.isna().all(axis=None):
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
        best = facts(task, schedule)
        if best is None:
            continue
        some = table[(table["task"] == task) & (table["schedule"] == schedule)]
        for lr, rows in some.groupby("lr"):
            distance = math.log(lr) - best["place"]
            excess = float(rows["log"].mean()) - best["log"]
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
    """The entries of one length, by schedule: the lowest scores first."""
    reference = {task: found for task in tasks if (found := facts(task, REFERENCE)) is not None}
    starts = {task: start for task in reference if (start := _start(task)) is not None}
    entries = {}
    for name in losses()["schedule"].unique():
        mine = {task: found for task in reference if (found := facts(task, name)) is not None}
        if "(" in name or not mine:
            continue
        scores = [mine[task]["log"] - reference[task]["log"] for task in mine]
        places = [mine[task]["place"] - reference[task]["place"] for task in mine]
        entries[name] = {
            "score": float(np.mean(scores)),
            "spread": _spread(scores),
            "peak": math.exp(float(np.median(places))),
            "peak_factor": _spread(places),
            "tasks": len(mine),
        }
    shifts = [reference[task]["place"] - starts[task] for task in starts]
    shift = float(np.median(shifts))
    for entry in entries.values():
        entry["short_shift"] = shift + math.log(entry["peak"])
    if len(reference) < FEW:
        for column in ("spread", "peak_factor"):
            pooled = _root_mean_square(
                entry[column] for name, entry in entries.items() if name != REFERENCE
            )
            entries = {name: entry | {column: pooled} for name, entry in entries.items()}
    for entry in entries.values():
        entry["peak_factor"] = math.exp(entry["peak_factor"])
    entries[REFERENCE] |= {"spread": 0.0, "peak_factor": 1.0}
    return dict(sorted(entries.items(), key=lambda one: one[1]["score"]))


def common(tasks: Collection[str]) -> dict[str, float]:
    """What holds for all schedules of one length, from the reference."""
    found = {task: one for task in tasks if (one := facts(task, REFERENCE)) is not None}
    starts = {task: start for task in found if (start := _start(task)) is not None}
    shifts = [found[task]["place"] - start for task, start in starts.items()]
    noises = [one["noise"] for one in found.values() if math.isfinite(one["noise"])]
    moves = [move for task in found for move in _moves(task)]
    return {
        "noise": float(np.median(noises)) if noises else math.nan,
        **rises(found, REFERENCE),
        "short_spread": _spread(shifts),
        "long_spread": _root_mean_square(moves),
        "interval": INTERVAL,
    }


def _start(task: str) -> float | None:
    """The log of the best constant rate for 60 steps, as the coarse stage reads it; a median."""
    table = READINGS.read()
    some = table[(table["task"] == task) & (table["learned"] == 1)]
    if some.empty:
        return None
    return float((np.log(some["rate"]) + DRIFT * np.log(some["steps"] / SHORT)).median())


@functools.cache
def compressed() -> pd.DataFrame:
    """Whole runs of horizons: `task`, `schedule`, `steps`, `lr`, `log`; a mean over seeds."""
    frames = [store.read() for store in (HALVES, FASHION)]
    table = pd.concat(frames, ignore_index=True)
    lengths = {name: spec.steps for name, spec in {**TUNED, **FASHION_TASKS}.items()}
    table = table[(table["at"] == table["steps"]) & (table["steps"] < table["task"].map(lengths))]
    loss = (table["val_a"].astype(float) + table["val_b"].astype(float)) / 2
    limit = table["task"].map(guessing)
    table = table.assign(log=np.log(loss.fillna(math.inf).clip(upper=limit)))
    keys = ["task", "schedule", "steps", "lr"]
    return table.groupby(keys, as_index=False)["log"].mean()


def _at_horizon(task: str, schedule: str, steps: int) -> pd.Series:
    table = compressed()
    some = table[
        (table["task"] == task) & (table["schedule"] == schedule) & (table["steps"] == steps)
    ]
    return some.set_index("lr")["log"]


def _moves(task: str) -> list[float]:
    """By how much the best peaks of T / 8 to T / 2 differ from those of T, in the log rate."""
    whole = {**TUNED, **FASHION_TASKS}[task].steps
    table = compressed()
    table = table[(table["task"] == task) & table["steps"].between(whole / 9, whole / 2)]
    moves = []
    for schedule, steps in table.groupby(["schedule", "steps"]).groups:
        here, there = _at_horizon(task, schedule, steps), facts(task, schedule)
        if there is not None and len(here) >= FEW:
            moves.append(best_place(here) - there["place"])
    return moves


def worth() -> dict[str, list[float]]:
    """How exactly whole runs of a horizon tell the difference of two schedules at T, by its steps.

    From Fashion-MNIST: the usual error, over pairs of schedules, as a standard deviation, and never
    more for longer runs. Few pairs are far off: those with a constant rate.
    """
    wrong: dict[int, list[float]] = {}
    for task, spec in FASHION_TASKS.items():
        finals = {name: one["log"] for name in _schedules(task) if (one := facts(task, name))}
        table = compressed()
        for steps in sorted(table.loc[table["task"] == task, "steps"].unique()):
            short = {name: _at_horizon(task, name, steps) for name in finals}
            lowest = {name: float(some.min()) for name, some in short.items() if len(some)}
            names = sorted(lowest)
            if steps > spec.steps / 2 or len(names) < FEW:
                continue
            wrong.setdefault(int(steps), []).extend(
                (lowest[one] - lowest[other]) - (finals[one] - finals[other])
                for k, one in enumerate(names)
                for other in names[:k]
            )
    steps = sorted(wrong)
    errors = [1.4826 * float(np.median(np.abs(wrong[one]))) for one in steps]
    return {"steps": steps, "error": list(np.minimum.accumulate(errors))}


def _schedules(task: str) -> list[str]:
    table = losses()
    return list(table.loc[table["task"] == task, "schedule"].unique())


def _spread(values: Iterable[float]) -> float:
    some = list(values)
    return float(np.std(some, ddof=1)) if len(some) > 1 else math.nan


def _root_mean_square(values: Iterable[float]) -> float:
    return float(np.sqrt(np.mean(np.square(list(values)))))


def _length(tasks: Collection[str]) -> list[str]:
    """The lines of one length."""
    lengths = [{**TUNED, **FASHION_TASKS}[task].steps for task in tasks]
    lines = ["[[lengths]]", f"steps = {round(float(np.exp(np.log(lengths).mean())), -1):g}"]
    lines += ["", "[lengths.all]"]
    lines += [f"{name} = {value:.3g}" for name, value in common(tasks).items()]
    lines += ["", "[lengths.schedules]"]
    return lines + [
        f"{name} = {{ {', '.join(f'{k} = {v:.3g}' for k, v in entry.items())} }}"
        for name, entry in group(tasks).items()
    ]


def text() -> str:
    """The file."""
    lines = [ABOUT, "[worth]  # of whole runs of a horizon"]
    lines += [f"{name} = {_list(values)}" for name, values in worth().items()]
    for tasks in (TUNED, FASHION_TASKS):
        lines += ["", *_length(list(tasks))]
    return "\n".join(lines) + "\n"


def _list(values: Iterable[float]) -> str:
    return f"[{', '.join(f'{value:.4g}' for value in values)}]"


def write() -> None:
    """Write the file."""
    TARGET.write_text(text())


def _filled(some: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The same numbers; where one is NaN, as a single task has no spread, the other's.

    >>> _filled({"all": {"noise": math.nan, "low": 1.0}}, {"all": {"noise": 2.0, "low": 3.0}})
    {'all': {'noise': 2.0, 'low': 1.0}}
    """
    return {
        name: _filled(value, other[name])
        if isinstance(value, Mapping)
        else other[name]
        if math.isnan(value)
        else value
        for name, value in some.items()
    }


@contextmanager
def left_out(task: str) -> Iterator[None]:
    """Within this block a search knows nothing that this task has told."""
    before, lengths = known.FILE, list(known.FILE["lengths"])
    for place, tasks in enumerate((TUNED, FASHION_TASKS)):
        if task in tasks:
            others = _length([name for name in tasks if name != task])
            mine = tomllib.loads("\n".join(others))["lengths"][0]
            lengths[place] = _filled(mine, lengths[place])
    try:
        known.FILE = {**before, "lengths": lengths}
        yield
    finally:
        known.FILE = before
