"""The database: opened, made and migrated; one writer at a time; its errors in our words."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from lrtune.errors import StudyError
from lrtune.study import files, tables, trials
from lrtune.study.location import Place

MAKING, WRITING = 7265_01, 7265_02
"""Advisory locks on a PostgreSQL server: for making the tables, and for writing to them."""

GO_ON = "What was recorded is safe; then run the same command again to go on."


class Database:
    """One database with studies.

    No connection is kept between two transactions: forked loader workers inherit none, and SQLite
    tidies up behind each.

    Args:
        place: Where it lies.
        make: Make it where there is none.

    Raises:
        StudyError: There is none, or it is damaged, locked, of another version, or unreachable.
    """

    def __init__(self, place: Place, *, make: bool) -> None:
        """Make it if that is wanted, look at it closely, and migrate it."""
        self.place = place
        with _told(place):
            if place.file is not None:
                if make and not place.file.exists():
                    files.make(place.file, _fill)
                if not place.file.exists():
                    raise StudyError(
                        f"there is no study {str(place)!r}. `lrtune studies list` shows those that "
                        "there are."
                    )
                files.examine(place.file)
            self._writer = _engine(place.url, place.file, writes=True)
            self._reader = _engine(place.url, place.file, writes=False)
            if place.file is None and make:
                _make_on_server(self._writer, place.url)
            self._check(migrate=make)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: all of it sees one state."""
        with _told(self.place), self._reader.connect() as link, link.begin():
            yield link

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes, whole or not at all; others wait for it."""
        with _told(self.place), self._writer.connect() as link, link.begin():
            if link.dialect.name == "postgresql":
                link.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITING})
            yield link

    def _check(self, *, migrate: bool) -> None:
        with self.read() as link:
            if not inspect(link).has_table(tables.schema.name):
                raise StudyError(
                    f"{self.place.where} is a database, but holds no study of lrtune. Name "
                    "another file, or another database."
                )
            _no_code(link)
            found = _schema(link)
        if found["version"] < tables.SCHEMA and migrate:
            with self.write() as link:
                _migrate(link, self.place)
                found = _schema(link)
        if found["version"] != tables.SCHEMA:
            raise StudyError(
                f"{self.place.where} has tables of version {found['version']}, made by lrtune "
                f"{found['made_by'][:40]!r}; this is lrtune {version('lrtune')}, with version "
                f"{tables.SCHEMA}. Update the older of the two, or begin another study with "
                "--study NAME."
            )
        if found["shape"] != tables.shape() or found["optuna"] != trials.OPTUNA_SCHEMA:
            raise StudyError(
                f"the tables of {self.place.where} are not those that lrtune made: they are "
                "damaged, or another program changed them. Begin another study with --study NAME."
            )


def _schema(link: Connection) -> dict[str, Any]:
    rows = link.execute(select(tables.schema)).mappings().all()
    optuna = link.execute(select(trials.version_info.c.schema_version)).scalars().all()
    if len(rows) != 1 or len(optuna) != 1:
        raise StudyError("the database is damaged: it does not tell the version of its tables.")
    return {**rows[0], "optuna": optuna[0]}


def _no_code(link: Connection) -> None:
    """A database from elsewhere must not do anything by itself."""
    if link.dialect.name == "sqlite":
        told = link.scalar(
            text("SELECT min(name) FROM sqlite_master WHERE type IN ('trigger', 'view')")
        )
        if told is not None:
            raise StudyError(
                f"the database holds a trigger or a view, {str(told)[:40]!r}, which none of ours "
                "does. It was left untouched."
            )


def _migrate(link: Connection, place: Place) -> None:
    """Step by step to the present version, or not at all; another process may have been first."""
    found = _schema(link)
    for number in range(found["version"], tables.SCHEMA):
        if number not in tables.MIGRATIONS:
            raise StudyError(
                f"{place.where} has tables of version {number}, which cannot be brought to "
                f"{tables.SCHEMA}. Read it with the lrtune that made it, {found['made_by'][:40]!r},"
                " or begin another study with --study NAME."
            )
        for statement in tables.MIGRATIONS[number]:
            link.execute(text(statement))
        now = {"version": number + 1, "made_by": version("lrtune"), "shape": tables.shape()}
        link.execute(tables.schema.update().values(now))


def _fill(file: Path) -> None:
    """All tables, Optuna's and ours, into an empty file."""
    url = URL.create("sqlite", database=str(file))
    _make_optunas(url, creator=partial(_hasty, file))
    engine = create_engine(url, creator=partial(_hasty, file), poolclass=NullPool)
    with engine.begin() as made:
        _make_ours(made)
    # Only now: SQLite does not tell when it cannot fold its log into the file, on a full disk.
    with closing(files.connect(file, "rw")) as link:
        link.execute("PRAGMA journal_mode = WAL")


