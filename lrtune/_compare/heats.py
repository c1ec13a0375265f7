"""Heats: candidates trained over one horizon, all as one cohort."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lrtune._cohort import Evaluate
from lrtune.curves import FAILED, end_level
from lrtune.results import Trace, joined
from lrtune.runs import Run, Shape


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
        return f"{self.entrant}#{self.number}"


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

    def best(self) -> dict[str, str]:
        """The key of each entrant's best candidate; failed ones only where there is no other."""
        first: dict[str, str] = {}
        for key in self.worst.sort_values(kind="stable").index:
            first.setdefault(self.candidates[key].entrant, key)
        return first

    def with_(self, other: "Heat") -> "Heat":
        """Both, where they ran over the same horizon on the same seeds."""
        return Heat(
            self.horizon,
            self.candidates | other.candidates,
            pd.concat([self.scores, other.scores]),
            joined([self.trace, other.trace]),
        )


class Heats:
    """Trains candidates, and remembers every heat and what it cost."""

    def __init__(self, evaluate: Evaluate, seeds: Sequence[int]) -> None:
        """`seeds` are for selection."""
        self._evaluate, self.seeds = evaluate, list(seeds)
        self.all: list[Heat] = []

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

    @property
    def selection(self) -> list[Heat]:
        """The heats on the seeds for selection."""
        return [heat for heat in self.all if list(heat.scores.columns) == self.seeds]

    def over(self, horizon: int) -> Heat:
        """All heats of selection over one horizon, as one."""
        return functools.reduce(Heat.with_, (h for h in self.selection if h.horizon == horizon))


def scored(trace: Trace) -> pd.Series:
    """The score of each run, in the order of `trace.runs`; NaN where it failed."""
    runs = trace.runs.set_index("run")
    validated = trace.evaluated.set_index("run")["loss"]
    if len(validated):
        scores = validated.reindex(runs.index)
    else:
        scores = trace.frame.groupby("run", sort=False)["loss"].agg(end_level).reindex(runs.index)
    return scores.mask(runs["outcome"].isin(FAILED))
