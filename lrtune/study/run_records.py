"""The ledger of one study: who trains what, what is known, and what was concluded."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from lrtune.results.runs import Run
from lrtune.study import tables, trials
from lrtune.study.database import Database
from lrtune.study.leases import MANY, Claims, Want, matching, names
from lrtune.study.recorded_run import Rung, from_row


@dataclass(frozen=True)
class Setting:
    """What a call trains its runs for.

    Attributes:
        stage: A word for people.
        steps: The horizon.
        engine: The class of the engine.
    """

    stage: str
    steps: int
    engine: str


@dataclass(frozen=True)
class Share:
    """How a wish is shared out among those who train.

    Attributes:
        mine: Keys that nobody has, and that are now claimed for us, with their trials.
        theirs: How many others are at, and who they are.
    """

    mine: dict[str, int]
    theirs: list[str]


class Ledger:
    """What one study holds, and what one process adds to it.

    Args:
        database: Open.
        study: Its row in `tables.studies`.
    """

    def __init__(self, database: Database, study: Mapping[Any, Any]) -> None:
        """Bound to one study; a session begins with `open_session`."""
        self.database = database
        self.study: int = study["id"]
        self._trials: int = study["trials"]
        self._session, self._claims = 0, Claims(self.study)

    def open_session(self, manifest: str) -> None:
        """Begin a session, and close what dead processes have left open."""
        with self.database.write() as link:
            row = tables.guarded(tables.sessions, {"study": self.study, "manifest": manifest})
            made = insert(tables.sessions).values(row).returning(tables.sessions.c.id)
            self._session = int(link.execute(made).scalar_one())
            self._claims.bury(link)
            claimed = set(link.scalars(self._mine(tables.claims, tables.claims.c.trial)))
            ghosts = [one for one in trials.running(link, self._trials) if one not in claimed]
            trials.fail(link, ghosts)

    def known(self, wants: Iterable[Want]) -> dict[str, Rung]:
        """What is recorded of these, by key."""
        found: dict[str, Rung] = {}
        with self.database.read() as link:
            for row in self._rungs(link, wants, tables.rungs):
                found.setdefault(row["key"], from_row(row))
        return found

    def new_here(self, wants: Iterable[Want]) -> set[str]:
        """Which of these were recorded in this very session."""
        with self.database.read() as link:
            rows = self._rungs(link, wants, tables.rungs.c.key, tables.rungs.c.session)
            return {row["key"] for row in rows if row["session"] == self._session}

    def claim(self, wants: Mapping[Want, Run], setting: Setting) -> Share:
        """Claim what nobody has and nobody is at; others cannot claim it meanwhile."""
        with self.database.write() as link:
            theirs = self._claims.others(link, wants)
            have = {row["key"] for row in self._rungs(link, wants, tables.rungs.c.key)}
            free = {w: r for w, r in wants.items() if w.key not in have and w.key not in theirs}
            mine: dict[str, int] = {}
            if free:
                mine = self._trials_of(link, free, setting)
                self._claims.take(link, {want: mine[want.key] for want in free})
            who = [owner for key, owner in theirs.items() if key not in have]
            return Share(mine, names(link, who))

    def record(self, done: Mapping[Want, tuple[Run, Rung]], share: Share, setting: Setting) -> None:
        """Everything of one call in one transaction: rungs, trials, and the end of the claims."""
        with self.database.write() as link:
            have = {row["key"] for row in self._rungs(link, done, tables.rungs.c.key)}
            rows = [
                self._row(want, run, rung, share.mine[want.key], setting)
                for want, (run, rung) in done.items()
                if want.key not in have
            ]
            if rows:
                link.execute(insert(tables.rungs), rows)
            ends = [
                (share.mine[want.key], rung.outcome, want.until, rung.score)
                for want, (_, rung) in done.items()
            ]
            until = next(iter(done)).until
            trials.finish(link, ends, complete=until == setting.steps)
            self._claims.give_back(link)

    def release(self) -> None:
        """Give back what was claimed and not recorded; others may take it, whatever happens."""
        self._claims.stop()
        with self.database.write() as link:
            self._claims.give_back(link)

    def beat(self) -> None:
        """Tell other hosts that we live."""
        with self.database.write() as link:
            self._claims.beat(link)

    def add_result(self, kind: str, json: str) -> None:
        """A conclusion, unless the last of its kind is the same."""
        results = tables.results
        with self.database.write() as link:
            newest = self._mine(results, results).where(results.c.kind == kind)
            last = link.execute(newest.order_by(results.c.id.desc()).limit(1)).mappings().first()
            if last is not None and last["json"] == json:
                link.execute(delete(results).where(results.c.id == last["id"]))
            mark = link.scalar(self._mine(tables.rungs, func.max(tables.rungs.c.id))) or 0
            row = {"study": self.study, "session": self._session, "kind": kind, "mark": mark}
            link.execute(insert(results).values(tables.guarded(results, {**row, "json": json})))

    def decided(self, name: str) -> str | None:
        """The decision of that name, if it has been made."""
        mine = self._mine(tables.decisions, tables.decisions)
        with self.database.read() as link:
            row = link.execute(mine.where(tables.decisions.c.name == name)).mappings().first()
        return None if row is None else str(tables.intact(tables.decisions, row)["value"])

    def first(self, table: Any, row: Mapping[str, Any], value: str) -> str:
        """The value under a key of `seeds` or `decisions`; the first that was written stays."""
        column = "parts" if table is tables.seeds else "value"
        mine = self._mine(table, table)
        for name, key in row.items():
            mine = mine.where(table.c[name] == key)
        with self.database.write() as link:
            there = link.execute(mine).mappings().first()
            if there is not None:
                return str(tables.intact(table, there)[column])
            whole = {"study": self.study, **row, column: value}
            link.execute(insert(table).values(tables.guarded(table, whole)))
            return value

    def _rungs(self, link: Connection, wants: Iterable[Want], *what: Any) -> Iterator[Any]:
        return matching(link, self.study, wants, *what)

    def _mine(self, table: Any, *what: Any) -> Any:
        return select(*what).where(table.c.study == self.study)

    def _row(
        self, want: Want, run: Run, rung: Rung, trial: int, setting: Setting
    ) -> dict[str, Any]:
        row = {
            "study": self.study,
            "key": want.key,
            "until": want.until,
            "validated": int(want.validated),
            "session": self._session,
            "trial": trial,
            "stage": tables.told(setting.stage),
            "name": tables.told(run.name),
            "lr": run.lr,
            "schedule": tables.told(repr(run.schedule)),
            "seed": run.seed,
            "steps": setting.steps,
            "engine": setting.engine,
            **rung.columns(),
        }
        return tables.guarded(tables.rungs, row)

    def _trials_of(
        self, link: Connection, wants: Mapping[Want, Run], setting: Setting
    ) -> dict[str, int]:
        """A trial for each: the one of its lower rung, or a new one."""
        rungs, keys = tables.rungs, [want.key for want in wants]
        lower: dict[str, int] = {}
        for start in range(0, len(keys), MANY):
            asked = self._mine(rungs, rungs.c.key, rungs.c.trial)
            some = link.execute(asked.where(rungs.c.key.in_(keys[start : start + MANY])))
            lower |= {row.key: row.trial for row in some}
        if lower:
            trials.resume(link, list(lower.values()))
        new = {want.key: run for want, run in wants.items() if want.key not in lower}
        rows = [
            {
                "lr": run.lr,
                "schedule": tables.told(repr(run.schedule)),
                "seed": run.seed,
                "steps": setting.steps,
                "engine": setting.engine,
                "stage": tables.told(setting.stage),
                "name": tables.told(run.name),
                "key": key,
            }
            for key, run in new.items()
        ]
        begun = trials.begin(link, self._trials, rows) if rows else []
        return lower | dict(zip(new, begun, strict=True))


def enter(database: Database, name: str, task: str, *, fresh: bool) -> tuple[Ledger, str, bool]:
    """The study of that name, made where there is none.

    Args:
        database: Open.
        name: The study's.
        task: The fingerprint to begin a new study with, as JSON.
        fresh: Begin a new one, and keep what is there under another name.

    Returns:
        The ledger, the fingerprint that it holds, and whether it was there before.
    """
    studies = tables.studies
    by_name = select(studies).where(studies.c.name == name)
    if database.place.file is not None:
        with database.read() as link:  # before anything is written
            _audit(link)
    with database.write() as link:
        there = link.execute(by_name).mappings().first()
        if there is not None and fresh:
            _set_aside(link, tables.intact(studies, there))
        elif there is not None:
            return Ledger(database, there), str(tables.intact(studies, there)["task"]), True
        made = {
            "name": name,
            "trials": trials.enter(link, name),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "task": task,
        }
        link.execute(insert(studies).values(tables.guarded(studies, made)))
        return Ledger(database, link.execute(by_name).mappings().one()), task, False


def _audit(link: Connection) -> None:
    """Look at the checksum of every row: files rot, and are copied by halves.

    Raises:
        StudyError: One does not fit.
    """
    for table in tables.metadata.sorted_tables:
        if "sum" in table.c:
            for row in link.execute(select(table)).mappings():
                tables.intact(table, row)


def _set_aside(link: Connection, row: Mapping[Any, Any]) -> None:
    """Rename a study to the first free `name~1`, `name~2`, ..."""
    studies = tables.studies
    taken = set(link.scalars(select(studies.c.name)))
    number = next(n for n in range(1, len(taken) + 2) if f"{row['name']}~{n}" not in taken)
    renamed = {**row, "name": f"{row['name']}~{number}"}
    values = tables.guarded(studies, renamed)
    link.execute(update(studies).where(studies.c.id == row["id"]).values(values))
    trials.rename(link, row["trials"], renamed["name"])