def _hasty(file: Path) -> Any:
    """Nobody sees the file before it is whole, and it is synced then."""
    link = files.connect(file, "rw")
    link.execute("PRAGMA synchronous = OFF")
    return link


def _make_on_server(engine: Engine, url: URL) -> None:
    with engine.connect() as link:
        if inspect(link).has_table(tables.schema.name):
            return
    with engine.connect() as link, link.begin():
        link.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MAKING})
        with engine.connect() as fresh:  # the first of several processes may have finished
            if inspect(fresh).has_table(tables.schema.name):
                return
        _make_optunas(url)
        _make_ours(link)


def _make_optunas(url: URL, **engine: Any) -> None:
    # Only for making: it takes a second.
    from optuna.exceptions import StorageInternalError  # noqa: PLC0415
    from optuna.storages import RDBStorage  # noqa: PLC0415

    address = url.render_as_string(hide_password=False)
    try:
        storage = RDBStorage(address, engine_kwargs={"poolclass": NullPool, **engine})
    except StorageInternalError as error:
        raise error.__cause__ or error from None
    storage.engine.dispose()


def _make_ours(link: Connection) -> None:
    tables.metadata.create_all(link)
    row = {"version": tables.SCHEMA, "made_by": version("lrtune"), "shape": tables.shape()}
    link.execute(insert(tables.schema).values(row))


def _engine(url: URL, file: Path | None, *, writes: bool) -> Engine:
    if file is None:
        return create_engine(url, poolclass=NullPool)
    mode = "rw" if writes else files.reading_mode(file)
    engine = create_engine(url, creator=partial(files.connect, file, mode), poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def begin(link: Connection) -> None:
        if not writes:
            link.exec_driver_sql("PRAGMA query_only = ON")
        link.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _told(place: Place) -> Iterator[None]:
    """What the database says, with what to do about it."""
    try:
        yield
    except StudyError:
        raise
    except ModuleNotFoundError as error:
        raise StudyError(
            f"{place.where} needs a driver that is not installed ({error}). "
            "Try: pip install 'lrtune[postgres]'."
        ) from error
    except DBAPIError as error:
        raise StudyError(_sentence(place.where, str(error.orig))) from error
    except sqlite3.Error as error:
        raise StudyError(_sentence(place.where, str(error))) from error
    except (SQLAlchemyError, LookupError, TypeError, ValueError, OverflowError) as error:
        # Rows of the wrong type: what SQLite does not check, and a damaged file may hold.
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StudyError(f"the study {place.where} is damaged: {first[:200]}.") from error


def _sentence(where: str, said: str) -> str:
    said = " ".join(said.split())[:200]
    low = said.lower()
    if "locked" in low or "busy" in low:
        return (
            f"the study {where} has been locked by another process for {files.PATIENCE:.0f} "
            f"seconds. Wait for it, or end it. {GO_ON}"
        )
    if "is full" in low or "no space" in low or "disk i/o" in low:
        return f"the study {where} cannot be written ({said}). Free some space. {GO_ON}"
    if "readonly" in low or "read-only" in low or "unable to open" in low:
        return (
            f"the study {where} cannot be written ({said}). Name another place with --study "
            "sqlite:////path/to/file.db, or remember nothing with --no-study."
        )
    if "malformed" in low or "not a database" in low or "corrupt" in low or "no such" in low:
        return f"the study {where} is damaged ({said}). Put back a copy, or begin another one."
    return f"the study {where} cannot be used: {said}. Check its URL, and that it is reachable."
