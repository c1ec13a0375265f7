"""Where a study lies, and transactions on its database, with the database's errors in plain words.

SQLite and PostgreSQL behave alike here: one writer at a time, each transaction whole or not at all.
"""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError as UrlError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from lrtune.errors import ArgumentError, StudyError, printable
from lrtune.study import sqlite_files, tables

FOLDER = Path(".lrtune")
"""The folder of studies that have a name, below the working directory."""

SUFFIX = ".db"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~-]{0,99}")
"""Names of studies. None of them leads out of the folder, or means anything to a shell."""

MAKING, WRITING = 7265_01, 7265_02
"""Keys of advisory locks on a PostgreSQL server: for making the tables, and for writing."""

RESUME = "What was recorded is safe; then run the same command again to resume."


@dataclass(frozen=True)
class StudyLocation:
    """Where one study lies.

    Attributes:
        name: Its name in the database.
        url: The database's URL.
        file: The database's file; None on a server.
    """

    name: str
    url: URL
    file: Path | None

    def __str__(self) -> str:
        """As `--study` takes it, without a password."""
        if self.file is not None and self.file == FOLDER / f"{self.name}{SUFFIX}":
            return self.name
        return f"{self.url.render_as_string(hide_password=True)}#{self.name}"

    @property
    def database(self) -> str:
        """The database, for messages, without a password."""
        return str(self.file or self.url.render_as_string(hide_password=True))


def study_location(study: str | os.PathLike[str]) -> StudyLocation:
    """Where a study lies.

    Args:
        study: A name, for a file in `.lrtune/`; or an SQLAlchemy URL of SQLite or PostgreSQL,
            followed by `#NAME` if the study is not called `study`.

    Raises:
        ArgumentError: It is neither.

    >>> print(study_location("digits").file, study_location("sqlite:///runs.db#night"))
    .lrtune/digits.db sqlite:///runs.db#night
    """
    given = os.fspath(study)
    if "://" not in given:
        file = FOLDER / f"{_checked_name(given)}{SUFFIX}"
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
        if not url.database or url.database == ":memory:" or url.query:
            raise ArgumentError(
                f"--study {printable(given)!r}: a study needs a file that outlives the process, "
                "and takes no options. Expected sqlite:///file.db, or a name."
            )
        if "\0" in url.database:
            raise ArgumentError("--study: the name of a file cannot hold NUL.")
        return StudyLocation(name, url, Path(url.database))
    if url.drivername == "postgresql+psycopg":
        return StudyLocation(name, url, None)
    raise ArgumentError(
        f"--study {printable(given)!r}: a study lies in sqlite:///file.db or in "
        f"postgresql+psycopg://user@host/database, not in {printable(url.drivername)}."
    )


def named_studies(folder: Path = FOLDER) -> list[StudyLocation]:
    """The studies in a folder, sorted by name."""
    found = sorted(file.stem for file in folder.glob(f"*{SUFFIX}") if NAME.fullmatch(file.stem))
    return [study_location(name) for name in found]


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ArgumentError(
            f"--study {printable(name)!r} is no name of a study. Expected letters, digits and "
            ". _ - ~, at most 100, or a URL such as sqlite:///file.db."
        )
    return name


class Database:
    """A database with studies.

    No connection is kept between two transactions, so that forked loader workers inherit none and
    SQLite folds its log into the file after each.

    Args:
        location: Where it lies.
        create: Create it if it does not exist.

    Raises:
        StudyError: It does not exist, or is damaged, locked, of another version, or unreachable.
    """

    def __init__(self, location: StudyLocation, *, create: bool) -> None:
        """Create it if asked to, and check it before anything is written."""
        self.location = location
        file, url = location.file, location.url
        with _plain_errors(location):
            if file is not None:
                if create and not file.exists():
                    sqlite_files.create(file, _fill_file)
                if not file.exists():
                    raise StudyError(
                        f"there is no study {str(location)!r}. `lrtune studies list` shows those "
                        "that exist."
                    )
                sqlite_files.examine(file)
            self._writer = _engine(url, file, writes=True)
            self._reader = _engine(url, file, writes=False)
            if file is None and create:
                _create_on_server(self._writer)
            with self.read() as link:
                _check_schema(link, location)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: all of it sees one state."""
        with _plain_errors(self.location), self._reader.connect() as link, link.begin():
            yield link

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes, whole or not at all; other writers wait for it."""
        with _plain_errors(self.location), self._writer.connect() as link, link.begin():
            if link.dialect.name == "postgresql":
                link.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITING})
            yield link


