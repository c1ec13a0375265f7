"""Places: what a user calls a study, and where its database lies."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError as UrlError

from lrtune.errors import ArgumentError

FOLDER = Path(".lrtune")
"""Where studies with a name lie, below the working directory."""

ENDING = ".db"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~-]{0,99}")
"""Nothing in a name can lead out of the folder, or means anything to a shell."""

WAYS = "Expected letters, digits and . _ - ~, at most 100, or a URL such as sqlite:///file.db."


@dataclass(frozen=True)
class Place:
    """Where one study lies.

    Attributes:
        name: Its name in the database.
        url: The database's.
        file: The database's file; None for a server.
    """

    name: str
    url: URL
    file: Path | None

    def __str__(self) -> str:
        """As `--study` takes it, without a password."""
        if self.file is not None and self.file == FOLDER / f"{self.name}{ENDING}":
            return self.name
        return f"{self.url.render_as_string(hide_password=True)}#{self.name}"

    @property
    def where(self) -> str:
        """The database, for messages, without a password."""
        return str(self.file or self.url.render_as_string(hide_password=True))


def place(study: str | os.PathLike[str]) -> Place:
    """Where a study lies.

    Args:
        study: A name, for a file in `.lrtune/`; or an SQLAlchemy URL of SQLite or PostgreSQL,
            with `#NAME` behind it where it is not to be called `study`.

    Raises:
        ArgumentError: It is no such thing.

    >>> print(place("digits").file, place("sqlite:///runs.db#night"))
    .lrtune/digits.db sqlite:///runs.db#night
    """
    text = os.fspath(study)
    if "://" not in text:
        return Place(_name(text), URL.create("sqlite", database=str(_file(text))), _file(text))
    address, _, name = text.partition("#")
    try:
        url = make_url(address)
    except (UrlError, ValueError) as error:
        raise ArgumentError(f"--study {shown(text)!r} is no URL: {shown(str(error))}.") from None
    name = _name(name or "study")
    if url.drivername == "sqlite":
        if not url.database or url.database == ":memory:" or url.query:
            raise ArgumentError(
                f"--study {shown(text)!r}: a study needs a file that outlives the process, and no "
                "options. Expected sqlite:///file.db, or a name."
            )
        if "\0" in url.database:
            raise ArgumentError("--study: a file's name cannot hold NUL.")
        return Place(name, url, Path(url.database))
    if url.drivername == "postgresql+psycopg":
        return Place(name, url, None)
    raise ArgumentError(
        f"--study {shown(text)!r}: a study lies in sqlite:///file.db or in "
        f"postgresql+psycopg://user@host/database, not in {shown(url.drivername)}."
    )


def default_name(target: str | None, device: str | None = None) -> str:
    """The name of a task's own study.

    >>> default_name("models/train.py:task"), default_name(None)
    ('models-train-task', 'digits')
    """
    if target is None:
        plain = "digits"
    else:
        where, _, name = target.partition(":") if ":" not in target[:2] else target.rpartition(":")
        path = Path(where.removesuffix(".py"))
        if path.is_absolute() and path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        plain = re.sub(r"[^A-Za-z0-9_]+", "-", f"{path}-{name or 'task'}").strip("-") or "task"
    if device not in (None, "auto"):
        plain += "-" + re.sub(r"[^A-Za-z0-9_]+", "-", str(device))
    if len(plain) <= 80:
        return plain
    return f"{plain[-60:].strip('-')}-{hashlib.blake2b(plain.encode(), digest_size=4).hexdigest()}"


def named_in(folder: Path = FOLDER) -> list[Place]:
    """The studies with a name, in order."""
    found = sorted(file.stem for file in folder.glob(f"*{ENDING}") if NAME.fullmatch(file.stem))
    return [place(name) for name in found]


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ArgumentError(f"--study {shown(text)!r} is no name of a study. {WAYS}")
    return text


def _file(name: str) -> Path:
    return FOLDER / f"{_name(name)}{ENDING}"


def shown(value: object, most: int = 60) -> str:
    """Text for a terminal: one line, of some length, without anything that it would obey.

    >>> shown("a" + chr(27) + "[31mb")
    'a?[31mb'
    """
    text = str(value)[: most + 1]
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return plain if len(plain) <= most else plain[: most - 3] + "..."
