"""The search within a budget: short runs, longer ones around the best, and an answer between."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lrtune.analysis.curves import FAILED_OUTCOMES, end_level_stderr
from lrtune.analysis.rate_estimate import (
    NEIGHBOUR,
    estimate_optimum,
    leading_rate,
    likely_range,
    mask_unstable,
    rounded,
)
from lrtune.errors import SearchError
from lrtune.results import Trace, concat_traces
from lrtune.results.runs import Cost, Run, grid
from lrtune.results.schema import CHECKS, as_table
from lrtune.training import Evaluate
from lrtune.tuning.planning import Budget, Plan
from lrtune.tuning.rate_history import Answer, Limits, RateHistory, clip, mean_losses, within

# Shares of the long horizon at which runs are measured: the mean of three scatters less.
SEGMENTS = (4 / 6, 5 / 6, 1)


class BudgetSearch:
    """Searches for the best rate within a budget: short runs, then longer ones around the best."""

    def __init__(
        self, evaluate: Evaluate, plan: Plan, seeds: Sequence[int], limits: Limits
    ) -> None:
        self._evaluate, self.plan, self._limits = evaluate, plan, limits
        self.history = RateHistory(plan.long, seeds)  # filled when the search ends
        self.budget = Budget(plan.updates)
        self._short: dict[float, float] = {}  # the loss of each rate after the short horizon
        self._long: dict[float, float] = {}  # and after the long one
        self._levels: dict[str, float] = {}  # the loss of each run after the long horizon
        self._traces: dict[str, Trace] = {}  # the last trace of each run, but for verification
        self._steps: dict[str, int] = {}  # how far each run was trained
        self._resumes = True  # whether `evaluate` goes on with runs that it has trained before
        self._start = self._stderr = math.nan

    def run(self, coarse: Sequence[float]) -> Answer:
        """Coarse grid, rates between, longer runs, answer, verification, as the budget allows."""
        if not self._train_short(coarse, "coarse"):
            raise SearchError(
                f"the budget of {self.plan.updates} updates does not pay for the coarse grid and "
                "the choice of an engine. Give a larger budget, or choose the engine `loop`."
            )
        self.history.grow(
            lambda: leading_rate(self._short, self._stderr),
            lambda rate: self._train_short([rate], "coarse"),
            self._limits,
        )
        best = self._leader()
        for rate in within([best / NEIGHBOUR, best * NEIGHBOUR], self._limits):
            self._train_short([rate], "between")  # each alone, so that it can go on alone
        self._extend_around(self._leader())
        lr = self._train_answer()
        lr, checks = self._verify(lr)
        if not self._long:
            raise SearchError(
                f"the budget of {self.plan.updates} updates went into growing the grid from "
                f"{min(self.history.stages):.2g} to {max(self.history.stages):.2g}, and left "
                "nothing for longer runs. Give a larger budget, or a coarse grid nearer to the "
                "best rate."
            )
        if not any(math.isfinite(loss) for loss in self._long.values()):
            raise self.history.failure(self.plan.long, "lower `limits`, or give a larger budget")
        self._fill_history()
        if rates := self.history.given_up:
            stopped = f"not trained beyond {self.plan.short} steps, as other rates were better"
            self.history.notes.insert(0, f"{stopped}: {rates}")
        interval = likely_range(lr, self._short | self._long)
        return Answer(lr, interval, self._long, self._start, checks)

    def _leader(self) -> float:
        """The rate to go on from after the short runs."""
        leader = leading_rate(self._short, self._stderr)
        if leader is None:
            raise self.history.failure(self.plan.short)
        return leader

    def _extend_around(self, best: float) -> None:
        """Train the best rate and its neighbours longer, until the best is among the inner ones."""
        while True:
            around = [best / NEIGHBOUR, best, best * NEIGHBOUR]
            around = [self.history.nearest(rate) for rate in within(around, self._limits)]
            if not self._extend(around, "longer"):
                self.history.notes.append(
                    f"the budget does not pay for longer runs on both sides of {best:.3g}, so the "
                    "best rate may lie beyond: give a larger budget"
                )
                return
            losses = mask_unstable(self._long)
            leader = min(around, key=losses.__getitem__)
            if math.isinf(losses[leader]):
                self.history.notes.append(
                    f"rates from {around[0]:.3g} on failed within {self.plan.long} steps"
                )
                leader = self._step_down(best)
            if leader == best or leader < self._limits[0]:
                return
            best = leader

    def _step_down(self, lr: float) -> float:
        """The next lower decade that does not fail in a longer run, one at a time."""
        while lr / 10 >= self._limits[0] * 0.999:
            lr = self.history.nearest(rounded(lr / 10, 4))
            if not self._extend([lr], "longer") or math.isfinite(self._long[lr]):
                break
        return lr

    def _train_answer(self) -> float:
        """The estimated optimum, trained as far as the budget pays, and lowered while it fails."""
        losses = self._long or self._short
        lowest = min(losses)
        failed = math.isinf(losses[lowest])  # then so did all: there is nothing to estimate from
        lr = lowest / NEIGHBOUR if failed else estimate_optimum(losses, self._start)
        lr = clip(lr, self._limits)
        while self._extend([lr], "answer"):
            if math.isfinite(self._long[lr]) or lr / NEIGHBOUR < self._limits[0]:
                break
            lower = rounded(lr / NEIGHBOUR)
            self.history.notes.append(
                f"{lr:.3g} failed within {self.plan.long} steps: lowered to {lower}"
            )
            lr = lower
        return lr

    def _verify(self, lr: float) -> tuple[float, pd.DataFrame]:
        """The rate after training its first seed to the end, if planned, and the checks of that."""
        checks = as_table([], CHECKS)
        first = grid([lr], self.history.seeds[:1])
        affordable = self._price(first, self.plan.steps) <= self.budget.remaining
        if self.plan.verify and affordable and math.isfinite(self._long.get(lr, 0.0)):
            checks = self.history.check(self._train(first, self.plan.steps, "verify"))
            if not checks["passed"].all():
                lower = rounded(lr / NEIGHBOUR)
                self.history.notes.append(
                    f"{lr:.3g} was unstable over {self.plan.steps} steps: lowered to {lower:.3g}, "
                    "which was not trained to the end"
                )
                lr = lower
        return lr, checks

    def _train_short(self, rates: Sequence[float], stage: str) -> bool:
        """Train new rates for the short horizon; False where the budget does not pay for it."""
        new = self.history.untrained(rates)
        runs = grid(new, self.history.seeds)
        if not self._pays(runs, self.plan.short):
            return False
        if runs:
            trace = self._train(runs, self.plan.short, stage)
            self.history.stages |= dict.fromkeys(new, stage)
            self._short |= _by_rate(mean_losses([trace]), runs)
            if math.isnan(self._start):
                losses = trace.frame.groupby("run")["loss"]
                self._start = float(losses.first().median())
                stderr = float(losses.agg(end_level_stderr).median())
                self._stderr = stderr / math.sqrt(len(self.history.seeds))
        return True

    def _extend(self, rates: Sequence[float], stage: str) -> bool:
        """Train rates for the long horizon; False where the budget does not pay for all of them."""
        failed = [rate for rate in rates if math.isinf(self._short.get(rate, 0.0))]
        self._long |= dict.fromkeys(failed, math.inf)
        new = [rate for rate in rates if rate not in self._long]
        runs = going = grid(new, self.history.seeds)
        missing = sum(self.plan.long - self._steps.get(run.name, 0) for run in runs)
        self._resumes = self._resumes and self._price(runs, self.plan.long) <= missing
        if not self._pays(runs, self.plan.long):
            return False
        for rate in new:
            self.history.stages.setdefault(rate, stage)
        # Where every call begins anew, only the last segment is worth its price.
        shares = SEGMENTS if self._resumes else SEGMENTS[-1:]
        traces: list[Trace] = []
        for until in sorted({round(self.plan.long * share) for share in shares}):
            if not going or (traces and not self._pays(going, until)):
                break
            traces.append(self._train(going, until, stage))
            out = traces[-1].runs.set_index("run")["outcome"].isin(FAILED_OUTCOMES)
            going = [run for run in going if not out[run.name]]
        if traces:
            levels = mean_losses(traces)
            self._levels |= levels.to_dict()
            self._long |= _by_rate(levels, runs)
        return True

    def _pays(self, runs: Sequence[Run], until: int) -> bool:
        """Whether the budget pays for these runs up to a step, and for the verification after."""
        verification = self.plan.steps - self.plan.long * self._resumes
        left = self.budget.remaining - verification * self.plan.verify
        return self._price(runs, until) <= left

    def _price(self, runs: Sequence[Run], until: int) -> int:
        """The most updates that training these runs up to a step may take."""
        price = getattr(self._evaluate, "price", None)
        if price is not None:
            return sum(price(runs, self.plan.steps, until))
        # A plain function that reports no costs goes on, as `Evaluate` says.
        anew = any(len(trace.costs) for trace in self._traces.values())
        return sum(until - (0 if anew else self._steps.get(run.name, 0)) for run in runs)

    def _train(self, runs: Sequence[Run], until: int, stage: str) -> Trace:
        """Train runs up to a step, and charge the cost to the budget."""
        price, verify = self._price(runs, until), stage == "verify"
        validate = 0 if verify else None
        trace = self._evaluate(runs, self.plan.steps, stage=stage, until=until, validate=validate)
        self.budget.charge(stage, trace.cost if len(trace.costs) else Cost(price, 0, 0.0))
        self._steps |= {run.name: until for run in runs}
        if not verify:  # rates are compared over equal lengths
            self._traces |= {run.name: trace for run in runs}
        return trace

    def _fill_history(self) -> None:
        """Add every run to the history; those without a long run count as given up."""
        names = [run.name for run in grid(list(self.history.stages), self.history.seeds)]
        trace = concat_traces([self._traces[name].select([name]) for name in names])
        levels = {name: level for name, level in self._levels.items() if math.isfinite(level)}
        self.history.add(trace, [name for name in names if name not in levels], levels)


def _by_rate(levels: pd.Series, runs: Sequence[Run]) -> dict[float, float]:
    """The mean loss of each rate over its seeds."""
    rates = dict.fromkeys(run.lr for run in runs)
    return {r: float(np.mean([levels[run.name] for run in runs if run.lr == r])) for r in rates}
