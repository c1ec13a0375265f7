"""The history of a search: every rate trained so far, its losses, and how the rates compare."""

import dataclasses
import math
from collections.abc import Collection, Iterable, Sequence
from typing import cast

import numpy as np
import pandas as pd

from lrtune.analysis.curves import FAILED_OUTCOMES, Outcome, end_level, noise
from lrtune.analysis.ranks import PairedResult, compare_paired
from lrtune.errors import SearchError
from lrtune.results import Trace
from lrtune.results.schema import CHECKS, CURVES, RATES, SCORES, as_table

SURE = 0.99
"""Coverage of all intervals at once by which a rate is behind: giving up a good one is costly."""

NEAR = 3
"""A lower rate may catch up with the leader, unless it is lower by more than this factor."""

SLACK = 1e-3
"""Rates this close are the same rate, as they are rounded to three or four digits."""


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """The rate that a search found.

    Attributes:
        lr: The rate.
        interval: 90 % interval of the best rate.
        losses: The losses that it was read from, by rate; infinite where a rate failed.
        start: The loss before training.
        checks: One row per run of the full length: columns `CHECKS`.
        notes: Sentences on what happened on the way.
    """

    lr: float
    interval: tuple[float, float]
    losses: dict[float, float]
    start: float
    checks: pd.DataFrame
    notes: list[str]

    @property
    def verified(self) -> bool:
        """Whether the rate was trained for the full length, and stayed stable in every run."""
        passed = self.checks.loc[self.checks["lr"] == self.lr, "passed"]
        return bool(len(passed) and passed.all())


class RateHistory:
    """Every rate trained so far, with its losses.

    Args:
        horizon: Steps of the runs that rates are compared by.
        seeds: The seeds that every rate is trained with.

    Attributes:
        stages: Each rate to the stage in which it was first trained.
    """

    def __init__(self, horizon: int, seeds: Sequence[int]) -> None:
        """No rate was trained yet."""
        self.horizon, self.seeds = horizon, list(seeds)
        self.stages: dict[float, str] = {}
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

    def add(self, trace: Trace, scores: pd.DataFrame | None = None) -> None:
        """Add runs with their curves; `scores` are the trace's own when None."""
        self._scores.append(score_runs(trace) if scores is None else scores)
        rows = trace.frame.drop(columns="lr").merge(trace.runs[["run", "lr", "seed"]], on="run")
        self._curves.append(as_table(rows, CURVES))

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
        """The mean of validation and training loss of each rate; infinite where it failed.

        A rate that was given up counts as if it had learned nothing.
        """
        scores = self.scores
        levels = scores[["train", "val"]].mean(axis=1)
        levels = levels.mask(scores["outcome"] == Outcome.RETIRED.name, self.start)
        levels = levels.mask(scores["outcome"].isin(FAILED_OUTCOMES), math.inf)
        return {float(rate): loss for rate, loss in levels.groupby(scores["lr"]).mean().items()}

    @property
    def given_up(self) -> str:
        """The rates that were given up though they did not fail, as text."""
        outcomes = self.scores.groupby("lr")["outcome"]
        rates = [
            f"{rate:.3g}"
            for rate, ended in outcomes
            if (ended == Outcome.RETIRED.name).any() and not ended.isin(FAILED_OUTCOMES).any()
        ]
        return ", ".join(rates)

    @property
    def best(self) -> float | None:
        """The rate with the lowest mean score; None where every rate failed."""
        paired = self._compare()
        return None if paired is None else float(cast("float", paired.leader))

    def leader(self) -> float:
        """The rate with the lowest mean score.

        Raises:
            SearchError: Every rate failed.
        """
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
        """One row per rate, with its verdict: columns `RATES`.

        A rate diverged if it failed with some seed, or lies above the interval and ended no lower
        than it began.
        """
        paired = self._compare()
        assert paired is not None, "a search that has an answer has a leader"
        by_rate = self.scores.assign(failed=self.scores["outcome"].isin(FAILED_OUTCOMES)).groupby(
            "lr"
        )
        frame = paired.frame.assign(stage=pd.Series(self.stages), failed=by_rate["failed"].sum())
        lost = (frame["failed"] > 0) | (by_rate["train"].mean() >= by_rate["start"].mean())
        frame["verdict"] = [verdict(rate, interval, lost=lost[rate]) for rate in frame.index]
        frame.loc[frame["failed"] > 0, "verdict"] = "diverged"
        return as_table(frame.reset_index(names="lr"), RATES)


def verdict(rate: float, interval: tuple[float, float], *, lost: bool = False) -> str:
    """The lecture's word for a rate: too low, good, high or diverged.

    >>> [verdict(rate, (0.01, 0.02)) for rate in (0.001, 0.01, 0.1)]
    ['too low', 'good', 'high']
    """
    if rate < interval[0]:
        return "too low"
    if rate <= interval[1]:
        return "good"
    return "diverged" if lost else "high"


