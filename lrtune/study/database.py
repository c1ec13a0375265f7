"""Transactions on the database of a study, with the database's errors in plain words.

SQLite and PostgreSQL behave alike here: one writer at a time, each transaction whole or not at all.
A SQLite file is made whole or not at all, and examined before anything is written to it.
"""

import hashlib
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from lrtune.errors import StudyError, UnknownStudyError
from lrtune.results.serialization import sync
from lrtune.study import tables

FOLDER, SUFFIX = Path(".lrtune"), ".db"
"""Where studies lie that have a name, below the working directory, and how their files end."""

PATIENCE = 30.0
"""Seconds to wait while another process writes to a SQLite file."""

MAGIC = b"SQLite format 3\0"

MAKING, WRITING = 7265_01, 7265_02
"""Keys of advisory locks on a PostgreSQL server: for making the tables, and for writing."""

RESUME = "What was recorded is safe; then run the same command again to resume."
ELSEWHERE = (
    "Name another location with --study sqlite:////path/to/file.db, or record nothing with "
    "--no-study."
)


@dataclass(frozen=True)
class StudyLocation:
    """Where one study lies: its name in a database, the database's URL, and its file if any."""

    name: str
    url: URL
    file: Path | None

    @staticmethod
    def file_of(name: str) -> Path:
        """The file of a study's name; NAME~1, which `fresh` has put aside, lies in that of NAME."""
        own = FOLDER / f"{name}{SUFFIX}"
        there = os.path.exists(own)  # noqa: PTH110 - Path.exists raises where it may not look
        return own if there else FOLDER / f"{re.sub(r'~[0-9]+$', '', name)}{SUFFIX}"

    def __str__(self) -> str:
        """As `--study` takes it, without a password."""
        if self.file is not None and self.file == self.file_of(self.name):
            return self.name
        return f"{self.url.render_as_string(hide_password=True)}#{self.name}"

    def checkpoints(self, study: int) -> Path:
        """The folder for the checkpoints of the study with this number, which no renaming changes.

        It lies beside a SQLite file; for a database on a server, below the working directory.
        """
        if self.file is not None:
            beside = self.file.with_name(f"{self.file.name.removesuffix(SUFFIX)}.checkpoints")
            return beside / str(study)
        server = self.url.set(username=None, password=None).render_as_string()
        name = re.sub(r"[^A-Za-z0-9_-]", "_", self.url.database or "")[:60]
        mark = hashlib.blake2b(server.encode(), digest_size=4).hexdigest()
        return FOLDER / "checkpoints" / f"{name}-{mark}" / str(study)

    @property
    def database(self) -> str:
        """The database, for messages, without a password."""
        return str(self.file or self.url.render_as_string(hide_password=True))


class Database:
    """A database with studies; `create` makes it if it does not exist.

    No connection is kept between two transactions, so that forked loader workers inherit none and
    SQLite folds its log into the file after each.
    """

    def __init__(self, location: StudyLocation, *, create: bool) -> None:
        self.location = location
        file = location.file
        with _plain_errors(location):
            if file is not None:
                if create and not file.exists():
                    _create_file(location, file)
                if not file.exists():
                    raise UnknownStudyError(
                        f"there is no study {str(location)!r}. `lrtune studies list` shows those "
                        "that exist."
                    )
                _examine(file)
            self._writer, self._reader = (_engine(location, writes=each) for each in (True, False))
            if file is None and create:
                _create_on_server(self._writer)
            with self.read() as link:
                tables.check_tables(link, location.database)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: all of it sees one state."""
        with _plain_errors(self.location), self._reader.connect() as link, link.begin():
            if self.location.file is not None:
                link.exec_driver_sql("PRAGMA query_only = ON")
                link.exec_driver_sql("BEGIN")
            yield link

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes, whole or not at all; other writers wait for it."""
        with _plain_errors(self.location), self._writer.connect() as link, link.begin():
            # Not by an event of SQLAlchemy's: its bookkeeping of listeners runs in the garbage
            # collection, where Python drops a KeyboardInterrupt.
            if self.location.file is not None:
                link.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                link.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITING})
            yield link


def _engine(location: StudyLocation, *, writes: bool) -> Engine:
    file = location.file
    if file is None:
        return create_engine(location.url, poolclass=NullPool)
    # Who may write, reads as `rw`, too, so that SQLite can fold its log into the file.
    may_write = os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
    mode = "rw" if writes or may_write else _mode_of_readers(file)
    return create_engine(location.url, creator=lambda: connect_file(file, mode), poolclass=NullPool)


