"""The studies of a database: begin one, list them, delete one. Needs no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, distinct, func, insert, select, update

from lrtune.errors import LrtuneError, StudyError, printable
from lrtune.study import sqlite_files, tables
from lrtune.study.database import Database, StudyLocation, named_studies, study_location
from lrtune.study.leases import LivenessMonitor


@dataclass(frozen=True)
class StudySummary:
    """One line of the list of studies.

    Attributes:
        study: The study as `--study` takes it.
        created: When it was begun, in UTC.
        runs: Number of recorded runs.
        results: Kinds of its results, oldest first.
        fault: Why it cannot be read; empty if it can.
    """

    study: str
    created: str = ""
    runs: int = 0
    results: tuple[str, ...] = ()
    fault: str = ""


def begin_study(database: Database, name: str, task: str, *, fresh: bool) -> tuple[int, str, bool]:
    """Find the study of that name, or begin it.

    Args:
        database: The database that holds it.
        name: The study's name.
        task: JSON of the task's fingerprint, for a new study.
        fresh: Begin a new study, and keep an old one of that name as `NAME~1`.

    Returns:
        The study's id, the fingerprint that it holds, and whether it existed.
    """
    studies = tables.studies
    by_name = select(studies).where(studies.c.name == name)
    if database.location.file is not None:
        with database.read() as link:  # before anything is written
            _verify_all_checksums(link)
    with database.write() as link:
        row = link.execute(by_name).mappings().first()
        if row is not None:
            tables.verify_checksum(studies, row)
            if not fresh:
                return int(row["id"]), str(row["task"]), True
            _set_aside(link, row)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        new = tables.with_checksum(studies, {"name": name, "created": created, "task": task})
        made = link.execute(insert(studies).values(new).returning(studies.c.id))
        return int(made.scalar_one()), task, False


def _verify_all_checksums(link: Connection) -> None:
    """Check every row of a file: disks decay, and copies are cut off."""
    for table in tables.metadata.sorted_tables:
        if "checksum" in table.c:
            for row in link.execute(select(table)).mappings():
                tables.verify_checksum(table, row)


def _set_aside(link: Connection, row: Mapping[Any, Any]) -> None:
    """Rename a study to the first free one of `NAME~1`, `NAME~2`, ..."""
    studies = tables.studies
    taken = set(link.scalars(select(studies.c.name)))
    number = next(n for n in range(1, len(taken) + 2) if f"{row['name']}~{n}" not in taken)
    renamed = tables.with_checksum(studies, {**row, "name": f"{row['name']}~{number}"})
    link.execute(update(studies).where(studies.c.id == row["id"]).values(renamed))


def list_studies(where: str | None = None) -> list[StudySummary]:
    """The studies of the working directory, or of one database, including unreadable ones.

    Args:
        where: A URL, or the name of a study; None for all of `.lrtune/`.
    """
    locations = named_studies() if where is None else [study_location(where)]
    return [summary for each in locations for summary in _summaries(each)]


def _summaries(location: StudyLocation) -> Iterator[StudySummary]:
    studies, results = tables.studies, tables.results
    try:
        with Database(location, create=False).read() as link:
            for row in link.execute(select(studies).order_by(studies.c.id)).mappings():
                each = StudyLocation(str(row["name"]), location.url, location.file)
                kinds = select(results.c.kind).where(results.c.study == row["id"])
                names = dict.fromkeys(link.scalars(kinds.order_by(results.c.id)))
                yield StudySummary(
                    study=printable(each),
                    created=printable(row["created"]),
                    runs=_run_count(link, row["id"]),
                    results=tuple(printable(name) for name in names),
                )
    except LrtuneError as error:
        yield StudySummary(study=printable(location), fault=printable(error, 300))


def study_row(link: Connection, location: StudyLocation) -> Mapping[Any, Any]:
    """The row of a study in `lrtune_studies`.

    Raises:
        StudyError: There is no study of that name; the message names some that exist.
    """
    studies = tables.studies
    by_name = select(studies).where(studies.c.name == location.name)
    row = link.execute(by_name).mappings().first()
    if row is None:
        names = [printable(one) for one in link.scalars(select(studies.c.name).limit(5))]
        raise StudyError(
            f"{location.database} holds no study {location.name!r}; it holds "
            f"{', '.join(names) or 'none'}."
        )
    return tables.verify_checksum(studies, row)


def delete_study(study: str) -> str:
    """Delete a study; return what was deleted, in words.

    Raises:
        StudyError: A process trains for it, or it cannot be read. In the latter case delete its
            file yourself.
    """
    location, processes = study_location(study), tables.processes
    database, monitor = Database(location, create=False), LivenessMonitor()
    with database.write() as link:
        row = study_row(link, location)
        tokens = select(tables.leases.c.process).where(tables.leases.c.study == row["id"])
        users = select(processes).where(processes.c.token.in_(tokens))
        for process in link.execute(users).mappings():
            if not monitor.is_dead(process):
                raise StudyError(
                    f"the study {str(location)!r} is in use by process {process['pid']}. "
                    "End it first."
                )
        runs = _run_count(link, row["id"])
        for table in tables.OF_A_STUDY:
            link.execute(delete(table).where(table.c.study == row["id"]))
        link.execute(delete(tables.studies).where(tables.studies.c.id == row["id"]))
        left = link.scalar(select(func.count()).select_from(tables.studies))
    if location.file is not None and not left:
        sqlite_files.remove(location.file)
    return f"{location} with {runs} runs"


def _run_count(link: Connection, study: int) -> int:
    keys = select(func.count(distinct(tables.runs.c.key)))
    return int(link.scalar(keys.where(tables.runs.c.study == study)) or 0)
