"""Heats: candidates trained over one horizon, all as one cohort."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lrtune.analysis.curves import FAILED, end_level
from lrtune.results import Trace, joined
from lrtune.results.runs import Run, Shape
from lrtune.training import Evaluate


@dataclass(frozen=True)
class Candidate:
    """One schedule with one set of parameters at one peak rate."""

    entrant: str
    number: int
    shape: Shape
    lr: float

    @property
    def key(self) -> str:
        """Tells it from the others."""
        return f"{self.entrant}#{self.number}@{self.lr:g}"


@dataclass(frozen=True, eq=False)
class Heat:
    """Candidates trained over one horizon.

    Attributes:
        horizon: In steps.
        candidates: By key.
        scores: Keys as index, seeds as columns; NaN where a run failed.
        trace: What was recorded.
    """

    horizon: int
    candidates: dict[str, Candidate]
    scores: pd.DataFrame
    trace: Trace

    @property
    def worst(self) -> pd.Series:
        """Each candidate's score in its worst seed, by which it is selected; infinite if it failed.

        The mean would select rates that are fast in most seeds and diverge in the next.
        """
        return self.scores.fillna(np.inf).max(axis=1)

    @property
    def start(self) -> float:
        """The loss before training."""
        return float(self.trace.frame.groupby("run")["loss"].first().median())

    def curve(self, entrant: str) -> dict[float, float]:
        """An entrant's mean score by rate; infinite where a run failed."""
        means = self.scores.mean(axis=1, skipna=False).fillna(np.inf)
        mine = {key: one.lr for key, one in self.candidates.items() if one.entrant == entrant}
        return {rate: float(means[key]) for key, rate in mine.items()}

    def best(self) -> dict[str, str]:
        """The key of each entrant's best candidate; failed ones only where there is no other."""
        first: dict[str, str] = {}
        for key in self.worst.sort_values(kind="stable").index:
            first.setdefault(self.candidates[key].entrant, key)
        return first

    def with_(self, other: "Heat") -> "Heat":
        """Both, where they ran over the same horizon on the same seeds; a candidate counts once."""
        scores = pd.concat([self.scores, other.scores])
        return Heat(
            self.horizon,
            self.candidates | other.candidates,
            scores[~scores.index.duplicated()],
            joined([self.trace, other.trace]),
        )


class Heats:
    """Trains candidates, and remembers every heat and what it cost."""

    def __init__(self, evaluate: Evaluate, seeds: Sequence[int]) -> None:
        """`seeds` are for selection."""
        self._evaluate, self.seeds = evaluate, list(seeds)
        self.all: list[Heat] = []
        self.selection: list[Heat] = []

    def run(
        self, candidates: Sequence[Candidate], horizon: int, seeds: Sequence[int], stage: str
    ) -> Heat:
        """Train every candidate with every seed, as one cohort."""
        pairs = [(one, seed) for one in candidates for seed in seeds]
        runs = [Run(f"{one.key}/{seed}", one.lr, one.shape, seed) for one, seed in pairs]
        trace = self._evaluate(runs, horizon, stage=stage)
        scores = scored(trace).to_numpy().reshape(len(candidates), len(seeds))
        by_key = pd.DataFrame(scores, index=[one.key for one in candidates], columns=list(seeds))
        heat = Heat(horizon, {one.key: one for one in candidates}, by_key, trace)
        self.all.append(heat)
        return heat

    def select(self, candidates: Sequence[Candidate], horizon: int, stage: str) -> Heat:
        """The same on the seeds for selection: a heat that ranks schedules."""
        heat = self.run(candidates, horizon, self.seeds, stage)
        self.selection.append(heat)
        return heat

    def over(self, horizon: int) -> Heat:
        """All heats of selection over one horizon, as one."""
        return functools.reduce(Heat.with_, (h for h in self.selection if h.horizon == horizon))


def scored(trace: Trace) -> pd.Series:
    """The score of each run, in the order of `trace.runs`; NaN where it failed."""
    runs = trace.runs.set_index("run")
    validated = trace.validations.set_index("run")["loss"]
    if len(validated):
        scores = validated.reindex(runs.index)
    else:
        scores = trace.frame.groupby("run", sort=False)["loss"].agg(end_level).reindex(runs.index)
    return scores.mask(runs["outcome"].isin(FAILED))
