"""Recorded runs: between the rows of a study's table and the traces of cohorts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lrtune.analysis.curves import Outcome, end_level
from lrtune.results import Trace
from lrtune.results.runs import Cost, Validation
from lrtune.results.schema import COSTS, PARTS, RUNS, TRACE, VALIDATIONS, as_table
from lrtune.study import tables

MISSING = (math.nan,) * 3
"""Loss, standard error and samples of a part that was not measured."""

VAL_NUMBERS = len(MISSING) * len(PARTS)
"""How many numbers a validation has."""


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """What was recorded of one run up to one step; its arrays have one value per step from 0 on.

    `val` holds loss, standard error and samples of the selection part at the end, then those of the
    test part, NaN where there is none; or nothing. `cost` is what the call made that recorded the
    run; `checkpoint` is the name of its checkpoint at that step, or empty.
    """

    outcome: str
    loss: NDArray[np.float64]
    rate: NDArray[np.float64]
    batch: NDArray[np.int64]
    val: NDArray[np.float64]
    cost: Cost
    checkpoint: str = ""

    @property
    def final(self) -> float:
        """The loss on the selection part if there is one, else that of training at the end."""
        return float(self.val[0]) if len(self.val) else end_level(self.loss)

    @property
    def validations(self) -> list[Validation]:
        """The validation losses of the parts that were measured."""
        parts = zip(PARTS, self.val.reshape(-1, 3).tolist(), strict=False)
        return [
            Validation(part, loss, stderr, int(samples))
            for part, (loss, stderr, samples) in parts
            if not math.isnan(samples)
        ]

    def columns(self) -> dict[str, Any]:
        """Its columns in `lrtune_runs`."""
        arrays = {
            name: tables.packed(getattr(self, name), dtype) for name, dtype in tables.ARRAYS.items()
        }
        about = {"outcome": self.outcome, "count": len(self.loss), "checkpoint": self.checkpoint}
        return {**about, **arrays, **asdict(self.cost)}


def run_from_row(row: Mapping[Any, Any]) -> RecordedRun:
    """The recorded run in a row of `lrtune_runs`; StudyError if the row is damaged."""
    tables.verify_checksum(tables.runs, row)
    if row["outcome"] not in Outcome.__members__:
        raise tables.damaged(f"a run has the unknown outcome {row['outcome'][:20]!r}")
    counts = dict.fromkeys(tables.ARRAYS, row["count"])
    counts["val"] = VAL_NUMBERS if row["val"] != tables.packed((), "<f8") else 0
    arrays = {
        name: tables.unpacked(row[name], dtype, counts[name])
        for name, dtype in tables.ARRAYS.items()
    }
    if not row["validated"]:  # what trains may validate unasked, but no answer rests on it
        arrays["val"] = np.empty(0)
    cost = Cost(row["updates"], row["val_samples"], row["seconds"])
    return RecordedRun(row["outcome"], **arrays, cost=cost, checkpoint=row["checkpoint"])


def runs_from_trace(trace: Trace, until: int) -> dict[str, RecordedRun]:
    """The recorded runs of a trace by name; of several validations, the one at `until` counts."""
    places = trace.frame.groupby("run", sort=False).indices
    step, loss, rate, batch = (
        trace.frame[name].to_numpy() for name in ("step", "loss", "lr", "batch")
    )
    last = trace.validations[trace.validations["step"] == until].drop(columns="step")
    vals: dict[str, dict[str, Sequence[float]]] = {}
    for name, part, *numbers in last.itertuples(index=False):
        vals.setdefault(name, {})[part] = numbers
    costs = {name: cost for name, *cost in trace.costs[list(COSTS)].itertuples(index=False)}
    recorded = {}
    columns = as_table(trace.runs, RUNS)[["run", "outcome", "checkpoint"]]
    for name, outcome, checkpoint in columns.itertuples(index=False):
        rows = places.get(name, np.empty(0, dtype=np.int64))
        assert (step[rows] == np.arange(len(rows))).all(), "a run records every step from 0 on"
        val = np.ravel([vals[name].get(part, MISSING) for part in PARTS] if name in vals else [])
        # A plain function that trains runs tells no costs: it made what was asked for.
        updates, val_samples, seconds = costs.get(name, (until, 0, 0.0))
        cost = Cost(int(updates), int(val_samples), float(seconds))
        curves = loss[rows], rate[rows], batch[rows]
        recorded[name] = RecordedRun(outcome, *curves, val, cost, checkpoint)
    return recorded


def trace_from_runs(
    named: Sequence[tuple[str, float, str, int, RecordedRun]],
    steps: int,
    until: int,
    *,
    validate: bool,
    checkpoint: bool = False,
) -> Trace:
    """The trace that a cohort of exactly these runs records up to step `until` of `steps`.

    `named` holds for each run its name, peak rate, schedule, seed, and what was recorded. The names
    of checkpoints are left out where `checkpoint` is not set.
    """
    recorded = [run for *_, run in named]
    counts = [len(run.loss) for run in recorded]
    frame = pd.DataFrame(
        {
            "run": np.repeat(np.array([name for name, *_ in named], dtype=object), counts),
            "step": np.concatenate([np.arange(count) for count in counts]),
            "lr": np.concatenate([run.rate for run in recorded]),
            "loss": np.concatenate([run.loss for run in recorded]),
            "batch": np.concatenate([run.batch for run in recorded]),
        }
    )
    rows = [
        (*about, run.outcome, len(run.loss), run.checkpoint if checkpoint else "")
        for *about, run in named
    ]
    # One run under two names was trained once, so only its first name has a cost.
    first = {id(run): name for name, *_, run in reversed(named)}
    costs = [
        (name, *(astuple(run.cost) if first[id(run)] == name else (0, 0, 0.0)))
        for name, *_, run in named
    ]
    vals = [
        (name, until, *part)
        for name, *_, run in named
        for part in (run.validations if validate else [])
    ]
    return Trace(
        steps=steps,
        frame=as_table(frame, TRACE),
        runs=as_table(rows, RUNS),
        validations=as_table(vals, VALIDATIONS),
        costs=as_table(costs, COSTS),
    )
