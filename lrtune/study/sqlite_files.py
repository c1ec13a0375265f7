"""SQLite files: created whole or not at all, and examined before anything is written to them."""

import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from lrtune.errors import StudyError

PATIENCE = 30.0
"""Seconds to wait while another process writes."""

MAGIC = b"SQLite format 3\0"
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


def connect(file: Path, mode: str) -> sqlite3.Connection:
    """Connect to an existing file, without a transaction and without trust in its schema.

    Args:
        file: The database.
        mode: `rw`; or `ro`; or `ro&immutable=1`, which needs no write access to the folder and
            leaves nothing there, but must not be used while another process writes.
    """
    address = f"file:{quote(os.path.abspath(file))}?mode={mode}"  # noqa: PTH100 - links stay links
    link = sqlite3.connect(
        address, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    link.execute("PRAGMA trusted_schema = OFF")
    link.execute("PRAGMA cell_size_check = ON")
    link.execute("PRAGMA synchronous = FULL")
    return link


def reading_mode(file: Path) -> str:
    """The mode to read a file in: `rw` where possible, so that SQLite can fold its log into it."""
    if os.access(file, os.W_OK) and os.access(file.parent, os.W_OK):
        return "rw"
    return "ro" if _log(file).exists() else "ro&immutable=1"


def create(file: Path, fill: Callable[[Path], None]) -> None:
    """Create a database that nobody sees before it is whole; the first of several processes wins.

    Args:
        file: The new database; an existing one stays.
        fill: Writes the tables into the empty file that it is given.

    Raises:
        StudyError: The folder cannot be written.
    """
    part = file.with_name(f".lrtune-{secrets.token_hex(6)}.part")
    try:
        file.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE))
        fill(part)
        if fault := _fault(part, "ro&immutable=1"):
            raise OSError(None, f"it was not written whole, {fault}")  # noqa: TRY301
        _sync(part)
        _rename(part, file)
        _sync(file.parent)
    except OSError as error:
        raise StudyError(
            f"cannot create the study {file}: {error.strerror or error}. Name another location "
            "with --study sqlite:////path/to/file.db, or record nothing with --no-study."
        ) from error
    finally:
        for left in (part, _log(part), Path(f"{part}-shm"), Path(f"{part}-journal")):
            with suppress(OSError):
                left.unlink()


def examine(file: Path) -> None:
    """Check every page of a database without writing a byte.

    Raises:
        StudyError: It is no SQLite database, or a damaged one.
    """
    try:
        in_use = _log(file).exists()
        fault = _fault(file, "ro" if in_use else "ro&immutable=1")
        if fault and not in_use and _log(file).exists():  # a process opened it meanwhile
            fault = _fault(file, "ro")
    except OSError as error:
        raise StudyError(f"cannot read the study {file}: {error.strerror or error}.") from error
    if fault:
        raise StudyError(
            f"the study {file} is damaged: {fault}. It was left untouched. Restore a copy, or "
            "start another study with --study NAME."
        )


def remove(file: Path) -> None:
    """Delete a database and the files that SQLite keeps beside it."""
    for each in (file, _log(file), Path(f"{file}-shm")):
        each.unlink(missing_ok=True)


def _log(file: Path) -> Path:
    """The write-ahead log, which exists while a process has the database open."""
    return Path(f"{file}-wal")


def _fault(file: Path, mode: str) -> str:
    """What is wrong with the file; empty if nothing is."""
    with file.open("rb") as stream:
        head, size = stream.read(len(MAGIC)), os.fstat(stream.fileno()).st_size
    if head != MAGIC:
        return f"it is no SQLite database but {size} bytes of something else"
    try:
        with closing(connect(file, mode)) as link:
            (found,) = link.execute("PRAGMA integrity_check(1)").fetchone()
            (pages,) = link.execute("PRAGMA page_count").fetchone()
            (width,) = link.execute("PRAGMA page_size").fetchone()
    except sqlite3.DatabaseError as error:
        unavailable = "locked" in str(error) or "unable to open" in str(error)
        if isinstance(error, sqlite3.OperationalError) and unavailable:
            raise OSError(None, str(error)) from error
        return str(error)
    if found != "ok":
        return str(found).replace("\n", "; ")
    if mode.endswith("immutable=1") and pages * width != size:
        return f"it has {size} bytes, expected {pages * width}"
    return ""


def _rename(part: Path, file: Path) -> None:
    """Give the finished file its name, unless another process was first."""
    with suppress(FileExistsError):
        try:
            os.link(part, file)  # fails where the file exists; a rename would replace it
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if not file.exists():
                part.replace(file)


def _sync(path: Path) -> None:
    with suppress(PermissionError):  # some systems open no folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
