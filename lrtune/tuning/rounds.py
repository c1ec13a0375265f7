"""Rounds: the candidates of a comparison, trained over one horizon as one cohort."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lrtune.analysis.curves import FAILED_OUTCOMES, end_level
from lrtune.results import Trace, concat_traces
from lrtune.results.runs import Run, Shape
from lrtune.training import Evaluate


@dataclass(frozen=True, eq=False)
class Candidate:
    """One schedule with one set of parameters at one peak rate.

    Attributes:
        schedule: The name of the schedule.
        number: Which of its sets of parameters; 0 is the default.
        shape: The schedule with these parameters.
        lr: The peak rate.
    """

    schedule: str
    number: int
    shape: Shape
    lr: float


@dataclass(frozen=True, eq=False)
class Round:
    """Candidates trained over one horizon with the same seeds.

    Attributes:
        horizon: Steps of each run.
        candidates: One per row of `scores`.
        scores: Final losses, one row per candidate, one column per seed; NaN where a run failed.
        trace: The recorded losses.
        rows: The name of each run to the row of its candidate.
    """

    horizon: int
    candidates: list[Candidate]
    scores: pd.DataFrame
    trace: Trace
    rows: dict[str, int]

    @property
    def worst(self) -> pd.Series:
        """The score of each candidate in its worst seed; infinite where a run failed.

        Candidates are selected by it: the mean would select rates that are fast with most seeds
        and diverge with the next.
        """
        return self.scores.fillna(np.inf).max(axis=1)

    @property
    def start(self) -> float:
        """The loss before training."""
        return float(self.trace.frame.groupby("run")["loss"].first().median())

    def loss_by_rate(self, schedule: str) -> dict[float, float]:
        """The mean score of a schedule at each rate; infinite where a run failed."""
        means = self.scores.mean(axis=1, skipna=False).fillna(np.inf)
        return {
            candidate.lr: float(means[row])
            for row, candidate in enumerate(self.candidates)
            if candidate.schedule == schedule
        }

    def best(self) -> dict[str, int]:
        """The row of each schedule's best candidate, the best schedule first."""
        best: dict[str, int] = {}
        for row in self.worst.sort_values(kind="stable").index:
            best.setdefault(self.candidates[row].schedule, row)
        return best

    def best_scores(self) -> pd.DataFrame:
        """The scores of each schedule's best candidate: one row per schedule."""
        best = self.best()
        return self.scores.loc[list(best.values())].set_axis(list(best), axis=0)

    def merged(self, other: "Round") -> "Round":
        """Both rounds as one; they share horizon and seeds, and no candidate."""
        shift = len(self.candidates)
        return Round(
            self.horizon,
            [*self.candidates, *other.candidates],
            pd.concat([self.scores, other.scores], ignore_index=True),
            concat_traces([self.trace, other.trace]),
            self.rows | {name: row + shift for name, row in other.rows.items()},
        )


class Rounds:
    """Trains candidates, and keeps every round.

    Args:
        evaluate: The function that trains runs.
        seeds: The seeds that candidates are selected with.

    Attributes:
        trained: All rounds, in order.
        selection: Those of them that select candidates.
    """

    def __init__(self, evaluate: Evaluate, seeds: Sequence[int]) -> None:
        """Keep what trains the runs; no round has been trained yet."""
        self._evaluate, self.seeds = evaluate, list(seeds)
        self.trained: list[Round] = []
        self.selection: list[Round] = []

    def train(
        self, candidates: Sequence[Candidate], horizon: int, seeds: Sequence[int], stage: str
    ) -> Round:
        """Train every candidate with every seed, all as one cohort."""
        runs = [
            Run(f"{c.schedule}#{c.number}@{c.lr:g}/{seed}", c.lr, c.shape, seed)
            for c in candidates
            for seed in seeds
        ]
        rows = {run.name: place // len(seeds) for place, run in enumerate(runs)}
        trace = self._evaluate(runs, horizon, stage=stage)
        losses = final_losses(trace).loc[list(rows)].to_numpy()
        scores = pd.DataFrame(losses.reshape(len(candidates), len(seeds)), columns=list(seeds))
        trained = Round(horizon, list(candidates), scores, trace, rows)
        self.trained.append(trained)
        return trained

    def select(self, candidates: Sequence[Candidate], horizon: int, stage: str) -> Round:
        """Train candidates with the seeds for selection."""
        trained = self.train(candidates, horizon, self.seeds, stage)
        self.selection.append(trained)
        return trained

    def selection_at(self, horizon: int) -> Round:
        """All rounds of the selection over this horizon, as one."""
        return functools.reduce(Round.merged, (r for r in self.selection if r.horizon == horizon))


def final_losses(trace: Trace) -> pd.Series:
    """The validation loss of each run, or its training loss at the end; NaN where it failed."""
    runs = trace.runs.set_index("run")
    losses = trace.validations.set_index("run")["loss"]
    if losses.empty:
        losses = trace.frame.groupby("run", sort=False)["loss"].agg(end_level)
    return losses.reindex(runs.index).mask(runs["outcome"].isin(FAILED_OUTCOMES))
