"""Proposers: what parameters of a schedule to try next, by Optuna's sampler."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import optuna
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from lrtune.runs import Shape
from lrtune.schedules import Entry

Proposal = tuple[int, Shape, float]
"""A number to tell its score under, the schedule, the peak rate."""


class Proposer(Protocol):
    """Proposes candidates for one schedule; a strategy knows nothing else of how."""

    def ask(self, rates: Sequence[float]) -> list[Proposal]:
        """The schedule's defaults at each rate."""

    def sample(self, count: int, low: float, high: float) -> list[Proposal]:
        """Samples of the schedule's own parameters, with peak rates between the two."""

    def tell(self, scores: Mapping[int, float]) -> None:
        """The scores of what was proposed; NaN and infinity are failures."""


class Sampler:
    """Optuna's tree-structured Parzen estimator over one schedule's parameters and its peak rate.

    Args:
        entry: A schedule of the registry, with its search space.
        seed: Decides the samples.
    """

    def __init__(self, entry: Entry, seed: int) -> None:
        """An empty study in memory."""
        self._entry = entry
        with _quietly():
            # The grid of rates comes first, so sampling can learn from the fourth trial on.
            sampler = TPESampler(seed=seed, n_startup_trials=4)
            self._study = optuna.create_study(study_name=entry.name, sampler=sampler)

    def ask(self, rates: Sequence[float]) -> list[Proposal]:
        """The schedule's defaults at each rate."""
        proposals = []
        for rate in rates:
            with _quietly():
                self._study.enqueue_trial({"lr": rate, **self._entry.defaults()})
            proposals.append(self._proposal(rate / 2, rate * 2))
        return proposals

    def sample(self, count: int, low: float, high: float) -> list[Proposal]:
        """Samples of the schedule's own parameters, with peak rates between the two."""
        return [self._proposal(low, high) for _ in range(count if self._entry.space else 0)]

    def tell(self, scores: Mapping[int, float]) -> None:
        """The scores of what was proposed; NaN and infinity are failures."""
        with _quietly():
            for number, score in scores.items():
                if math.isfinite(score):
                    self._study.tell(number, score)
                else:
                    self._study.tell(number, state=TrialState.FAIL)

    def _proposal(self, low: float, high: float) -> Proposal:
        with _quietly():
            trial = self._study.ask()
            rate = trial.suggest_float("lr", low, high, log=True)
            return trial.number, self._entry(**self._entry.suggest(trial)), rate


class Fixed:
    """A schedule without parameters to search: a user's own, or one that reacts to the loss."""

    def __init__(self, shape: Shape) -> None:
        """Propose this schedule only."""
        self._shape, self._asked = shape, 0

    def ask(self, rates: Sequence[float]) -> list[Proposal]:
        """The schedule at each rate."""
        first, self._asked = self._asked, self._asked + len(rates)
        return [(first + place, self._shape, rate) for place, rate in enumerate(rates)]

    def sample(self, count: int, low: float, high: float) -> list[Proposal]:  # noqa: ARG002
        """There is nothing to sample."""
        return []

    def tell(self, scores: Mapping[int, float]) -> None:
        """Nothing is learned from them."""


@contextmanager
def _quietly() -> Iterator[None]:
    """Optuna's log is for its users; ours did not ask for it."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
