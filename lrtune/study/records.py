"""What a study has recorded: runs, seeds, decisions and results; each call is a transaction."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, func, insert, select

from lrtune.analysis.curves import FAILED_OUTCOMES, Outcome, end_level
from lrtune.results import Trace
from lrtune.results.runs import Cost, Run, Validation
from lrtune.results.schema import (
    CHECKPOINT_NAME,
    COSTS,
    PARTS,
    RUNS,
    TRACE,
    VALIDATIONS,
    as_table,
)
from lrtune.schedules.registry import registered_name
from lrtune.study import tables
from lrtune.study.database import Database
from lrtune.study.leases import Leases, Request, matching_rows

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


class StudyRecords:
    """Reads runs, results and choices from a study, and writes those of this session.

    `manifest` describes the session, as JSON. Three attributes tell what the session does: `asked`
    has the keys of all runs that it asked for, `remembered` of those that other sessions recorded,
    and `trained` the requests that it trained for.
    """

    def __init__(self, database: Database, study: int, manifest: str) -> None:
        self.asked, self.remembered, self.trained = set[str](), set[str](), list[Request]()
        self._database, self._study, self.leases = database, study, Leases(database, study)
        row = tables.with_checksum(tables.sessions, {"study": study, "manifest": manifest})
        with database.write() as link:
            made = insert(tables.sessions).values(row).returning(tables.sessions.c.id)
            self._session = int(link.execute(made).scalar_one())
            self.leases.drop_dead(link)

    def find(self, requests: Collection[Request]) -> dict[str, RecordedRun]:
        """The recorded runs that answer these requests, by key; noted as asked and remembered."""
        self.asked |= {request.key for request in requests}
        found: dict[str, RecordedRun] = {}
        with self._database.read() as link:
            for row in matching_rows(link, self._study, requests, tables.runs):
                found.setdefault(row["key"], run_from_row(row))
                if row["session"] != self._session:
                    self.remembered.add(row["key"])
        return found

    def allocate(self, requests: Sequence[Request]) -> tuple[list[Request], list[str]]:
        """The requests that now have a lease, and for each run of another process that process."""
        with self._database.write() as link:
            theirs = self.leases.of_others(link, requests)
            recorded = self._recorded_keys(link, requests)
            mine = [one for one in requests if one.key not in recorded | theirs.keys()]
            if mine:
                self.leases.take(link, mine)
            return mine, [words for key, words in theirs.items() if key not in recorded]

    def record(
        self,
        done: Mapping[Request, tuple[Run, RecordedRun]],
        *,
        stage: str,
        steps: int,
        engine: str,
    ) -> None:
        """Record all runs of one call and give their leases back, in one transaction."""
        with self._database.write() as link:
            known = self._recorded_keys(link, done)
            rows = [
                {
                    "study": self._study,
                    **request.columns(),
                    "session": self._session,
                    "stage": tables.storable(stage),
                    "name": tables.storable(run.name),
                    "lr": run.lr,
                    "schedule": tables.storable(repr(run.schedule)),
                    "schedule_name": registered_name(run.schedule),
                    "seed": run.seed,
                    "steps": steps,
                    "engine": engine,
                    **recorded.columns(),
                }
                for request, (run, recorded) in done.items()
                if request.key not in known
            ]
            if rows:
                rows = [tables.with_checksum(tables.runs, row) for row in rows]
                link.execute(insert(tables.runs), rows)
            self.leases.give_back(link)
        self.trained += done

    def add_result(self, kind: str, json: str) -> None:
        """Keep a result; one that equals the newest of its kind replaces it."""
        results, runs = tables.results, tables.runs
        with self._database.write() as link:
            newest = self._of_study(results).where(results.c.kind == kind)
            last = link.execute(newest.order_by(results.c.id.desc()).limit(1)).mappings().first()
            if last is not None and last["json"] == json:
                link.execute(delete(results).where(results.c.id == last["id"]))
            last_run = select(func.max(runs.c.id)).where(runs.c.study == self._study)
            row = {
                "study": self._study,
                "kind": kind,
                "last_run": link.scalar(last_run) or 0,
                "json": json,
            }
            link.execute(insert(results).values(tables.with_checksum(results, row)))

    def unneeded(self, names: Collection[str]) -> set[str]:
        """Those of these checkpoints that nobody needs, of the runs that this session asked for.

        Needed are those that the JSON of a result names, and the newest of a run that was neither
        trained to its end nor has failed. Runs of other sessions may still lead to a result.
        """
        runs, results = tables.runs.c, tables.results.c
        asked = {name for name in names if name.partition("-")[0] in self.asked}
        if not asked:
            return asked
        ended = (runs.until == runs.steps) | runs.outcome.in_(FAILED_OUTCOMES)
        keys = select(runs.key).distinct().where(runs.study == self._study, ended)
        with self._database.read() as link:
            over = set(link.scalars(keys))
            texts = link.scalars(select(results.json).where(results.study == self._study))
            named = {found[0] for text in texts for found in CHECKPOINT_NAME.finditer(text)}
        return {name for name in asked - named if name.partition("-")[0] in over}

    def first(
        self, table: Any, key: Mapping[str, Any], column: str, make: Callable[[], str]
    ) -> str:
        """The value under a key of a table; the first that any process made stands for all."""
        query = self._of_study(table).filter_by(**key)
        with self._database.read() as link:
            row = link.execute(query).mappings().first()
        if row is None:
            # Made outside of any transaction: it may take long, as a benchmark of engines does.
            new = {"study": self._study, **key, column: make()}
            with self._database.write() as link:
                row = link.execute(query).mappings().first()
                if row is None:
                    link.execute(insert(table).values(tables.with_checksum(table, new)))
                    return str(new[column])
        return str(tables.verify_checksum(table, row)[column])

    def _of_study(self, table: Any) -> Any:
        return select(table).where(table.c.study == self._study)

    def _recorded_keys(self, link: Connection, requests: Iterable[Request]) -> set[str]:
        rows = matching_rows(link, self._study, requests, tables.runs.c.key)
        return {row["key"] for row in rows}
