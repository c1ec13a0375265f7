"""A search within a budget: short runs, longer ones around the best, and an answer between them."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lrtune.analysis.curves import FAILED, end_level_stderr
from lrtune.analysis.rate_estimate import (
    NEIGHBOUR,
    estimate_optimum,
    leading_rate,
    mask_unstable,
    reach,
)
from lrtune.errors import SearchError
from lrtune.results import Trace, joined
from lrtune.results.runs import Run, grid
from lrtune.results.schema import CHECKS
from lrtune.results.serialization import table
from lrtune.training import Evaluate
from lrtune.tuning.grid_search import Answer
from lrtune.tuning.planning import Plan
from lrtune.tuning.rate_history import Book, blended, checked, retired, scored


class Purse(Book):
    """A book that counts what every update costs, and trains nothing that it cannot pay for."""

    def __init__(self, evaluate: Evaluate, plan: Plan, seeds: Sequence[int]) -> None:
        """Nothing spent yet."""
        super().__init__(evaluate, plan.steps, plan.long, seeds)
        self.plan = plan
        self.spent: dict[str, int] = {}
        self.levels: dict[float, float] = {}
        self.longer: dict[float, float] = {}
        self._start = self._error = math.nan
        self._scores_of: dict[str, float] = {}
        self._last: dict[str, Trace] = {}
        self._made: dict[str, int] = {}
        self._beside: dict[str, set[str]] = {}

    @property
    def start(self) -> float:
        """The loss before training."""
        return self._start

    @property
    def curve(self) -> dict[float, float]:
        """What the answer is read from: the longer runs, where there was money for any."""
        return self.longer or self.levels

    def affords(self, rates: Sequence[float], until: int) -> bool:
        """Whether these rates can be trained up to a step, should none of them fail."""
        runs = grid(rates, self.seeds)
        cost = sum(max(0, until - self._made.get(run.name, 0)) for run in runs)
        aside = self.plan.stages.get("verify", 0)
        return cost <= self.plan.updates - aside - sum(self.spent.values())

    def try_out(self, rates: Sequence[float], stage: str) -> bool:
        """Train new rates for the short horizon; False when there is no money for that."""
        new = [rate for rate in rates if not self.knows(rate)]
        if not self.affords(new, self.plan.short):
            return False
        if new:
            trace = self._pay(grid(new, self.seeds), self.plan.short, stage)
            self.stages |= dict.fromkeys(new, stage)
            self.levels |= self._means(blended([trace]), new)
            if math.isnan(self._start):
                losses = trace.frame.groupby("run")["loss"]
                self._start = float(losses.first().median())
                self._error = float(losses.agg(end_level_stderr).median()) / math.sqrt(
                    len(self.seeds)
                )
        return True

    def go_on(self, rates: Sequence[float], stage: str) -> bool:
        """Train rates for the long horizon, and score them over its last third."""
        failed = [rate for rate in rates if math.isinf(self.levels.get(rate, 0.0))]
        self.longer |= dict.fromkeys(failed, math.inf)
        new = [rate for rate in rates if rate not in self.longer]
        if not self.affords(new, self.plan.long):
            return False
        for rate in new:
            self.stages.setdefault(rate, stage)
        if new:
            rungs = sorted({round(self.plan.long * share) for share in (4 / 6, 5 / 6, 1)})
            traces, going = [], grid(new, self.seeds)
            for rung in rungs:
                traces.append(self._pay(going, rung, stage))
                out = traces[-1].runs.set_index("run")["outcome"].isin(FAILED)
                going = [run for run in going if not out[run.name]]
                if not going:
                    break
            levels = blended(traces)
            self._scores_of |= levels.to_dict()
            self.longer |= self._means(levels, new)
        return True

    def finish(self, rate: float) -> pd.DataFrame:
        """Train the first seed of a rate to the end: `CHECKS`, and whether it stayed stable."""
        runs, short = grid([rate], self.seeds[:1]), dict(self._last)
        trace = self._pay(runs, self.plan.steps, "verify", validate=False)
        self._last = short  # the book compares rates over equal lengths
        return checked(trace, self.horizon)

    def leader(self) -> float:
        """The rate to go on from after the short runs."""
        leader = self.leads()
        if leader is None:
            raise self.hopeless(self.plan.short)
        return leader

    def leads(self) -> float | None:
        """The same; None when all of them failed."""
        return leading_rate(self.levels, self._error)

    def nearest(self, rate: float) -> float:
        """The rate as it was trained, where it was, up to rounding."""
        known = (one for one in self.stages if math.isclose(one, rate, rel_tol=1e-3))
        return next(known, rate)

    def close(self) -> None:
        """Enter what every rate has shown into the book."""
        names = [run.name for run in grid(list(self.stages), self.seeds)]
        levels = {name: level for name, level in self._scores_of.items() if math.isfinite(level)}
        shown: dict[int, tuple[Trace, list[str]]] = {}
        for name in names:
            trace = self._last[name]
            shown.setdefault(id(trace), (trace, []))[1].append(name)
        trace = joined([trace.only(some) for trace, some in shown.values()])
        kept = [name for name in names if name in levels]
        given_up = [name for name in names if name not in levels]
        trace = joined([trace.only(kept), retired(trace.only(given_up))]).only(names)
        scores = scored(trace)
        scores["score"] = trace.runs["run"].map(levels)
        self._write(trace, scores)

    def _means(self, levels: pd.Series, rates: Sequence[float]) -> dict[float, float]:
        """By rate, over the seeds."""
        return {
            rate: float(np.mean([levels[run.name] for run in grid([rate], self.seeds)]))
            for rate in rates
        }

    def _pay(self, runs: Sequence[Run], until: int, stage: str, *, validate: bool = True) -> Trace:
        """Train runs up to a step. One that fails is charged in full: it is seen a little late."""
        trace = self._evaluate(runs, self.steps, stage=stage, until=until, validate=validate)
        names = {run.name for run in runs}
        for run in runs:
            self.spent[stage] = self.spent.get(stage, 0) + until - self._made.get(run.name, 0)
            self._made[run.name] = until
            self._last[run.name] = trace
            # Those trained beside it that do not go on are let go, and would have to begin anew.
            self._made |= dict.fromkeys(self._beside.get(run.name, names) - names, 0)
            self._beside[run.name] = names
        return trace


def spend(purse: Purse, coarse: Sequence[float], limits: tuple[float, float]) -> Answer:
    """Coarse, between, longer, answer, verify: as far as the money goes."""
    notes: list[str] = []

    def allowed(rates: Sequence[float]) -> list[float]:
        rounded = [float(f"{rate:.4g}") for rate in rates]
        return [rate for rate in rounded if limits[0] * 0.999 <= rate <= limits[1] * 1.001]

    purse.try_out(coarse, "coarse")
    notes += _grow(purse, limits)
    best = purse.leader()
    for rate in allowed([best / NEIGHBOUR, best * NEIGHBOUR]):
        purse.try_out([rate], "between")  # each alone, so that one can go on without the other
    best = purse.leader()
    while True:
        around = allowed([best / NEIGHBOUR, best, best * NEIGHBOUR])
        around = [purse.nearest(rate) for rate in around]
        if not purse.go_on(around, "longer"):
            notes.append(
                f"the budget did not pay for longer runs on both sides of {best:.3g}: the best "
                "rate may lie beyond, give a larger budget"
            )
            break
        losses = mask_unstable(purse.longer)
        leader = min(around, key=losses.__getitem__)
        if math.isinf(losses[leader]):
            notes.append(f"from {around[0]:.3g} on, rates failed within {purse.plan.long} steps")
            leader = _down(purse, best, limits)
        if leader == best or leader < limits[0]:
            break
        best = leader
    return _answer(purse, limits, notes)


def _down(purse: Purse, lr: float, limits: tuple[float, float]) -> float:
    """The next rate, by decades, that does not fail in a longer run: one at a time is cheaper."""
    while lr / 10 >= limits[0] * 0.999:
        lr = purse.nearest(float(f"{lr / 10:.4g}"))
        if not purse.go_on([lr], "longer") or math.isfinite(purse.longer[lr]):
            break
    return lr


def _grow(purse: Purse, limits: tuple[float, float]) -> list[str]:
    """An edge is not an optimum: add decades while the best coarse rate is on one."""
    notes: list[str] = []
    while True:
        rates, leader = sorted(purse.stages), purse.leads()
        if leader is None:
            new, told = rates[0] / 10, "every rate failed"
        elif leader == rates[0]:
            new, told = rates[0] / 10, f"the best rate was the lowest, {rates[0]:.3g}"
        elif leader == rates[-1]:
            new, told = rates[-1] * 10, f"the best rate was the highest, {rates[-1]:.3g}"
        else:
            return notes
        new = float(f"{new:.4g}")
        if not limits[0] * 0.999 <= new <= limits[1] * 1.001:
            return [*notes, f"coarse: {told}, at the limit of what may be tried: widen `limits`"]
        if not purse.try_out([new], "coarse"):
            return [*notes, f"coarse: {told}, and the budget does not pay for another"]
        notes.append(f"coarse: {told}, so {new:.3g} was tried too")


def _answer(purse: Purse, limits: tuple[float, float], notes: list[str]) -> Answer:
    """Somewhat below the bottom of the curve; trained as far as there is money."""
    lr = estimate_optimum(purse.curve, purse.start)
    if math.isinf(purse.curve[min(purse.curve)]):  # all failed, and no money to go on below
        lr = min(purse.curve) / NEIGHBOUR
    lr = float(f"{min(max(lr, limits[0]), limits[1]):.3g}")
    while purse.go_on([lr], "answer"):
        if math.isfinite(purse.longer[lr]) or lr / NEIGHBOUR < limits[0]:
            break
        notes.append(f"{lr:.3g} failed within {purse.plan.long} steps: stepped down")
        lr = float(f"{lr / NEIGHBOUR:.3g}")
    checks = table(pd.DataFrame(columns=list(CHECKS)), CHECKS)
    if purse.plan.verify and math.isfinite(purse.longer.get(lr, math.inf)):
        checks = purse.finish(lr)
        if not checks["passed"].all():
            lower = float(f"{lr / NEIGHBOUR:.3g}")
            notes.append(
                f"{lr:.3g} was unstable over {purse.steps} steps: stepped down to {lower:.3g}, "
                "which was not trained to the end"
            )
            lr = lower
    passed = len(checks) > 0 and bool(((checks["lr"] == lr) & checks["passed"]).all())
    if not purse.longer:
        raise SearchError(
            f"the budget of {purse.plan.updates} updates went into growing the grid from "
            f"{min(purse.stages):.2g} to {max(purse.stages):.2g}, and left nothing for longer "
            "runs. Give a larger budget, or a coarse grid nearer to the best rate."
        )
    if not any(math.isfinite(level) for level in purse.longer.values()):
        raise purse.hopeless(purse.plan.long, "lower `limits`, or give a larger budget")
    purse.close()
    return Answer(lr, reach(lr, purse.levels | purse.longer), passed, checks, notes)
