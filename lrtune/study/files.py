"""SQLite files: made whole or not at all, and looked at closely before anything is written."""

import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from lrtune.errors import StudyError

PATIENCE = 30.0
"""Seconds to wait while another process writes."""

MAGIC = b"SQLite format 3\0"
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


def connect(file: Path, mode: str) -> sqlite3.Connection:
    """A connection that makes no file, begins no transaction by itself, and trusts no schema.

    Args:
        file: There already.
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
    """How to read the file: where it may be written, so that SQLite can tidy up behind itself."""
    if os.access(file, os.W_OK) and os.access(file.parent, os.W_OK):
        return "rw"
    return "ro" if _log(file).exists() else "ro&immutable=1"


def make(file: Path, fill: Callable[[Path], None]) -> None:
    """Make a database that nobody sees before it is whole; the first of several processes wins.

    Args:
        file: Where it goes; what is there already stays.
        fill: Writes the tables into the empty file that it is given.

    Raises:
        StudyError: The folder cannot be written.
    """
    part = file.with_name(f".lrtune-{secrets.token_hex(6)}.part")
    try:
        file.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE))
        fill(part)
        _whole(part)
        _synced(part)
        _placed(part, file)
        _synced(file.parent)
    except OSError as error:
        raise StudyError(
            f"cannot make the study {file}: {error.strerror or error}. Name another place with "
            "--study sqlite:////path/to/file.db, or remember nothing with --no-study."
        ) from error
    finally:
        for left in (part, _log(part), Path(f"{part}-shm"), Path(f"{part}-journal")):
            with suppress(OSError):
                left.unlink()


def examine(file: Path) -> None:
    """Look at every page of a database without writing a byte.

    Raises:
        StudyError: It is no SQLite database, or a damaged one; it was left untouched.
    """
    try:
        quiet = not _log(file).exists()  # nobody has it open
        found = _faults(file, "ro&immutable=1" if quiet else "ro")
        if found and quiet and _log(file).exists():  # a process came in meanwhile
            found = _faults(file, "ro")
    except OSError as error:
        raise StudyError(f"cannot read the study {file}: {error.strerror or error}.") from error
    if found:
        raise StudyError(
            f"the study {file} is damaged: {found}. It was left untouched. Put back a copy, or "
            "begin another one with --study NAME."
        )


def remove(file: Path) -> None:
    """Delete a database with what belongs to it."""
    for each in (file, _log(file), Path(f"{file}-shm")):
        each.unlink(missing_ok=True)


def _log(file: Path) -> Path:
    return Path(f"{file}-wal")


def _faults(file: Path, mode: str) -> str:
    """What is wrong with the file; nothing where all is well."""
    with file.open("rb") as opened:
        head, size = opened.read(len(MAGIC)), os.fstat(opened.fileno()).st_size
    if head != MAGIC:
        return f"it is no SQLite database but {size} bytes of something else"
    try:
        link = connect(file, mode)
        try:
            (told,) = link.execute("PRAGMA integrity_check(1)").fetchone()
            (pages,) = link.execute("PRAGMA page_count").fetchone()
            (width,) = link.execute("PRAGMA page_size").fetchone()
        finally:
            link.close()
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "unable to open" in str(error):
            raise OSError(None, str(error)) from error
        return str(error)
    except sqlite3.DatabaseError as error:
        return str(error)
    if told != "ok":
        return str(told).replace("\n", "; ")
    if mode.endswith("immutable=1") and pages * width != size:
        return f"it has {size} bytes, expected {pages * width}"
    return ""


def _whole(part: Path) -> None:
    if fault := _faults(part, "ro&immutable=1"):
        raise OSError(None, f"it was not written whole, {fault}")


def _placed(part: Path, file: Path) -> None:
    """Give the file its name, unless another process was first."""
    with suppress(FileExistsError):
        try:
            os.link(part, file)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if not file.exists():
                part.replace(file)


def _synced(path: Path) -> None:
    with suppress(PermissionError):  # some systems open no folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
