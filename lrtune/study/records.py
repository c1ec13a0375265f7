"""What a study has recorded: runs, seeds, decisions and results; each call is a transaction."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from lrtune.analysis.curves import FAILED_OUTCOMES
from lrtune.results.runs import Run
from lrtune.results.schema import CHECKPOINT_NAME
from lrtune.schedules.registry import registered_name
from lrtune.study import tables
from lrtune.study.database import Database
from lrtune.study.leases import Leases, Request, matching_rows
from lrtune.study.recorded_runs import RecordedRun, run_from_row


class StudyRecords:
    """Reads runs, results and choices from a study, and writes those of this session.

    `manifest` describes the session, as JSON. Four attributes tell what the session does: `asked`
    has the keys of all runs that it asked for, `remembered` of those that earlier sessions
    recorded, `shared` of those that others recorded since it began, each with the session, and
    `trained` the requests that it trained for.
    """

    def __init__(self, database: Database, study: int, manifest: str) -> None:
        self.asked, self.remembered, self.trained = set[str](), set[str](), list[Request]()
        self.shared = set[tuple[str, int]]()
        # Sessions of the other processes that were met in this call, and in the one before.
        self._near, self._before = set[int](), set[int]()
        self._database, self._study = database, study
        row = tables.with_checksum(tables.sessions, {"study": study, "manifest": manifest})
        with database.write() as link:
            made = insert(tables.sessions).values(row).returning(tables.sessions.c.id)
            self._session = int(link.execute(made).scalar_one())
            self.leases = Leases(database, study, self._session)
            self._earlier = int(link.scalar(self._last_run()) or 0)  # runs up to it were there
            self.leases.drop_dead(link)

    def begin_call(self) -> None:
        """A new call begins; who took part in the one before, is expected in it."""
        self._near, self._before = set(), self._near

    def find(self, requests: Collection[Request]) -> dict[str, RecordedRun]:
        """The recorded runs that answer these requests, by key; it notes who trained them."""
        self.asked |= {request.key for request in requests}
        found: dict[str, RecordedRun] = {}
        with self._database.read() as link:
            for row in matching_rows(link, self._study, requests, tables.runs):
                found.setdefault(row["key"], run_from_row(row))
                if row["session"] != self._session and row["id"] > self._earlier:
                    self.shared.add((row["key"], row["session"]))
                    self._near.add(row["session"])
                elif row["session"] != self._session:
                    self.remembered.add(row["key"])
        return found

    def allocate(self, units: Sequence[Sequence[Request]]) -> tuple[list[Request], list[str]]:
        """Lease this process's share of the requests that nobody has recorded or trains.

        Args:
            units: Requests that have to be trained together.

        Returns:
            The requests that now have a lease; and for each run of another process that process.
        """
        requests, began = [one for unit in units for one in unit], {one.key for one in self.trained}
        with self._database.write() as link:
            theirs = self.leases.of_others(link, requests)
            recorded = self._recorded_keys(link, requests)
            missing = [[one for one in unit if one.key not in recorded] for unit in units]
            missing = [unit for unit in missing if unit]
            # Between two calls a process has no lease, so who was there before counts once.
            companions, self._before = self._meet(link) | self._before, set()
            share = math.ceil(len(missing) / (1 + len(companions)))
            free = [[one for one in unit if one.key not in theirs] for unit in missing]
            # First what this process can go on with, as it trained the first part.
            free.sort(key=lambda unit: not any(one.key in began for one in unit))
            mine = [one for unit in list(filter(None, free))[:share] for one in unit]
            others = [words for key, words in theirs.items() if key not in recorded]
            if mine or others:
                self.leases.take(link, mine)
            return mine, others

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
            self._meet(link)  # who waits for these runs
            self.leases.give_back(link)
        self.trained += done

    def add_result(self, kind: str, json: str) -> None:
        """Keep a result; one that equals the newest of its kind replaces it."""
        results = tables.results
        with self._database.write() as link:
            newest = self._of_study(results).where(results.c.kind == kind)
            last = link.execute(newest.order_by(results.c.id.desc()).limit(1)).mappings().first()
            if last is not None and last["json"] == json:
                link.execute(delete(results).where(results.c.id == last["id"]))
            row = {
                "study": self._study,
                "kind": kind,
                "last_run": link.scalar(self._last_run()) or 0,
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

    def _meet(self, link: Connection) -> set[int]:
        """The sessions of the other processes that work on this study now; it notes them."""
        now = self.leases.companions(link)
        self._near |= now
        return now

    def _last_run(self) -> Any:
        return select(func.max(tables.runs.c.id)).where(tables.runs.c.study == self._study)

    def _of_study(self, table: Any) -> Any:
        return select(table).where(table.c.study == self._study)

    def _recorded_keys(self, link: Connection, requests: Iterable[Request]) -> set[str]:
        rows = matching_rows(link, self._study, requests, tables.runs.c.key)
        return {row["key"] for row in rows}
