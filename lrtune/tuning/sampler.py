"""Proposers: what parameters of a schedule to try next, by Optuna's sampler."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import optuna
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from lrtune.results.runs import Shape
from lrtune.schedules import ScheduleEntry

Proposal = tuple[int, Shape]
"""A number to tell its score under, and the schedule."""


class Proposer(Protocol):
    """Proposes parameters for one schedule; a strategy knows nothing else of how."""

    def ask(self, count: int) -> list[Proposal]:
        """So many schedules to train side by side, or fewer: the defaults first, then samples."""

    def tell(self, scores: Mapping[int, float]) -> None:
        """The scores of what was proposed; NaN and infinity are failures."""


class Sampler:
    """Optuna's tree-structured Parzen estimator over one schedule's own parameters.

    Args:
        entry: A schedule of the registry, with its search space.
        seed: Decides the samples.
    """

    def __init__(self, entry: ScheduleEntry, seed: int) -> None:
        """A study in memory, that begins with the defaults."""
        self._entry = entry
        with _quietly():
            sampler = TPESampler(seed=seed, n_startup_trials=4)
            self._study = optuna.create_study(study_name=entry.name, sampler=sampler)
            self._study.enqueue_trial(entry.defaults())

    def ask(self, count: int) -> list[Proposal]:
        """The defaults first, then samples."""
        return [self._proposal() for _ in range(count)]

    def tell(self, scores: Mapping[int, float]) -> None:
        """The scores of what was proposed; NaN and infinity are failures."""
        with _quietly():
            for number, score in scores.items():
                if math.isfinite(score):
                    self._study.tell(number, score)
                else:
                    self._study.tell(number, state=TrialState.FAIL)

    def _proposal(self) -> Proposal:
        with _quietly():
            trial = self._study.ask()
            return trial.number, self._entry(**self._entry.suggest(trial))


class Fixed:
    """A schedule without parameters to search: a user's own, or one that reacts to the loss."""

    def __init__(self, shape: Shape) -> None:
        """Propose this schedule only, and only once."""
        self._left = [(0, shape)]

    def ask(self, count: int) -> list[Proposal]:
        """The schedule as it is, the first time."""
        asked, self._left = self._left[:count], self._left[count:]
        return asked

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