def within(rates: Iterable[float], limits: tuple[float, float], digits: int = 4) -> list[float]:
    """Those of the rates that lie within the limits, rounded to so many digits.

    >>> within([0.001, 0.0316228, 10.0], (0.01, 1.0))
    [0.03162]
    """
    rounded = [float(f"{rate:.{digits}g}") for rate in rates]
    return [rate for rate in rounded if limits[0] * 0.999 <= rate <= limits[1] * 1.001]


def beyond_edge(rates: Collection[float], leader: float | None) -> tuple[float, str] | None:
    """The next decade and the reason to try it, where the best rate is at the edge of the grid.

    Args:
        rates: The coarse grid.
        leader: The best of them; None where all of them failed.

    >>> beyond_edge([0.001, 0.01, 0.1], leader=0.1)
    (1.0, 'the highest coarse rate, 0.1, was the best')
    >>> beyond_edge([0.001, 0.01, 0.1], leader=0.01)
    """
    lowest, highest = min(rates), max(rates)
    if leader is None:
        return float(f"{lowest / 10:.4g}"), "every coarse rate failed"
    if leader == lowest:
        return float(f"{lowest / 10:.4g}"), f"the lowest coarse rate, {lowest:.3g}, was the best"
    if leader == highest:
        return float(f"{highest * 10:.4g}"), f"the highest coarse rate, {highest:.3g}, was the best"
    return None


def promising(levels: pd.DataFrame) -> set[float]:
    """The rates to go on with after a few steps.

    Those given up failed, or are behind the leader by more than chance and will not catch up: the
    higher of two rates is ahead early, if ever, and a much lower one is too slow. One seed cannot
    show what chance is.

    Args:
        levels: Losses so far, rates as index, seeds as columns; NaN where a run failed.
    """
    paired = compare_paired(levels, SURE, family=True)
    if paired is None:
        return set()
    leader = float(cast("float", paired.leader))
    finite = paired.frame["mean"].notna()
    behind = (paired.frame["low"] > 0) & (levels.shape[1] > 1)
    catches_up = (paired.frame.index >= leader / NEAR) & (paired.frame.index <= leader)
    return set(paired.frame.index[finite & (catches_up | ~behind)])


def score_runs(trace: Trace) -> pd.DataFrame:
    """One row per run, its score NaN where it failed or was given up: columns `SCORES`."""
    rows = []
    val = trace.validations.set_index("run")["loss"]
    losses = trace.frame.groupby("run", sort=False)["loss"]
    for run in trace.runs.itertuples():
        loss = losses.get_group(run.run).to_numpy()
        train, validation = end_level(loss), float(val.get(run.run, np.nan))
        lost = run.outcome in FAILED_OUTCOMES or run.outcome == Outcome.RETIRED.name
        score = np.nan if lost else validation if len(val) else train
        rows.append((run.lr, run.seed, run.outcome, loss[0], train, validation, score))
    return as_table(pd.DataFrame(rows, columns=list(SCORES)), SCORES)


def mean_losses(traces: Sequence[Trace]) -> pd.Series:
    """The mean of validation and training loss of each run, over traces that go on; inf if failed.

    The training loss of the last fifth of a run scatters less than its validation loss, which
    measures what counts; over short runs their mean finds better rates than either.
    """
    levels = []
    for trace in traces:
        losses = trace.frame.groupby("run", sort=False)["loss"].agg(end_level)
        losses = losses.mask(trace.runs.set_index("run")["outcome"].isin(FAILED_OUTCOMES))
        val = trace.validations.set_index("run")["loss"]
        levels.append((losses + val.reindex(losses.index)) / 2 if len(val) else losses)
    mean = pd.concat(levels, axis=1).mean(axis=1, skipna=False)
    return mean.fillna(math.inf)


def check_runs(trace: Trace, horizon: int) -> pd.DataFrame:
    """One row per run of the full length, and whether it stayed stable: columns `CHECKS`.

    It did where its loss at the end is not above that at the horizon by more than noise.
    """
    rows = []
    losses_of = trace.frame.groupby("run", sort=False)["loss"]
    for run in trace.runs.itertuples():
        losses = losses_of.get_group(run.run).to_numpy()
        short, long = end_level(losses[:horizon]), end_level(losses)
        window = max(1, len(losses) // 5)
        spread = noise(losses[-window:]) * math.sqrt(1 / window + 5 / horizon)
        passed = run.outcome not in FAILED_OUTCOMES and long <= short + 3 * spread
        rows.append((run.lr, run.seed, run.outcome, short, long, passed))
    return as_table(pd.DataFrame(rows, columns=list(CHECKS)), CHECKS)


def mark_given_up(trace: Trace, names: Collection[str]) -> Trace:
    """The trace with the outcome RETIRED for those of the named runs that did not fail."""
    outcome = trace.runs["outcome"]
    given_up = trace.runs["run"].isin(names) & ~outcome.isin(FAILED_OUTCOMES)
    outcome = outcome.mask(given_up, Outcome.RETIRED.name)
    return dataclasses.replace(trace, runs=trace.runs.assign(outcome=outcome))
