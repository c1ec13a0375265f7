"""What the searches have handed out and said, held against what the tasks are known to allow."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from benchmarks.quality.gather import finals, oracle_of
from benchmarks.quality.halves import HALVES, Halves
from benchmarks.quality.oracle import on_grid, place, rate
from benchmarks.quality.priors import curve
from benchmarks.quality.regret import geometric
from benchmarks.quality.searched import SEARCHED
from benchmarks.quality.tasks import Spec
from benchmarks.quality.training import FEWER

NEAR = 1.05
"""A rate with a lower regret is as good as the best."""


def measure_constants(spec: Spec) -> None:
    """Judge the constant rates around the oracle's best one by both halves."""
    best = place(oracle_of(finals(spec))[0])
    pairs = [("constant", rate(near)) for near in range(best - 2, best + 3)]
    Halves(spec)(pairs, spec.steps, FEWER)


def best_constant(spec: Spec) -> tuple[float, float]:
    """The mean loss of the best constant rate on each half, over three seeds."""
    table = HALVES.read()
    some = table[(table["task"] == spec.name) & (table["at"] == spec.steps)]
    some = some[(some["schedule"] == "constant") & some["seed"].isin(FEWER)]
    vals = some[["val_a", "val_b"]].astype(float).clip(upper=spec.guessing())
    means = vals.groupby(some["lr"]).mean()
    best = means.loc[means.sum(axis=1).idxmin()]
    return float(best["val_a"]), float(best["val_b"])


def _judged() -> set[str]:
    """The tasks whose constant rates were judged by both halves."""
    table = HALVES.read()
    whole = table[(table["at"] == table["steps"]) & table["seed"].isin(FEWER)]
    return set(whole["task"])


def kept(specs: Iterable[Spec], method: str) -> pd.DataFrame:
    """One row per task: `ratio`, the training handed out over the best constant rate; `worst`."""
    table, rows, judged = SEARCHED.read(), [], _judged()
    for spec in specs:
        some = table[(table["task"] == spec.name) & (table["method"] == method)]
        if some.empty or spec.name not in judged:
            continue
        constant = best_constant(spec)
        ratios = [
            (spec.guessing() if math.isnan(row.kept) else row.kept) / constant[1 - row.repeat % 2]
            for row in some.itertuples()
        ]
        rows.append((spec.name, geometric(ratios), max(ratios), float(np.mean(some["cost"]))))
    return pd.DataFrame(rows, columns=["task", "ratio", "worst", "cost"])


def good_rates(spec: Spec, schedule: str) -> tuple[float, float]:
    """The lowest and the highest rate whose mean log loss is within 5 % of that of the best."""
    if spec.held_out:
        losses = finals(spec).loc[schedule].dropna().clip(upper=spec.guessing())
        mean = np.log(losses[losses.index.map(on_grid)]).mean(axis=1)
    else:
        mean = curve(spec.name, schedule).mean(axis=1)
    rates = np.linspace(math.log(mean.index[0]), math.log(mean.index[-1]), 400)
    level = np.interp(rates, np.log(mean.index), mean)
    good = rates[level <= mean.min() + math.log(NEAR)]
    return math.exp(good[0]), math.exp(good[-1])


def intervals(specs: Mapping[str, Spec], method: str) -> pd.DataFrame:
    """One row per answer: `task`, `holds` (the best rate or one as good), `width` (a factor)."""
    table = SEARCHED.read().dropna(subset=["low", "high"])
    judged = _judged() & set(specs)
    table = table[(table["method"] == method) & table["task"].isin(judged)]
    good = {
        key: good_rates(specs[key[0]], key[1]) for key in table.groupby(["task", "schedule"]).groups
    }
    rows = []
    for row in table.itertuples():
        low, high = good[row.task, row.schedule]
        rows.append((row.task, bool(row.low <= high and low <= row.high), row.high / row.low))
    return pd.DataFrame(rows, columns=["task", "holds", "width"])
