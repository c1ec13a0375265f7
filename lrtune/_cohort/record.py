"""What is known of one run of a cohort, and the tables made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lrtune._cohort.paces import Planned, Reacting
from lrtune.columns import RUNS, TRACE
from lrtune.curves import Outcome
from lrtune.records import table
from lrtune.runs import Run

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
    return table(pd.DataFrame(dict(zip(TRACE, rows, strict=True))), TRACE)


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
    return table(pd.DataFrame(rows, columns=list(RUNS)), RUNS)
