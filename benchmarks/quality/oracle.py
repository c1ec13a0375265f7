"""The dense oracle: constant rates, every schedule at its own best rate, and short runs of both."""

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from benchmarks.quality.tasks import Spec
from benchmarks.quality.training import FEWER, RUNS, SEEDS, Judge
from lrtune.tuning.candidates import DEFAULT

PER_DECADE = 4
CONSTANT = range(-5 * PER_DECADE, PER_DECADE + 1)
"""Places of the constant rates: 1e-5 to 10."""

AROUND = range(-2, 4)
"""A schedule's first rates, in places above the constant's best: decaying ones stand more, but the
constant's best may be a lucky one."""

LIMITS = (-6 * PER_DECADE, 2 * PER_DECADE)

SCHEDULES = tuple(name for name in DEFAULT if name != "constant")
SHORT = (32, 16, 8, 4)


def rate(place: int) -> float:
    """The rate at a place of the grid.

    >>> rate(0), rate(-4), rate(1)
    (1.0, 0.1, 1.77828)
    """
    return float(f"{10 ** (place / PER_DECADE):.6g}")


def place(lr: float) -> int:
    """The place nearest to a rate."""
    return round(PER_DECADE * math.log10(lr))


def on_grid(lr: float) -> bool:
    """Whether a rate is one of the oracle's, and not some finder's answer.

    >>> on_grid(0.0177828), on_grid(0.02)
    (True, False)
    """
    return lr == rate(place(lr))


def finals(table: pd.DataFrame, spec: Spec, steps: int | None = None) -> pd.Series:
    """Mean final validation loss by (schedule, lr) over the judging seeds; inf where one failed."""
    some = table[
        (table["task"] == spec.name)
        & (table["steps"] == (steps or spec.steps))
        & table["seed"].isin(SEEDS)
    ]
    loss = some["val_1"].astype(float).fillna(math.inf)
    return loss.groupby([some["schedule"], some["lr"]]).mean()


def best_place(table: pd.DataFrame, spec: Spec, schedule: str = "constant") -> int:
    """Where the lowest final loss of a schedule lies, among the places of the grid."""
    loss = finals(table, spec)[schedule]
    return place(loss[loss.index.map(on_grid)].idxmin())


def constant(judge: Judge) -> None:
    """Twenty-five rates; more while the best is on the edge."""
    places = set(CONSTANT)
    while True:
        judge([("constant", rate(k)) for k in sorted(places)])
        best = best_place(RUNS.read(), judge.spec)
        more = _grown(best, places)
        if more is None:
            return
        places.add(more)


def _grown(best: int, places: Iterable[int]) -> int | None:
    """The place to add, where the best is on the edge and the limits are not reached."""
    places = sorted(places)
    if best == places[0] and best > LIMITS[0]:
        return best - 1
    if best == places[-1] and best < LIMITS[1]:
        return best + 1
    return None


def scheduled(judge: Judge, names: Sequence[str] = SCHEDULES) -> None:
    """Every schedule around the constant's best rate; more rates while the best is on the edge."""
    start = best_place(RUNS.read(), judge.spec)
    around = {min(start + k, LIMITS[1]) for k in AROUND}
    places = {name: around | _tried(judge.spec, name) for name in names}
    while True:
        judge([(name, rate(k)) for name, some in places.items() for k in sorted(some)])
        table, grew = RUNS.read(), False
        for name, some in places.items():
            more = _grown(best_place(table, judge.spec, name), some)
            if more is not None:
                some.add(more)
                grew = True
        if not grew:
            return


def _tried(spec: Spec, name: str) -> set[int]:
    """The places at which a schedule was trained before."""
    losses = finals(RUNS.read(), spec)
    return {place(lr) for schedule, lr in losses.index if schedule == name and on_grid(lr)}


def compressed(judge: Judge, shares: Sequence[int] = SHORT) -> None:
    """The same schedules at the same rates, whole but short."""
    table = finals(RUNS.read(), judge.spec)
    start = best_place(RUNS.read(), judge.spec)
    pairs = [
        (name, lr)
        for name, lr in table.index
        if on_grid(lr)
        and (name in SCHEDULES or (name == "constant" and -3 <= place(lr) - start <= 4))
    ]
    for share in shares:
        judge(pairs, max(1, round(judge.spec.steps / share)), halfway=False, seeds=FEWER)


def probes(judge: Judge, shares: Sequence[int] = SHORT[1:]) -> None:
    """Linear decay as a short run at every rate of the oracle; of open tasks, for tuning."""
    if judge.spec.held_out:
        return
    for share in shares:
        steps = max(1, round(judge.spec.steps / share))
        judge([("linear", rate(k)) for k in CONSTANT], steps, halfway=False, seeds=FEWER)
