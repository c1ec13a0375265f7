"""Rungs: what was recorded of one run up to one step; from a trace into rows, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lrtune.analysis.curves import Outcome, end_level
from lrtune.results import Trace
from lrtune.results.runs import Run
from lrtune.results.schema import RUNS, TRACE, VALIDATIONS
from lrtune.results.serialization import as_table
from lrtune.study import tables


@dataclass(frozen=True, eq=False)
class Rung:
    """One run up to one step.

    Attributes:
        outcome: A name in `lrtune.analysis.curves.Outcome`.
        loss: One per recorded step, from 0.
        rate: One per recorded step.
        batch: Digests, one per recorded step.
        val: The validation loss at the end, or nothing.
    """

    outcome: str
    loss: NDArray[np.float64]
    rate: NDArray[np.float64]
    batch: NDArray[np.int64]
    val: NDArray[np.float64]

    @property
    def score(self) -> float:
        """Validation loss where there is any, else the training loss of the last fifth."""
        if len(self.val):
            return float(self.val[0])
        return end_level(self.loss) if len(self.loss) else float("nan")

    def columns(self) -> dict[str, Any]:
        """What the table holds of it."""
        return {
            "outcome": self.outcome,
            "count": len(self.loss),
            "loss": tables.packed(self.loss, "<f8"),
            "rate": tables.packed(self.rate, "<f8"),
            "batch": tables.packed(self.batch, "<i8"),
            "val": tables.packed(self.val, "<f8"),
        }


def from_row(row: Mapping[Any, Any]) -> Rung:
    """The rung again.

    Raises:
        StudyError: The row is damaged.
    """
    tables.intact(tables.rungs, row)
    count = row["count"]
    if row["outcome"] not in Outcome.__members__:
        raise tables.damaged(f"a run has the outcome {row['outcome'][:20]!r}, which there is not")
    val = np.empty(0)
    if row["validated"] and row["val"] != tables.packed((), "<f8"):
        val = tables.unpacked(row["val"], "<f8", 1)
    return Rung(
        outcome=row["outcome"],
        loss=tables.unpacked(row["loss"], "<f8", count),
        rate=tables.unpacked(row["rate"], "<f8", count),
        batch=tables.unpacked(row["batch"], "<i8", count),
        val=val,
    )


def from_trace(trace: Trace, until: int) -> dict[str, Rung]:
    """The rungs of a trace, by the names of its runs.

    Of several evaluations of a run the one at `until` counts.
    """
    places = trace.frame.groupby("run", sort=False).indices
    step, loss, rate, batch = (
        trace.frame[name].to_numpy() for name in ("step", "loss", "lr", "batch")
    )
    there = trace.validations[trace.validations["step"] == until]
    vals = dict(zip(there["run"], there["loss"], strict=True))
    made = {}
    for name, outcome in zip(trace.runs["run"], trace.runs["outcome"], strict=True):
        rows = places.get(name, np.empty(0, dtype=np.int64))
        assert (step[rows] == np.arange(len(rows))).all(), "a run begins at 0 and leaves none out"
        val = [vals[name]] if name in vals else []
        made[name] = Rung(outcome, loss[rows], rate[rows], batch[rows], np.array(val, dtype=float))
    return made


def to_trace(
    runs: Sequence[Run], rungs: Sequence[Rung], steps: int, until: int, *, validate: bool
) -> Trace:
    """The trace of these runs, as a cohort of exactly them records it."""
    counts = [len(rung.loss) for rung in rungs]
    names = [run.name for run in runs]
    frame = pd.DataFrame(
        {
            "run": np.repeat(np.array(names, dtype=object), counts),
            "step": np.concatenate([np.arange(count) for count in counts]),
            "lr": np.concatenate([rung.rate for rung in rungs]),
            "loss": np.concatenate([rung.loss for rung in rungs]),
            "batch": np.concatenate([rung.batch for rung in rungs]),
        }
    )
    rows = [
        (run.name, run.lr, repr(run.schedule), run.seed, rung.outcome, len(rung.loss))
        for run, rung in zip(runs, rungs, strict=True)
    ]
    vals = [
        (name, until, float(rung.val[0]))
        for name, rung in zip(names, rungs, strict=True)
        if validate and len(rung.val)
    ]
    return Trace(
        frame=as_table(frame, TRACE),
        runs=as_table(pd.DataFrame(rows, columns=list(RUNS)), RUNS),
        validations=as_table(pd.DataFrame(vals, columns=list(VALIDATIONS)), VALIDATIONS),
        steps=steps,
    )
