"""From what was measured to regrets: joins the files of docs/quality."""

import math
from collections.abc import Sequence

import pandas as pd

from benchmarks.quality.answers import ANSWERS, FREE
from benchmarks.quality.oracle import CONSTANT, SCHEDULES, on_grid, rate
from benchmarks.quality.regret import FAILURE, REGRETS, geometric, regret
from benchmarks.quality.searches import COMBINED
from benchmarks.quality.tasks import TASKS, Spec
from benchmarks.quality.training import FEWER, RUNS, SEEDS

GRID = {rate(k) for k in CONSTANT}


def finals(
    spec: Spec,
    steps: int | None = None,
    column: str = "val_1",
    seeds: Sequence[int] = SEEDS,
) -> pd.DataFrame:
    """Losses by (schedule, lr), seeds as columns: inf where a run was out, NaN where none was."""
    table = RUNS.read()
    some = table[(table["task"] == spec.name) & (table["steps"] == (steps or spec.steps))]
    some = some[some["seed"].isin(seeds)].assign(loss=some[column].astype(float).fillna(math.inf))
    return some.pivot_table("loss", ["schedule", "lr"], "seed", dropna=False)


def measured() -> list[Spec]:
    """The tasks whose constant rates are all there."""
    known = RUNS.known()
    return [
        spec
        for spec in TASKS.values()
        if all(
            (spec.name, "constant", lr, seed, spec.steps) in known for lr in GRID for seed in SEEDS
        )
    ]


def oracle_of(losses: pd.DataFrame) -> tuple[float, float]:
    """The best of the oracle's constant rates, and its mean loss."""
    constant = losses.loc["constant"].mean(axis=1)
    constant = constant[constant.index.isin(GRID)]
    return float(constant.idxmin()), float(constant.min())


def luck() -> pd.DataFrame:
    """The oracle's own answers: one seed chooses among the constant rates, the others judge."""
    rows = []
    for spec in measured():
        constant = finals(spec).loc["constant"]
        constant = constant[constant.index.isin(GRID)]
        for one in SEEDS:
            others = constant.drop(columns=one).mean(axis=1)
            loss = others[constant[one].idxmin()]
            value = regret(float(loss), float(others.min()), spec.guessing())
            rows.append((spec.name, spec.held_out, value))
    return pd.DataFrame(rows, columns=["task", "held_out", "regret"])


def _row(spec: Spec, best: float, losses: pd.Series, about: dict[str, object]) -> dict:
    """The regret of what was trained; nothing trained is a failure."""
    loss = float(losses.mean()) if len(losses) else math.inf
    value = regret(loss, best, spec.guessing())
    failed = not math.isfinite(loss) or value > FAILURE
    return {"task": spec.name, "held_out": spec.held_out, "regret": value, "failed": failed} | about


def regrets() -> pd.DataFrame:
    """One row per task, method and repeat: columns `regret.REGRETS`, and the `schedule`."""
    rows, answers, free = [], ANSWERS.read(), FREE.read()
    for spec in measured():
        losses = finals(spec)
        _, best = oracle_of(losses)
        for row in answers[answers["task"] == spec.name].itertuples():
            cost = {"trainings": row.updates / spec.steps, "seconds": row.seconds}
            about = {"method": row.method, "repeat": row.repeat, "lr": row.lr, **cost}
            ways = [(row.method, "constant" if pd.isna(row.lr) else row.schedule)]
            ways += [(f"{name} + {also}", also) for name, also in COMBINED if name == row.method]
            for method, schedule in ways:
                key = (schedule, row.lr)
                if pd.isna(row.lr):
                    found = pd.Series(dtype=float)
                elif key in losses.index and losses.loc[key].notna().all():
                    found = losses.loc[key]
                else:
                    continue  # not yet trained
                more = {"method": method, "schedule": schedule}
                rows.append(_row(spec, best, found, about | more))
        for method, some in free[free["task"] == spec.name].groupby("method", sort=False):
            if set(FEWER) <= set(some["seed"]):
                val = some.loc[some["seed"].isin(FEWER), "val"].astype(float).fillna(math.inf)
                cost = {"trainings": 0.0, "seconds": 0.0}
                about = {"method": method, "repeat": 0, "lr": math.nan, **cost}
                _, paired = oracle_of(losses[list(FEWER)])
                rows.append(_row(spec, paired, val, about | {"schedule": "free"}))
    return pd.DataFrame(rows, columns=[*REGRETS, "schedule"])


def schedules() -> pd.DataFrame:
    """Each schedule at its own best rate: `ratio` to the best constant, `shift` of the rate."""
    rows = []
    for spec in measured():
        losses = finals(spec)
        start, best = oracle_of(losses)
        if not set(SCHEDULES) <= set(losses.index.get_level_values(0)):
            continue
        for name in SCHEDULES:
            own = losses.loc[name].dropna().mean(axis=1)
            own = own[own.index.map(on_grid)]  # no answers of finders
            shift = float(own.idxmin()) / start
            ratio = regret(float(own.min()), best, spec.guessing())
            rows.append((spec.name, spec.held_out, name, ratio, shift))
    return pd.DataFrame(rows, columns=["task", "held_out", "method", "ratio", "shift"])


BEST = "the best of each task"


def crossed() -> pd.DataFrame:
    """The same without the luck of the lowest: chosen by all seeds but one, judged by that one.

    Returns:
        Columns `task`, `held_out`, `method` (a schedule, or `BEST`: schedule and rate are chosen),
        `loss`: the geometric mean over the seeds.
    """
    rows = []
    for spec in measured():
        losses = finals(spec).dropna()
        losses = losses[[name in SCHEDULES and on_grid(lr) for name, lr in losses.index]]
        if set(SCHEDULES) <= set(losses.index.get_level_values(0)):
            limit = spec.guessing()
            for name in (*SCHEDULES, BEST):
                own = losses if name == BEST else losses.loc[[name]]
                rows.append((spec.name, spec.held_out, name, fair(own, limit)))
    return pd.DataFrame(rows, columns=["task", "held_out", "method", "loss"])


def fair(losses: pd.DataFrame, guessing: float) -> float:
    """The geometric mean over the seeds of the loss on each, of what is lowest on all others.

    >>> fair(pd.DataFrame({0: [1.0, 2.0], 1: [2.0, 1.0]}), guessing=9.0)
    2.0
    """
    held = [
        min(float(losses.loc[losses.drop(columns=one).mean(axis=1).idxmin(), one]), guessing)
        for one in losses
    ]
    return geometric(held)
