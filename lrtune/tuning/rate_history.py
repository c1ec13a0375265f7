"""The history of a search: every rate trained so far, its losses, and how the rates compare."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pandas as pd

from lrtune.analysis.curves import FAILED_OUTCOMES, Outcome, end_level, noise
from lrtune.analysis.paired import PairedResult, compare_paired
from lrtune.analysis.rate_estimate import rounded
from lrtune.errors import SearchError
from lrtune.results import Trace
from lrtune.results.runs import validation_losses
from lrtune.results.schema import CHECKS, CURVES, RATES, SCORES, as_table

SURE = 0.99  # coverage of all intervals by which a rate is behind: giving up a good one is costly
NEAR = 3  # a lower rate may catch up with the leader, unless it is lower by more than this factor
SLACK = 1e-3  # rates this close are the same rate, as they are rounded to three or four digits
Limits = tuple[float, float]  # the lowest and the highest rate to try


@dataclass(frozen=True, eq=False)
class Answer:
    """The rate that a search found, and what it was read from."""

    lr: float
    interval: tuple[float, float]  # 90 % interval of the best rate
    losses: dict[float, float]  # by rate; infinite where a rate failed
    start: float  # the loss before training
    checks: pd.DataFrame  # one row per run of the full length: columns `CHECKS`

    @property
    def verified(self) -> bool:
        """Whether the rate was trained for the full length, and stayed stable in every run."""
        passed = self.checks.loc[self.checks["lr"] == self.lr, "passed"]
        return bool(len(passed) and passed.all())


class RateHistory:
    """The losses of every rate that a search has trained, and how these rates compare."""

    def __init__(self, horizon: int, seeds: Sequence[int]) -> None:
        self.horizon, self.seeds = horizon, list(seeds)
        self.stages: dict[float, str] = {}  # each rate to the stage in which it was first trained
        self.notes: list[str] = []  # sentences on what happened on the way
        self._scores: list[pd.DataFrame] = []
        self._curves: list[pd.DataFrame] = []

    def untrained(self, rates: Iterable[float]) -> list[float]:
        """Those of the rates that were not trained yet, each once."""
        new: list[float] = []
        for rate in rates:
            if not any(math.isclose(rate, r, rel_tol=SLACK) for r in (*self.stages, *new)):
                new.append(rate)
        return new

    def nearest(self, rate: float) -> float:
        """The trained rate that equals this one up to rounding; else the rate itself."""
        return next((r for r in self.stages if math.isclose(r, rate, rel_tol=SLACK)), rate)

    def grow(
        self, leader: Callable[[], float | None], train: Callable[[float], bool], limits: Limits
    ) -> None:
        """Add decades to the coarse grid while the leader is at its edge and `train` succeeds."""
        while True:
            best, lowest, highest = leader(), min(self.stages), max(self.stages)
            if best is None:
                rate, why = lowest / 10, "every coarse rate failed"
            elif best == lowest:
                rate, why = lowest / 10, f"the lowest coarse rate, {lowest:.3g}, was the best"
            elif best == highest:
                rate, why = highest * 10, f"the highest coarse rate, {highest:.3g}, was the best"
            else:
                return
            rate = rounded(rate, 4)
            if not within([rate], limits):
                self.notes.append(f"{why}, and lies at a limit: widen `limits`")
                return
            if not train(rate):
                self.notes.append(f"{why}, and the budget does not pay for {rate:.3g}")
                return
            self.notes.append(f"{why}: added {rate:.3g}")

    def add(
        self, trace: Trace, given_up: Sequence[str] = (), scores: Mapping[str, float] | None = None
    ) -> None:
        """Add runs, and mark those given up; scores are the final losses if `scores` is None."""
        runs, val = trace.runs.set_index("run"), validation_losses(trace.validations)
        losses = trace.frame.groupby("run", sort=False)["loss"]
        failed = runs["outcome"].isin(FAILED_OUTCOMES)
        outcome = runs["outcome"].mask(runs.index.isin(given_up) & ~failed, Outcome.RETIRED.name)
        lost = failed | (outcome == Outcome.RETIRED.name)
        runs = runs.assign(start=losses.first(), train=losses.agg(end_level), val=val)
        final = runs["val" if len(val) else "train"].mask(lost)
        score = final if scores is None else pd.Series(scores, dtype="float64")
        self._scores.append(as_table(runs.assign(outcome=outcome, score=score), SCORES))
        rows = trace.frame.drop(columns="lr").merge(trace.runs[["run", "lr", "seed"]], on="run")
        self._curves.append(as_table(rows, CURVES))

    def check(self, trace: Trace) -> pd.DataFrame:
        """One row per run of the full length, and whether it stayed stable: columns `CHECKS`."""
        rows = []
        losses_of = trace.frame.groupby("run", sort=False)["loss"]
        for run in trace.runs.itertuples():
            losses = losses_of.get_group(run.run).to_numpy()
            short, long = end_level(losses[: self.horizon]), end_level(losses)
            window = max(1, len(losses) // 5)
            spread = noise(losses[-window:]) * math.sqrt(1 / window + 5 / self.horizon)
            # Stable: the loss at the end is above that at the horizon by no more than noise.
            passed = run.outcome not in FAILED_OUTCOMES and long <= short + 3 * spread
            rows.append((run.lr, run.seed, run.outcome, short, long, passed))
        return as_table(rows, CHECKS)

    @property
    def scores(self) -> pd.DataFrame:
        """One row per rate and seed: columns `SCORES`."""
        return pd.concat(self._scores, ignore_index=True)

    @property
    def curves(self) -> pd.DataFrame:
        """One row per rate, seed and step: columns `CURVES`."""
        return pd.concat(self._curves, ignore_index=True)

    @property
    def start(self) -> float:
        """The loss before training."""
        return float(self.scores["start"].median())

    @property
    def losses(self) -> dict[float, float]:
        """The mean of validation and training loss of each rate; infinite where it failed."""
        scores = self.scores
        levels = scores[["train", "val"]].mean(axis=1)
        # A rate that was given up counts as if it had learned nothing.
        levels = levels.mask(scores["outcome"] == Outcome.RETIRED.name, self.start)
        levels = levels.mask(scores["outcome"].isin(FAILED_OUTCOMES), math.inf)
        return {float(rate): loss for rate, loss in levels.groupby(scores["lr"]).mean().items()}

    @property
    def given_up(self) -> str:
        """The rates that were given up though they did not fail, as text."""
        lr, outcome = self.scores["lr"], self.scores["outcome"]
        failed = set(lr[outcome.isin(FAILED_OUTCOMES)])
        retired = set(lr[outcome == Outcome.RETIRED.name])
        return ", ".join(f"{rate:.3g}" for rate in sorted(retired - failed))

    @property
    def best(self) -> float | None:
        """The rate with the lowest mean score; None where every rate failed."""
        paired = self._compare()
        return None if paired is None else float(cast("float", paired.leader))

    def leader(self) -> float:
        """The rate with the lowest mean score; a SearchError where every rate failed."""
        best = self.best
        if best is None:
            raise self.failure(self.horizon)
        return best

    def _compare(self) -> PairedResult | None:
        return compare_paired(self.scores.pivot_table("score", "lr", "seed", dropna=False))

    def failure(self, steps: int, way_out: str = "or lower `limits`") -> SearchError:
        """The error to raise where no rate trains for so many steps."""
        return SearchError(
            f"no rate from {min(self.stages):.2g} to {max(self.stages):.2g} trains for {steps} "
            "steps without diverging in some seed. Look for outliers in the data, normalise the "
            f"inputs, clip the gradients, {way_out}."
        )

    def table(self, interval: tuple[float, float]) -> pd.DataFrame:
        """One row per rate, with its verdict: columns `RATES`."""
        paired = self._compare()
        assert paired is not None, "a search that has an answer has a leader"
        scores = self.scores.assign(failed=self.scores["outcome"].isin(FAILED_OUTCOMES))
        by_rate = scores.groupby("lr")
        frame = paired.frame.assign(stage=pd.Series(self.stages), failed=by_rate["failed"].sum())
        # A rate above the interval that ended no lower than it began has diverged, too.
        lost = by_rate["train"].mean() >= by_rate["start"].mean()
        frame["verdict"] = [verdict(rate, interval, lost=lost[rate]) for rate in frame.index]
        frame.loc[frame["failed"] > 0, "verdict"] = "diverged"
        return as_table(frame.reset_index(names="lr"), RATES)


def verdict(rate: float, interval: tuple[float, float], *, lost: bool = False) -> str:
    """The verdict on a rate: too low, good, high or diverged.

    >>> [verdict(rate, (0.01, 0.02)) for rate in (0.001, 0.01, 0.1)]
    ['too low', 'good', 'high']
    """
    if rate < interval[0]:
        return "too low"
    if rate <= interval[1]:
        return "good"
    return "diverged" if lost else "high"


def within(rates: Iterable[float], limits: Limits, digits: int = 4) -> list[float]:
    """Those of the rates that lie within the limits, rounded to so many digits.

    >>> within([0.001, 0.0316228, 10.0], (0.01, 1.0))
    [0.03162]
    """
    near = (rounded(rate, digits) for rate in rates)
    return [rate for rate in near if limits[0] * 0.999 <= rate <= limits[1] * 1.001]


def clip(rate: float, limits: Limits) -> float:
    """The nearest rate within the limits, rounded to three digits."""
    return rounded(min(max(rate, limits[0]), limits[1]))


def promising(levels: pd.DataFrame) -> set[float]:
    """The rates that may still win, from losses after a few steps: rate x seed, NaN if failed."""
    paired = compare_paired(levels, SURE, family=True)
    if paired is None:
        return set()
    leader = float(cast("float", paired.leader))
    finite = paired.frame["mean"].notna()
    # One seed cannot show what chance is.
    behind = (paired.frame["low"] > 0) & (levels.shape[1] > 1)
    # The higher of two rates is ahead early, if ever; a much lower one is too slow to catch up.
    catches_up = (paired.frame.index >= leader / NEAR) & (paired.frame.index <= leader)
    return set(paired.frame.index[finite & (catches_up | ~behind)])


def end_levels(trace: Trace) -> pd.Series:
    """The training loss at the end of each run, by name; NaN where it failed."""
    failed = trace.runs.set_index("run")["outcome"].isin(FAILED_OUTCOMES)
    levels = trace.frame.groupby("run")["loss"].agg(end_level)
    return levels.reindex(failed.index).mask(failed)


def mean_losses(traces: Sequence[Trace]) -> pd.Series:
    """The mean of validation and training loss of each run over its traces; inf if it failed."""
    levels = []
    for trace in traces:
        # The training loss of the last fifth scatters less; the validation loss measures what
        # counts. Over short runs their mean finds better rates than either.
        losses, val = end_levels(trace), validation_losses(trace.validations)
        levels.append((losses + val.reindex(losses.index)) / 2 if len(val) else losses)
    return pd.concat(levels, axis=1).mean(axis=1, skipna=False).fillna(math.inf)
