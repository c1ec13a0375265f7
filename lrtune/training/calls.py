"""A call to an evaluator: what it asks for, and what it makes for each of its runs."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pandas as pd

from lrtune.results.schema import COSTS, as_table
from lrtune.training.cohort import Cohort


class CallCosts:
    """What a call has made for each run, what it had to discard included."""

    def __init__(self) -> None:
        self._made: dict[str, list[float]] = {}  # updates, validation samples, seconds

    def add(self, name: str, updates: int, samples: int = 0, seconds: float = 0.0) -> None:
        """Add what was made for a run."""
        known = self._made.get(name, (0, 0, 0.0))
        new = (updates, samples, seconds)
        self._made[name] = [one + more for one, more in zip(known, new, strict=True)]

    @contextmanager
    def of(self, cohort: Cohort, names: Sequence[str]) -> Iterator[None]:
        """Add what is made inside for these runs of a cohort, also where it breaks."""
        updates, samples = dict(cohort.updates), dict(cohort.val_samples)
        begin = time.perf_counter()
        try:
            yield
        finally:
            each = (time.perf_counter() - begin) / len(names)
            for name in names:
                new = cohort.updates[name] - updates[name]
                self.add(name, new, cohort.val_samples[name] - samples[name], each)

    def table(self, names: Iterable[str]) -> pd.DataFrame:
        """One row per run: columns `COSTS`."""
        return as_table([(name, *self._made[name]) for name in names], COSTS)


@dataclass
class Call:
    """What a call asks for besides its runs; `end` is the step up to which they are trained.

    `costs` is what it has made so far; `unusable` are the runs whose checkpoints do not fit.
    """

    steps: int
    end: int
    stage: str
    validate: int | None
    checkpoint: bool
    costs: CallCosts = field(default_factory=CallCosts)
    unusable: set[str] = field(default_factory=set)
