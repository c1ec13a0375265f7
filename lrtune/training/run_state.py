"""What is known of one run of a cohort, and the tables made of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lrtune.analysis.curves import Outcome, diverged_at
from lrtune.errors import ScheduleError
from lrtune.results.runs import Run
from lrtune.results.schema import RUNS, TRACE
from lrtune.results.serialization import as_table
from lrtune.schedules import Feedback, Schedule, momenta, multipliers
from lrtune.training.engines import Pace


class Planned:
    """A schedule, tabulated and checked before anything trains."""

    def __init__(self, schedule: Schedule, steps: int) -> None:
        """Tabulate."""
        self.rates = multipliers(schedule, steps)
        given = momenta(schedule, steps)
        learns = any(self.rates)
        self._paces = [
            Pace(rate, None if given is None else given[step], learns)
            for step, rate in enumerate(self.rates)
        ]

    def at(self, step: int) -> Pace:
        """The pace of this step."""
        return self._paces[step]


class Reacting:
    """A feedback schedule: asked at each step with the loss, it notes what it answered."""

    def __init__(self, feedback: Feedback[Any], steps: int, first: int) -> None:
        """Begin at step `first`."""
        self._feedback, self._state = feedback, feedback.start(steps)
        self.rates = [0.0] * first

    def at(self, _step: int) -> Pace:
        """The pace of this step, once its loss is known."""
        return Pace(self._react)

    def _react(self, loss: float) -> float:
        rate, self._state = self._feedback.next(self._state, loss)
        if not 0 <= rate < float("inf"):
            raise ScheduleError(
                f"{self._feedback!r} gave {rate!r} at step {len(self.rates)}, for a loss of "
                f"{loss:g}; expected a finite multiplier >= 0."
            )
        self.rates.append(rate)
        return rate


def step_settings(run: Run, steps: int, first: int = 0) -> Planned | Reacting:
    """How the run is paced from step `first` of `steps` on."""
    if isinstance(run.schedule, Schedule):
        return Planned(run.schedule, steps)
    return Reacting(run.schedule, steps, first)


BLOCK = 32
"""Steps between two looks at the losses, which stay on the device until then."""


@dataclass
class Record:
    """One run and what it has shown.

    Attributes:
        run: The candidate.
        pace: What its optimizer is set to at each step.
        first: The step that it began at: 0, or where it was forked.
        losses: From that step on, one per update, as far as they have been read.
        outcome: How it ended; None while it lives.
        look: How many losses there shall be when its curve is judged again.
    """

    run: Run
    pace: Planned | Reacting
    first: int
    losses: list[float] = field(default_factory=list)
    outcome: Outcome | None = None
    look: int = BLOCK

    @property
    def due(self) -> bool:
        """Whether it is time to judge the curve; it is judged whole, so the looks thin out."""
        if len(self.losses) < self.look:
            return False
        self.look = len(self.losses) + max(BLOCK, len(self.losses) // 4)
        return True

    @property
    def span(self) -> slice:
        """The steps that are recorded."""
        return slice(self.first, self.first + len(self.losses))


def trace_rows(records: Sequence[Record], digests: Mapping[int, Sequence[int]]) -> pd.DataFrame:
    """One row per run and recorded step, in the columns of a trace."""
    counts = [len(one.losses) for one in records]
    names = np.array([one.run.name for one in records], dtype=object)
    parts = [
        (
            np.arange(one.span.start, one.span.stop),
            np.array(one.pace.rates[one.span]) * one.run.lr,
            np.array(one.losses, dtype=np.float64),
            np.array(digests[one.run.seed][one.span], dtype=np.int64),
        )
        for one in records
    ]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    rows = [np.repeat(names, counts), *columns]
    return as_table(pd.DataFrame(dict(zip(TRACE, rows, strict=True))), TRACE)


def run_rows(records: Sequence[Record], otherwise: Outcome) -> pd.DataFrame:
    """One row per run; those without an outcome get the one that is given."""
    rows = [
        (
            one.run.name,
            one.run.lr,
            repr(one.run.schedule),
            one.run.seed,
            (one.outcome or otherwise).name,
            len(one.losses),
        )
        for one in records
    ]
    return as_table(pd.DataFrame(rows, columns=list(RUNS)), RUNS)


Retire = Callable[[NDArray[np.float64]], tuple[int, Outcome] | None]
"""Losses of a run from its first step on, to the step at which it is out, and why.

The answer may depend only on the losses up to that step: then it does not matter when it is asked.
"""


def failed(losses: NDArray[np.float64]) -> tuple[int, Outcome] | None:
    """Out when the loss is not finite, or has diverged (`lrtune.analysis.curves.diverged_at`).

    >>> failed(np.array([2.0, 1.0, np.nan, np.nan]))
    (2, <Outcome.NONFINITE: 'The loss became NaN or infinite.'>)
    """
    finite = np.isfinite(losses)
    end = len(losses) if finite.all() else int(np.argmin(finite))
    diverged = diverged_at(losses[:end])
    if diverged is not None:
        return diverged, Outcome.DIVERGED
    return None if end == len(losses) else (end, Outcome.NONFINITE)
