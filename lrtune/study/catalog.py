"""Studies by name: where each lies, and how one is begun, listed and deleted. Needs no torch."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, delete, distinct, func, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError as UrlError

from lrtune.errors import (
    ArgumentError,
    LrtuneError,
    OtherTaskError,
    StudyError,
    UnknownStudyError,
    printable,
    quantity,
)
from lrtune.study import tables
from lrtune.study.database import FOLDER, SUFFIX, Database, StudyLocation, remove_file
from lrtune.study.identity import fingerprint_from_json
from lrtune.study.leases import LivenessMonitor

ASIDE = re.compile(r"~[0-9]+$")
"""How the name of a study ends that was put aside for a newer one."""

Differences = Callable[[str], Sequence[str]]
"""Takes the fingerprint of a study's task, as JSON; returns how the task now differs, in words."""

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~-]{0,99}")
"""Names of studies. None of them leads out of the folder, or means anything to a shell."""


def study_location(study: str | os.PathLike[str]) -> StudyLocation:
    """Where the study lies that has this name, or this URL, followed by `#NAME` or not.

    >>> print(study_location("digits").file, study_location("sqlite:///runs.db#night"))
    .lrtune/digits.db sqlite:///runs.db#night
    """
    given = os.fspath(study)
    if "://" not in given:
        file = StudyLocation.file_of(_checked_name(given))
        return StudyLocation(given, URL.create("sqlite", database=str(file)), file)
    address, _, name = given.partition("#")
    try:
        url = make_url(address)
    except (UrlError, ValueError) as error:
        raise ArgumentError(
            f"--study {printable(given)!r} is no URL: {printable(error)}."
        ) from None
    name = _checked_name(name or "study")
    if url.drivername == "sqlite":
        if not url.database or url.database == ":memory:" or "\0" in url.database or url.query:
            raise ArgumentError(
                f"--study {printable(given)!r}: a study needs a file that outlives the process, "
                "and takes no options. Expected sqlite:///file.db, or a name."
            )
        return StudyLocation(name, url, Path(url.database))
    if url.drivername == "postgresql+psycopg":
        return StudyLocation(name, url, None)
    raise ArgumentError(
        f"--study {printable(given)!r}: a study lies in sqlite:///file.db or in "
        f"postgresql+psycopg://user@host/database, not in {printable(url.drivername)}."
    )


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ArgumentError(
            f"--study {printable(name)!r} is no name of a study. Expected letters, digits and "
            ". _ - ~, at most 100, or a URL such as sqlite:///file.db."
        )
    return name


class BegunStudy(NamedTuple):
    """The study that a session works on.

    Attributes:
        number: Its id in the database.
        name: Its name there.
        task: The fingerprint of its task, as JSON.
        known: Whether it existed before.
        earlier: The name of the study that was put aside for it; empty where none was.
        differences: How the task of that study differs, in words.
    """

    number: int
    name: str
    task: str
    known: bool
    earlier: str = ""
    differences: tuple[str, ...] = ()


def begin_study(
    database: Database, task: str, differences: Differences, *, fresh: bool
) -> BegunStudy:
    """The study of this name and task; begun if there is none, or if it has to be a fresh one.

    A study of the same name and another task is kept under the first free one of NAME~1, NAME~2,
    ..., where it is found again when the task is the same again.

    Args:
        database: With the name of the study.
        task: The fingerprint of the task, as JSON.
        differences: How the task of a study differs, by its fingerprint.
        fresh: Begin a new study also where there is one of this task.

    Raises:
        OtherTaskError: The name is that of a study which was put aside, and its task is another.
    """
    name = database.location.name
    if database.location.file is not None:
        _verify_rows(database)
    with database.write() as link:
        family = _family(link, name)
        told = {} if fresh else {row["name"]: tuple(differences(row["task"])) for row in family}
        for row in family:
            if not fresh and not told[row["name"]]:
                return BegunStudy(int(row["id"]), row["name"], row["task"], known=True)
        old = next((row for row in family if row["name"] == name), None)
        if old is not None and ASIDE.search(name) and not fresh:
            raise OtherTaskError(
                f"the study {str(database.location)!r} is of another task: "
                f"{'; '.join(told[name])}. Use --study {ASIDE.sub('', name)}, which begins a new "
                "study where the task has changed."
            )
        earlier = "" if old is None else _put_aside(link, old)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        new = {"name": name, "created": created, "task": task}
        made = insert(tables.studies).values(tables.with_checksum(tables.studies, new))
        number = int(link.execute(made.returning(tables.studies.c.id)).scalar_one())
        return BegunStudy(number, name, task, False, earlier, told.get(name, ()))


def find_study(database: Database, differences: Differences) -> str:
    """The name of the study of this name or put aside for it, and of this task.

    Raises:
        UnknownStudyError: There is none of this name.
        OtherTaskError: It is of another task.
    """
    with database.read() as link:
        study_row(link, database.location)
        family = _family(link, database.location.name)
    told = {row["name"]: differences(row["task"]) for row in family}
    for name, differs in told.items():
        if not differs:
            return str(name)
    raise OtherTaskError(
        f"the study {str(database.location)!r} is of another task: "
        f"{'; '.join(told[database.location.name])}."
    )


