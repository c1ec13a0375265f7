"""What a study has recorded: runs, seeds, decisions and results; each call is a transaction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import delete, func, insert, select

from lrtune.analysis.curves import Outcome, end_level
from lrtune.results import Trace
from lrtune.results.runs import Cost, Run
from lrtune.results.schema import COSTS, RUNS, TRACE, VALIDATIONS, as_table
from lrtune.schedules.registry import registered_name
from lrtune.study import tables
from lrtune.study.database import Database
from lrtune.study.leases import Leases, Request, describe_processes, matching_rows


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """What was recorded of one run up to one step.

    Attributes:
        outcome: A name in `lrtune.analysis.curves.Outcome`.
        loss: Training loss, one per recorded step from 0 on.
        rate: Learning rate, one per recorded step.
        batch: Digest of the batch, one per recorded step.
        val: The validation loss at the end, or nothing.
        cost: What is charged for it.
    """

    outcome: str
    loss: NDArray[np.float64]
    rate: NDArray[np.float64]
    batch: NDArray[np.int64]
    val: NDArray[np.float64]
    cost: Cost

    @property
    def final(self) -> float:
        """The validation loss if there is one, else the mean training loss of the last fifth."""
        if len(self.val):
            return float(self.val[0])
        return end_level(self.loss) if len(self.loss) else float("nan")

    def columns(self) -> dict[str, Any]:
        """Its columns in `lrtune_runs`."""
        return {
            "outcome": self.outcome,
            "count": len(self.loss),
            "loss": tables.packed(self.loss, "<f8"),
            "rate": tables.packed(self.rate, "<f8"),
            "batch": tables.packed(self.batch, "<i8"),
            "val": tables.packed(self.val, "<f8"),
            **asdict(self.cost),
        }


def run_from_row(row: Mapping[Any, Any]) -> RecordedRun:
    """The recorded run in a row of `lrtune_runs`.

    Raises:
        StudyError: The row is damaged.
    """
    tables.verify_checksum(tables.runs, row)
    count = row["count"]
    if row["outcome"] not in Outcome.__members__:
        raise tables.damaged(f"a run has the unknown outcome {row['outcome'][:20]!r}")
    val = np.empty(0)
    if row["validated"] and row["val"] != tables.packed((), "<f8"):
        val = tables.unpacked(row["val"], "<f8", 1)
    return RecordedRun(
        outcome=row["outcome"],
        loss=tables.unpacked(row["loss"], "<f8", count),
        rate=tables.unpacked(row["rate"], "<f8", count),
        batch=tables.unpacked(row["batch"], "<i8", count),
        val=val,
        cost=Cost(row["updates"], row["val_samples"], row["seconds"]),
    )


def runs_from_trace(trace: Trace, until: int) -> dict[str, RecordedRun]:
    """The recorded runs of a trace by name; of several validations, the one at `until` counts.

    A plain function that trains runs gives no costs. Each of its runs is charged `until` updates.
    """
    places = trace.frame.groupby("run", sort=False).indices
    step, loss, rate, batch = (
        trace.frame[name].to_numpy() for name in ("step", "loss", "lr", "batch")
    )
    last = trace.validations[trace.validations["step"] == until]
    vals = dict(zip(last["run"], last["loss"], strict=True))
    costs = {name: cost for name, *cost in trace.costs[list(COSTS)].itertuples(index=False)}
    recorded = {}
    for name, outcome in zip(trace.runs["run"], trace.runs["outcome"], strict=True):
        rows = places.get(name, np.empty(0, dtype=np.int64))
        assert (step[rows] == np.arange(len(rows))).all(), "a run records every step from 0 on"
        val = np.array([vals[name]] if name in vals else [], dtype=float)
        curves = loss[rows], rate[rows], batch[rows]
        updates, val_samples, seconds = costs.get(name, (until, 0, 0.0))
        cost = Cost(int(updates), int(val_samples), float(seconds))
        recorded[name] = RecordedRun(outcome, *curves, val, cost)
    return recorded


def trace_from_runs(
    named: Sequence[tuple[str, float, str, int, RecordedRun]],
    steps: int,
    until: int,
    *,
    validate: bool,
) -> Trace:
    """The trace that a cohort of exactly these runs records.

    Args:
        named: For each run its name, peak rate, schedule and seed, and what was recorded.
        steps: The horizon.
        until: The step that all of them were trained to.
        validate: Whether validation losses belong to the trace.
    """
    recorded = [run for *_, run in named]
    counts = [len(run.loss) for run in recorded]
    names = np.array([name for name, *_ in named], dtype=object)
    frame = pd.DataFrame(
        {
            "run": np.repeat(names, counts),
            "step": np.concatenate([np.arange(count) for count in counts]),
            "lr": np.concatenate([run.rate for run in recorded]),
            "loss": np.concatenate([run.loss for run in recorded]),
            "batch": np.concatenate([run.batch for run in recorded]),
        }
    )
    rows = [(*about, run.outcome, len(run.loss)) for *about, run in named]
    # One run under two names was trained once.
    first = {id(run): name for name, *_, run in reversed(named)}
    costs = [
        (name, *(astuple(run.cost) if first[id(run)] == name else (0, 0, 0.0)))
        for name, *_, run in named
    ]
    vals = [(name, until, run.final) for name, *_, run in named if validate and len(run.val)]
    return Trace(
        frame=as_table(frame, TRACE),
        runs=as_table(rows, RUNS),
        validations=as_table(vals, VALIDATIONS),
        costs=as_table(costs, COSTS),
        steps=steps,
    )


class RunRecords:
    """The records of one study, with the leases that this process holds on its runs.

    Args:
        database: The study's database.
        study: The study's id in `lrtune_studies`.
        manifest: Describes the new session, as JSON.
    """

    def __init__(self, database: Database, study: int, manifest: str) -> None:
        """Begin a session, and drop the leases of dead processes."""
        self._database, self._study, self._leases = database, study, Leases(study)
        row = tables.with_checksum(tables.sessions, {"study": study, "manifest": manifest})
        with database.write() as link:
            made = insert(tables.sessions).values(row).returning(tables.sessions.c.id)
            self._session = int(link.execute(made).scalar_one())
            self._leases.drop_dead(link)

    def find(self, requests: Iterable[Request]) -> tuple[dict[str, RecordedRun], set[str]]:
        """The recorded runs that answer these requests, by key.

        Returns:
            The runs, and the keys of those that an earlier session, or another process, recorded.
        """
        found: dict[str, RecordedRun] = {}
        earlier = set()
        with self._database.read() as link:
            for row in matching_rows(link, self._study, requests, tables.runs):
                found.setdefault(row["key"], run_from_row(row))
                if row["session"] != self._session:
                    earlier.add(row["key"])
        return found, earlier

    def allocate(self, requests: Sequence[Request]) -> tuple[list[Request], list[str]]:
        """Take a lease on every run that is not recorded and that no other process trains.

        Returns:
            The requests with a lease, and for each run that another process trains that process.
        """
        with self._database.write() as link:
            theirs = self._leases.of_others(link, requests)
            rows = matching_rows(link, self._study, requests, tables.runs.c.key)
            recorded = {row["key"] for row in rows}
            mine = [one for one in requests if one.key not in recorded | theirs.keys()]
            if mine:
                self._leases.take(link, mine)
            tokens = [token for key, token in theirs.items() if key not in recorded]
            return mine, describe_processes(link, tokens)

    def record(
        self,
        done: Mapping[Request, tuple[Run, RecordedRun]],
        *,
        stage: str,
        steps: int,
        engine: str,
    ) -> None:
        """Record all runs of one call and give their leases back, in one transaction."""
        call = {"stage": tables.storable(stage), "steps": steps, "engine": engine}
        with self._database.write() as link:
            found = matching_rows(link, self._study, done, tables.runs.c.key)
            known = {row["key"] for row in found}
            rows = [
                self._row(request, run, {**call, **recorded.columns()})
                for request, (run, recorded) in done.items()
                if request.key not in known
            ]
            if rows:
                link.execute(insert(tables.runs), rows)
            self._leases.give_back(link)

    def release(self) -> None:
        """Give back the leases on runs that were not recorded."""
        self._leases.stop()  # first, as the database may fail
        with self._database.write() as link:
            self._leases.give_back(link)

    def heartbeat(self) -> None:
        """Show other hosts that this process lives."""
        with self._database.write() as link:
            self._leases.heartbeat(link)

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
                "session": self._session,
                "kind": kind,
                "last_run": link.scalar(last_run) or 0,
                "json": json,
            }
            link.execute(insert(results).values(tables.with_checksum(results, row)))

    def decision(self, name: str) -> str | None:
        """The decision of that name; None if there is none yet."""
        query = self._of_study(tables.decisions).where(tables.decisions.c.name == name)
        with self._database.read() as link:
            row = link.execute(query).mappings().first()
        return None if row is None else str(tables.verify_checksum(tables.decisions, row)["value"])

    def decide(self, name: str, value: str) -> str:
        """Record a decision unless there is one of that name; return the one that stands."""
        return self._first(tables.decisions, {"name": name}, "value", value)

    def seed_parts(self, seed: int, parts: str) -> str:
        """Record what a seed begins with, unless it is there; return what stands."""
        return self._first(tables.seeds, {"seed": seed}, "parts", parts)

    def _first(self, table: Any, key: Mapping[str, Any], column: str, value: str) -> str:
        """The value under a key; the first that any process wrote stays."""
        query = self._of_study(table).filter_by(**key)
        with self._database.write() as link:
            row = link.execute(query).mappings().first()
            if row is not None:
                return str(tables.verify_checksum(table, row)[column])
            new = {"study": self._study, **key, column: value}
            link.execute(insert(table).values(tables.with_checksum(table, new)))
            return value

    def _of_study(self, table: Any) -> Any:
        return select(table).where(table.c.study == self._study)

    def _row(self, request: Request, run: Run, more: Mapping[str, Any]) -> dict[str, Any]:
        row = {
            "study": self._study,
            "key": request.key,
            "until": request.until,
            "validated": int(request.validated),
            "session": self._session,
            "name": tables.storable(run.name),
            "lr": run.lr,
            "schedule": tables.storable(repr(run.schedule)),
            "schedule_name": registered_name(run.schedule),
            "seed": run.seed,
            **more,
        }
        return tables.with_checksum(tables.runs, row)