def _check_schema(link: Connection, location: StudyLocation) -> None:
    """Refuse a database that lrtune did not make, or that another version of it made."""
    if not inspect(link).has_table(tables.schema.name):
        raise StudyError(
            f"{location.database} is a database, but holds no study of lrtune. Name another file, "
            "or another database."
        )
    if link.dialect.name == "sqlite":
        # Triggers and views run code when a table is used. lrtune makes none.
        code = text("SELECT min(name) FROM sqlite_master WHERE type IN ('trigger', 'view')")
        if (name := link.scalar(code)) is not None:
            raise StudyError(
                f"the database holds a trigger or a view, {str(name)[:40]!r}; lrtune makes "
                "neither. It was left untouched."
            )
    found = link.execute(select(tables.schema)).mappings().all()
    if len(found) != 1:
        raise StudyError("the database is damaged: it does not state the version of its tables.")
    if found[0]["version"] != tables.SCHEMA_VERSION:
        raise StudyError(
            f"{location.database} has tables of version {found[0]['version']}, made by lrtune "
            f"{found[0]['made_by'][:40]!r}; this is lrtune {version('lrtune')}, which reads "
            f"version {tables.SCHEMA_VERSION}. Use the lrtune that made it, or start another study "
            "with --study NAME."
        )


def _fill_file(file: Path) -> None:
    """Make all tables in an empty file."""

    def connect() -> sqlite3.Connection:
        # Nobody sees the file before it is complete, and it is synced then.
        link = sqlite_files.connect(file, "rw")
        link.execute("PRAGMA synchronous = OFF")
        return link

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    with engine.begin() as link:
        _create_tables(link)
    # Last, because SQLite does not report when it cannot fold its log into the file on a full disk.
    with closing(sqlite_files.connect(file, "rw")) as finished:
        finished.execute("PRAGMA journal_mode = WAL")


def _create_on_server(engine: Engine) -> None:
    with engine.connect() as link, link.begin():
        if inspect(link).has_table(tables.schema.name):
            return
        link.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MAKING})
        # Another process may have made them while this one waited for the lock.
        if not inspect(link).has_table(tables.schema.name):
            _create_tables(link)


def _create_tables(link: Connection) -> None:
    tables.metadata.create_all(link)
    row = {"version": tables.SCHEMA_VERSION, "made_by": version("lrtune")}
    link.execute(tables.schema.insert().values(row))


def _engine(url: URL, file: Path | None, *, writes: bool) -> Engine:
    if file is None:
        return create_engine(url, poolclass=NullPool)
    mode = "rw" if writes else sqlite_files.reading_mode(file)
    creator = partial(sqlite_files.connect, file, mode)
    engine = create_engine(url, creator=creator, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def begin(link: Connection) -> None:
        if not writes:
            link.exec_driver_sql("PRAGMA query_only = ON")
        link.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _plain_errors(location: StudyLocation) -> Iterator[None]:
    """Raise what the database reports as a StudyError that says what to do."""
    try:
        yield
    except StudyError:
        raise
    except ModuleNotFoundError as error:
        raise StudyError(
            f"{location.database} needs a driver that is not installed ({error}). "
            "Try: pip install 'lrtune[postgres]'."
        ) from error
    except (DBAPIError, sqlite3.Error) as error:
        raise StudyError(_advice(location.database, str(getattr(error, "orig", error)))) from error
    except (SQLAlchemyError, LookupError, TypeError, ValueError, OverflowError) as error:
        # SQLite does not check the types of values, so a damaged file may hold wrong ones.
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StudyError(f"the study {location.database} is damaged: {first[:200]}.") from error


def _advice(where: str, reported: str) -> str:
    reported = " ".join(reported.split())[:200]

    def says(*words: str) -> bool:
        return any(word in reported.lower() for word in words)

    if says("locked", "busy"):
        return (
            f"the study {where} has been locked by another process for "
            f"{sqlite_files.PATIENCE:.0f} seconds. Wait for it, or end it. {RESUME}"
        )
    if says("is full", "no space", "disk i/o"):
        return f"the study {where} cannot be written ({reported}). Free some space. {RESUME}"
    if says("readonly", "read-only", "unable to open"):
        return (
            f"the study {where} cannot be written ({reported}). Name another location with --study "
            "sqlite:////path/to/file.db, or record nothing with --no-study."
        )
    if says("malformed", "not a database", "corrupt", "no such"):
        return f"the study {where} is damaged ({reported}). Restore a copy, or start another study."
    return f"the study {where} cannot be used: {reported}. Check its URL, and that it is reachable."