def _verify_rows(database: Database) -> None:
    """Compare all checksums before anything is written: disks decay, and copies are cut off."""
    with database.read() as link:
        for table in tables.metadata.sorted_tables:
            if "checksum" in table.c:
                for row in link.execute(select(table)).mappings():
                    tables.verify_checksum(table, row)


def _family(link: Connection, name: str) -> list[Mapping[Any, Any]]:
    """The study of this name, then those that were put aside for it, the newest first."""
    studies = tables.studies
    rows = link.execute(select(studies).order_by(studies.c.id.desc())).mappings().all()
    own = [row for row in rows if row["name"] == name]
    aside = [row for row in rows if ASIDE.sub("", row["name"]) == name != row["name"]]
    return [tables.verify_checksum(studies, row) for row in [*own, *aside]]


def _put_aside(link: Connection, row: Mapping[Any, Any]) -> str:
    """Give a study the first free one of NAME~1, NAME~2, ...; returns it."""
    studies, name = tables.studies, row["name"]
    taken = set(link.scalars(select(studies.c.name)))
    free = next(n for n in range(1, len(taken) + 2) if f"{name}~{n}" not in taken)
    renamed = tables.with_checksum(studies, {**row, "name": f"{name}~{free}"})
    link.execute(update(studies).where(studies.c.id == row["id"]).values(renamed))
    return f"{name}~{free}"


@dataclass(frozen=True)
class StudySummary:
    """One line of the list of studies; if a study cannot be read, `fault` says why.

    `study` is what `--study` takes, `created` a time in UTC, `results` the kinds of its results.
    `apart` says what tells the task of a study that was put aside from that of the newer one.
    """

    study: str
    created: str = ""
    runs: int = 0
    results: tuple[str, ...] = ()
    apart: str = ""
    fault: str = ""


def list_studies(where: str | None = None) -> list[StudySummary]:
    """The studies of `.lrtune/`, or of one URL or name, including unreadable ones."""
    names = sorted(file.stem for file in FOLDER.glob(f"*{SUFFIX}") if NAME.fullmatch(file.stem))
    places = [study_location(each) for each in (names if where is None else [where])]
    return [summary for each in places for summary in _summaries(each)]


def _summaries(location: StudyLocation) -> Iterator[StudySummary]:
    studies, results = tables.studies, tables.results
    try:
        with Database(location, create=False).read() as link:
            rows = link.execute(select(studies).order_by(studies.c.id)).mappings().all()
            tasks = {row["name"]: fingerprint_from_json(row["task"]) for row in rows}
            for row in rows:
                newer = tasks.get(ASIDE.sub("", row["name"]), tasks[row["name"]])
                each = StudyLocation(str(row["name"]), location.url, location.file)
                kinds = select(results.c.kind).where(results.c.study == row["id"])
                names = dict.fromkeys(link.scalars(kinds.order_by(results.c.id)))
                yield StudySummary(
                    study=printable(each),
                    created=printable(row["created"]),
                    runs=_run_count(link, row["id"]),
                    results=tuple(printable(name) for name in names),
                    apart=printable("; ".join(tasks[row["name"]].apart_from(newer)), 300),
                )
    except LrtuneError as error:
        yield StudySummary(study=printable(location), fault=printable(error, 300))


def study_row(link: Connection, location: StudyLocation) -> Mapping[Any, Any]:
    """The row of a study in `lrtune_studies`; UnknownStudyError if there is none of that name."""
    row = _row_of(link, location.name)
    if row is None:
        some = link.scalars(select(tables.studies.c.name).limit(5))
        names = ", ".join(map(printable, some)) or "none"
        raise UnknownStudyError(
            f"{location.database} holds no study {location.name!r}; it holds {names}."
        )
    return row


def delete_study(study: str) -> str:
    """Delete a study, unless a process trains for it; return what was deleted, in words."""
    location = study_location(study)
    database, monitor = Database(location, create=False), LivenessMonitor()
    with database.write() as link:
        row = study_row(link, location)
        leases = select(tables.leases).where(tables.leases.c.study == row["id"])
        for lease in link.execute(leases).mappings():
            if not monitor.is_dead(lease):
                raise StudyError(
                    f"the study {str(location)!r} is in use by process {lease['pid']}. "
                    "End it first."
                )
        runs = _run_count(link, row["id"])
        for table in tables.OF_A_STUDY:
            link.execute(delete(table).where(table.c.study == row["id"]))
        link.execute(delete(tables.studies).where(tables.studies.c.id == row["id"]))
        left = link.scalar(select(func.count()).select_from(tables.studies))
    folder = location.checkpoints(int(row["id"]))
    shutil.rmtree(folder, ignore_errors=True)
    if location.file is not None and not left:
        remove_file(location.file)
    with suppress(OSError):  # other studies of this database may have some
        folder.parent.rmdir()
    return f"{location} with {quantity(runs, 'run')}"


def _row_of(link: Connection, name: str) -> Mapping[Any, Any] | None:
    by_name = select(tables.studies).where(tables.studies.c.name == name)
    row = link.execute(by_name).mappings().first()
    return None if row is None else tables.verify_checksum(tables.studies, row)


def _run_count(link: Connection, study: int) -> int:
    keys = select(func.count(distinct(tables.runs.c.key)))
    return int(link.scalar(keys.where(tables.runs.c.study == study)) or 0)
