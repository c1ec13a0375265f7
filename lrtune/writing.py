"""Files: written whole or not at all."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from lrtune.errors import ResultsError


def write(path: Path, content: str | bytes) -> Path:
    """Write a file atomically: a reader sees the old one or the new one.

    A new file has the mode that the user's umask gives to new files.

    Raises:
        ResultsError: It cannot be written; what was there before is still there.
    """
    target = Path(os.path.realpath(path))  # a link stays a link
    if target.exists() and not target.is_file():
        raise ResultsError(f"cannot write {path}: it is no regular file. Name another one.")
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    beside = target.with_name(f".lrtune-{secrets.token_hex(6)}.part")
    try:
        with beside.open("xb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except OSError as error:
        raise ResultsError(
            f"cannot write {path}: {error.strerror or error}. Name a file in a folder that exists "
            "and that you may write to."
        ) from error
    finally:
        with suppress(OSError):  # it is gone when all went well
            beside.unlink()
    return path