def _create_on_server(engine: Engine) -> None:
    with engine.begin() as link:
        link.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MAKING})
        # Another process may have made them while this one waited for the lock.
        if not inspect(link).has_table(tables.schema.name):
            tables.create_tables(link)


# --- SQLite files


def connect_file(file: Path, mode: str) -> sqlite3.Connection:
    """Connect to an existing file, without a transaction and without trust in its schema."""
    address = f"file:{quote(os.path.abspath(file))}?mode={mode}"  # noqa: PTH100 - links stay links
    link = sqlite3.connect(
        address, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "synchronous = FULL"):
        link.execute(f"PRAGMA {setting}")
    return link


def remove_file(file: Path) -> None:
    """Delete a database and the files that SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)


def _mode_of_readers(file: Path) -> str:
    # The write-ahead log exists while a process has the database open. Else `immutable` needs no
    # write access to the folder, and leaves nothing there.
    return "ro" if Path(f"{file}-wal").exists() else "ro&immutable=1"


def _create_file(location: StudyLocation, file: Path) -> None:
    """Create a database that nobody sees before it is whole; the first of all processes wins."""
    part = file.with_name(f".lrtune-{secrets.token_hex(6)}.part")
    try:
        # What was measured is nobody else's business: both are for their owner only.
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with _engine(replace(location, file=part), writes=True).begin() as link:
            tables.create_tables(link)
        # Last: on a full disk SQLite does not report that it cannot fold its log into the file.
        with closing(connect_file(part, "rw")) as finished:
            finished.execute("PRAGMA journal_mode = WAL")
        if fault := _fault(part, "ro&immutable=1"):
            raise OSError(None, f"it was not written whole, {fault}")  # noqa: TRY301
        sync(part)
        try:
            os.link(part, file)  # fails where the file exists; a rename would replace it
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not file.exists():
                part.replace(file)
        sync(file.parent)
    except OSError as error:
        raise StudyError(
            f"cannot create the study {file}: {error.strerror or error}. {ELSEWHERE}"
        ) from error
    finally:
        with suppress(OSError):
            remove_file(part)


def _examine(file: Path) -> None:
    """Check every page of a database without writing a byte."""
    try:
        fault = _fault(file, mode := _mode_of_readers(file))
        if fault and mode != _mode_of_readers(file):  # a process opened it meanwhile
            fault = _fault(file, "ro")
    except OSError as error:
        raise StudyError(f"cannot read the study {file}: {error.strerror or error}.") from error
    if fault:
        raise StudyError(
            f"the study {file} is damaged: {fault}. It was left untouched. Restore a copy or "
            "remove the file, or take another study with --study NAME."
        )


def _fault(file: Path, mode: str) -> str:
    """What is wrong with the file; empty if nothing is."""
    with file.open("rb") as stream:
        head, size = stream.read(len(MAGIC)), os.fstat(stream.fileno()).st_size
    if head != MAGIC:
        return f"it is no SQLite database ({size} bytes)" if size else "it is empty"
    try:
        with closing(connect_file(file, mode)) as link:
            found, pages, width = (
                link.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("integrity_check(1)", "page_count", "page_size")
            )
    except sqlite3.OperationalError as error:  # such as locked, or unable to open
        raise OSError(None, str(error)) from error
    except sqlite3.DatabaseError as error:
        return str(error)
    if found != "ok":
        return str(found).replace("\n", "; ")
    if mode.endswith("immutable=1") and pages * width != size:
        return f"it has {size} bytes, expected {pages * width}"
    return ""


# --- errors


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
    advice = {
        ("locked", "busy"): (
            f"the study {where} has been locked by another process for {PATIENCE:.0f} seconds. "
            f"Wait for it, or end it. {RESUME}"
        ),
        ("is full", "no space", "disk i/o"): (
            f"the study {where} cannot be written ({reported}). Free some space. {RESUME}"
        ),
        ("readonly", "read-only", "unable to open"): (
            f"the study {where} cannot be written ({reported}). {ELSEWHERE}"
        ),
        ("malformed", "not a database", "corrupt", "no such"): (
            f"the study {where} is damaged ({reported}). Restore a copy, or start another study."
        ),
    }
    for words, sentence in advice.items():
        if any(word in reported.lower() for word in words):
            return sentence
    return f"the study {where} cannot be used: {reported}. Check its URL, and that it is reachable."
