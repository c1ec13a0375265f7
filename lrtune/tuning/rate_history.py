"""What a search has trained so far, and how the rates stand."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import pandas as pd

from lrtune.analysis.curves import FAILED, Outcome, end_level, noise
from lrtune.analysis.paired import PairedResult, compare_paired
from lrtune.errors import SearchError
from lrtune.results import Trace
from lrtune.results.runs import grid
from lrtune.results.schema import CHECKS, CURVES, RATES, SCORES
from lrtune.results.serialization import table
from lrtune.training import Evaluate

RUNG = 1 / 4
"""Where hopeless rates are given up, as a share of the short runs."""

SURE = 0.99
"""Coverage of all intervals at once by which a rate is behind: what is given up is lost."""

NEAR = 3
"""A rate is given up for being behind only if it is higher than the leader, or lower by this."""


class Book:
    """What has been trained: it trains a rate at most once, and scores it over the seeds."""

    def __init__(self, evaluate: Evaluate, steps: int, horizon: int, seeds: Sequence[int]) -> None:
        """Nothing trained yet."""
        self._evaluate, self.steps = evaluate, steps
        self.horizon, self.seeds = horizon, list(seeds)
        self.stages: dict[float, str] = {}
        self._early: dict[float, list[float]] = {}
        self._scores: list[pd.DataFrame] = []
        self._curves: list[pd.DataFrame] = []

    def train(self, rates: Iterable[float], stage: str) -> None:
        """Train those of the rates that are new, for the horizon, or until one is hopeless."""
        new: list[float] = []
        for rate in rates:
            if not self.knows(rate, beside=new):
                new.append(rate)
        if not new:
            return
        runs = grid(new, self.seeds)
        early = self._evaluate(runs, self.steps, stage=stage, until=self.rung, validate=False)
        self.stages |= dict.fromkeys(new, stage)
        kept = self._promising(early, new)
        given_up = [run.name for run in runs if run.lr not in kept]
        if given_up:
            self._write(retired(early.only(given_up)))
        if kept:
            going = [run for run in runs if run.lr in kept]
            self._write(self._evaluate(going, self.steps, stage=stage, until=self.horizon))

    @property
    def rung(self) -> int:
        """The step at which hopeless rates are given up."""
        return max(1, round(self.horizon * RUNG))

    @property
    def given_up(self) -> list[float]:
        """The rates that were, though they did not fail."""
        scores = self.scores
        failed = set(scores.loc[scores["outcome"].isin(FAILED), "lr"])
        retired = set(scores.loc[scores["outcome"] == Outcome.RETIRED.name, "lr"])
        return sorted(retired - failed)

    def check(self, rate: float) -> pd.DataFrame:
        """Train a rate for the full length: one row per seed, and whether it stayed stable."""
        runs = grid([rate], self.seeds)
        trace = self._evaluate(runs, self.steps, stage="verify", validate=False)
        return checked(trace, self.horizon)

    def _promising(self, early: Trace, rates: Sequence[float]) -> set[float]:
        """The rates that go on from the rung.

        Given up is what failed, and what is behind the leader by more than chance with a higher
        rate: the higher of two rates is ahead early, if ever. A lower rate may catch up, unless it
        is much lower. One seed cannot tell what chance is.
        """
        failed = early.runs.set_index("run")["outcome"].isin(FAILED)
        levels = early.frame.groupby("run", sort=False)["loss"].agg(end_level).mask(failed)
        for rate in rates:
            self._early[rate] = [levels[run.name] for run in grid([rate], self.seeds)]
        scores = pd.DataFrame.from_dict(self._early, orient="index", columns=self.seeds)
        standing = compare_paired(scores, SURE, family=True)
        if standing is None:
            return set()
        leader = float(cast("float", standing.leader))
        behind = (
            standing.frame["low"] > 0 if len(self.seeds) > 1 else standing.frame["low"] > np.inf
        )
        finite = standing.frame["mean"].notna()
        return {
            rate
            for rate in rates
            if finite[rate] and (leader / NEAR <= rate <= leader or not behind[rate])
        }

    def _write(self, trace: Trace, scores: pd.DataFrame | None = None) -> None:
        self._scores.append(scored(trace) if scores is None else scores)
        rows = trace.frame.drop(columns="lr").merge(trace.runs[["run", "lr", "seed"]], on="run")
        self._curves.append(table(rows, CURVES))

    def knows(self, rate: float, beside: Sequence[float] = ()) -> bool:
        """Whether this rate, up to rounding, has been trained, or is one of those beside."""
        return any(math.isclose(rate, known, rel_tol=1e-3) for known in (*self.stages, *beside))

    @property
    def scores(self) -> pd.DataFrame:
        """One row per rate and seed."""
        return pd.concat(self._scores, ignore_index=True)

    @property
    def curves(self) -> pd.DataFrame:
        """One row per rate, seed and step."""
        return pd.concat(self._curves, ignore_index=True)

    @property
    def start(self) -> float:
        """The loss before training."""
        return float(self.scores["start"].median())

    @property
    def curve(self) -> dict[float, float]:
        """What the answer is read from: by rate, the mean of validation and training loss.

        What was given up counts as if it had learned nothing.
        """
        scores = self.scores
        levels = scores[["train", "val"]].mean(axis=1)
        levels = levels.mask(scores["outcome"] == Outcome.RETIRED.name, self.start)
        levels = levels.mask(scores["outcome"].isin(FAILED), math.inf)
        return {float(rate): loss for rate, loss in levels.groupby(scores["lr"]).mean().items()}

    def standing(self) -> PairedResult | None:
        """How the rates stand against their best; None when all of them failed."""
        return compare_paired(self.scores.pivot_table("score", "lr", "seed", dropna=False))

    def leader(self) -> float:
        """The rate with the best mean score."""
        standing = self.standing()
        if standing is None:
            raise self.hopeless(self.horizon)
        return float(cast("float", standing.leader))

    def hopeless(self, steps: int, way_out: str = "or lower `limits`") -> SearchError:
        """What to say when none of the rates trains for so many steps."""
        return SearchError(
            f"no rate from {min(self.stages):.2g} to {max(self.stages):.2g} trains for {steps} "
            "steps without diverging in some seed. Look for outliers in the data, normalise the "
            f"inputs, clip the gradients, {way_out}."
        )

    def rates(self, interval: tuple[float, float]) -> pd.DataFrame:
        """One row per rate, with its verdict in the lecture's words.

        Good is what lies in the interval; diverged is what failed in some seed, or ended above the
        good rates no better than it began.
        """
        standing = self.standing()
        assert standing is not None, "a search that has an answer has a leader"
        by_rate = self.scores.assign(failed=self.scores["outcome"].isin(FAILED)).groupby("lr")
        frame = standing.frame.assign(stage=pd.Series(self.stages), failed=by_rate["failed"].sum())
        lost = (frame["failed"] > 0) | (by_rate["train"].mean() >= by_rate["start"].mean())
        frame["verdict"] = [verdict(rate, interval, lost=lost[rate]) for rate in frame.index]
        frame.loc[frame["failed"] > 0, "verdict"] = "diverged"
        return table(frame.reset_index(names="lr"), RATES)


def verdict(rate: float, interval: tuple[float, float], *, lost: bool = False) -> str:
    """In the lecture's words: too low, good, high, diverged.

    >>> [verdict(rate, (0.01, 0.02)) for rate in (0.001, 0.01, 0.1)]
    ['too low', 'good', 'high']
    """
    if rate < interval[0]:
        return "too low"
    if rate <= interval[1]:
        return "good"
    return "diverged" if lost else "high"


def scored(trace: Trace) -> pd.DataFrame:
    """One row per run: its outcome and its score, NaN where it failed or was given up."""
    rows = []
    val = trace.validations.set_index("run")["loss"]
    losses = trace.frame.groupby("run", sort=False)["loss"]
    for run in trace.runs.itertuples():
        loss = losses.get_group(run.run).to_numpy()
        train, validation = end_level(loss), float(val.get(run.run, np.nan))
        lost = run.outcome in FAILED or run.outcome == Outcome.RETIRED.name
        score = np.nan if lost else validation if len(val) else train
        rows.append((run.lr, run.seed, run.outcome, loss[0], train, validation, score))
    return table(pd.DataFrame(rows, columns=list(SCORES)), SCORES)


def blended(traces: Sequence[Trace]) -> pd.Series:
    """By run: the mean of validation and training loss, over several rungs; infinite if it failed.

    The training loss of the last fifth of a run scatters less than its validation loss, which
    tells what it is worth; over short runs their mean finds better rates than either.
    """
    levels = []
    for trace in traces:
        losses = trace.frame.groupby("run", sort=False)["loss"].agg(end_level)
        losses = losses.mask(trace.runs.set_index("run")["outcome"].isin(FAILED))
        val = trace.validations.set_index("run")["loss"]
        levels.append((losses + val.reindex(losses.index)) / 2 if len(val) else losses)
    mean = pd.concat(levels, axis=1).mean(axis=1, skipna=False)
    return mean.fillna(math.inf)


def held(loss: pd.Series, outcome: str, horizon: int) -> tuple[float, float, bool]:
    """Training loss at the end of the short and of the long run, and whether it held."""
    losses = loss.to_numpy()
    short, long = end_level(losses[:horizon]), end_level(losses)
    window = max(1, len(losses) // 5)
    spread = noise(losses[-window:]) * math.sqrt(1 / window + 5 / horizon)
    return short, long, outcome not in FAILED and long <= short + 3 * spread


def checked(trace: Trace, horizon: int) -> pd.DataFrame:
    """One row per run of the full length: columns `CHECKS`."""
    losses = trace.frame.groupby("run", sort=False)["loss"]
    rows = [
        (run.lr, run.seed, run.outcome, *held(losses.get_group(run.run), run.outcome, horizon))
        for run in trace.runs.itertuples()
    ]
    return table(pd.DataFrame(rows, columns=list(CHECKS)), CHECKS)


def retired(trace: Trace) -> Trace:
    """The runs of the trace that did not fail were given up at its end."""
    outcome = trace.runs["outcome"].where(trace.runs["outcome"].isin(FAILED), Outcome.RETIRED.name)
    return dataclasses.replace(trace, runs=trace.runs.assign(outcome=outcome))
