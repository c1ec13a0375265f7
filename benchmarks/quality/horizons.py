"""Do schedules rank in short runs as they do over the full length? And what does choosing cost?"""

import math

import numpy as np
import pandas as pd

from benchmarks.quality.gather import finals, measured
from benchmarks.quality.oracle import SCHEDULES, SHORT, on_grid
from benchmarks.quality.regret import regret
from benchmarks.quality.tasks import Spec
from benchmarks.quality.training import FEWER
from lrtune.analysis.paired import kendall_tau

COLUMNS = (
    "task", "held_out", "way", "share", "tau", "low", "high", "chosen", "regret", "own",
)  # fmt: skip
"""`regret`: of the chosen schedule at the rate chosen with it; `own`: at its own best rate."""

NAMES = ("constant", *SCHEDULES)


def own_best(losses: pd.DataFrame) -> pd.DataFrame:
    """Each schedule at its own best rate: schedules as index, seeds as columns, and `lr`.

    >>> index = pd.MultiIndex.from_tuples([("a", 1.0), ("a", 2.0), ("b", 1.0)])
    >>> own_best(pd.DataFrame({0: [3.0, 1.0, 2.0], 1: [3.0, 1.0, 2.0]}, index))["lr"].to_list()
    [2.0, 1.0]
    """
    means = losses.mean(axis=1).fillna(math.inf)
    picked = [
        means.loc[[name]].idxmin() for name in dict.fromkeys(losses.index.get_level_values(0))
    ]
    table = losses.loc[picked].reset_index(level=1)
    return table.rename(columns={table.columns[0]: "lr"})


def agreement(spec: Spec) -> list[tuple]:
    """One row per way and horizon, where the short runs are there."""
    full = finals(spec, seeds=FEWER)
    full = full[[name in NAMES and on_grid(lr) for name, lr in full.index]]
    rows = []
    for share in SHORT:
        whole = finals(spec, max(1, round(spec.steps / share)), seeds=FEWER)
        both = [key for key in full.index if key in whole.index]
        if {name for name, _ in both} != set(NAMES):
            return []
        truth = full.loc[both]
        ways = {
            "whole, compressed": whole.loc[both],
            "cut off": finals(spec, column=f"val_{share}", seeds=FEWER).loc[both],
        }
        best = own_best(truth)
        lowest = float(best[list(FEWER)].mean(axis=1).min())
        for way, short in ways.items():
            one = own_best(short)
            ranks = kendall_tau(one[list(FEWER)], best[list(FEWER)])
            chosen = one[list(FEWER)].mean(axis=1).idxmin()
            reached = float(truth.loc[(chosen, one.loc[chosen, "lr"])].mean())
            own = float(best.loc[chosen, list(FEWER)].mean())
            guess = spec.guessing()
            costs = (regret(reached, lowest, guess), regret(own, lowest, guess))
            rows.append((spec.name, spec.held_out, way, share, *ranks, chosen, *costs))
    return rows


def all_agreements() -> pd.DataFrame:
    """Columns `COLUMNS`."""
    return pd.DataFrame([row for spec in measured() for row in agreement(spec)], columns=COLUMNS)


def interval(values: pd.Series, draws: int = 2000, level: float = 0.9) -> tuple[float, float]:
    """Bootstrap interval of the mean over the tasks."""
    random = np.random.default_rng(0)
    array = values.dropna().to_numpy()
    means = array[random.integers(0, len(array), (draws, len(array)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
