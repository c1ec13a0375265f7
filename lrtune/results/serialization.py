"""What all results share: their JSON, files written in one piece, and where they come from."""

import contextlib
import dataclasses
import json
import math
import os
import platform
import re
import secrets
import shlex
import sys
import textwrap
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pandas as pd

from lrtune.errors import ResultsError, printable
from lrtune.results.schema import Columns, as_table

Record = TypeVar("Record")


def to_builtins(value: Any) -> Any:
    """Convert to dicts, lists, strings and numbers; NaN and infinities become strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_builtins(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, pd.DataFrame):
        return {str(name): to_builtins(column.tolist()) for name, column in value.items()}
    if isinstance(value, Mapping):
        return {str(key): to_builtins(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [to_builtins(inside) for inside in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def from_builtins(kind: type[Record], plain: Any) -> Record:
    """Make a record from what `to_builtins` returned, or raise a `ResultsError`."""
    if not isinstance(plain, dict):
        raise ResultsError(
            f"expected an object with the fields of {kind.__name__}, got {_cut(plain)}."
        )
    hints = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name not in plain:
            raise ResultsError(f"{kind.__name__} needs a field {field.name!r}; it is missing.")
        inside, columns = plain[field.name], field.metadata.get("columns")
        if columns:
            values[field.name] = _frame(inside, columns)
        else:
            values[field.name] = _value(hints[field.name], inside, field.name)
    return kind(**values)


def _frame(plain: Any, columns: Columns) -> pd.DataFrame:
    if not isinstance(plain, dict) or not all(isinstance(c, list) for c in plain.values()):
        raise ResultsError(f"expected a table of columns, got {_cut(plain)}.")
    if len({len(column) for column in plain.values()}) > 1:
        raise ResultsError("the columns of a table differ in length.")
    return as_table(plain, columns)


def _value(hint: Any, plain: Any, name: str) -> Any:  # noqa: PLR0911 - one per kind of type
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if plain is None and type(None) in arguments:
            return None
        return _value(next(a for a in arguments if a is not type(None)), plain, name)
    if dataclasses.is_dataclass(hint):
        return from_builtins(typing.cast("type[Any]", hint), plain)
    if origin is tuple and isinstance(plain, list):
        kinds = arguments[:1] * len(plain) if arguments[-1] is ... else arguments
        if len(kinds) == len(plain):
            return tuple(_value(k, p, name) for k, p in zip(kinds, plain, strict=True))
    if origin is dict and isinstance(plain, dict):
        return {str(key): _value(arguments[1], inside, name) for key, inside in plain.items()}
    if hint is float and (plain in ("nan", "inf", "-inf") or type(plain) in (int, float)):
        with contextlib.suppress(OverflowError):
            return float(plain)
    if isinstance(hint, type) and type(plain) is hint:
        return plain
    raise ResultsError(f"field {name!r} cannot hold {_cut(plain)}.")


def _cut(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = f"a deeply nested {type(value).__name__}"
    return printable(text)


def fact_lines(head: str, facts: Mapping[str, object]) -> str:
    """A line, and one below it for each fact that is there, as `print` shows a result.

    >>> print(fact_lines("Search: lr 0.1", {"cost": "1.2", "best training": None}))
    Search: lr 0.1
      cost  1.2
    """
    told = {name: str(fact) for name, fact in facts.items() if fact not in (None, "")}
    width = max(map(len, told), default=0)
    blank = " " * (width + 4)
    lines = [
        textwrap.fill(
            fact,
            100,
            initial_indent=f"  {name:{width}}  ",
            subsequent_indent=blank,
            break_on_hyphens=False,
        )
        for name, fact in told.items()
    ]
    return "\n".join([head, *lines])


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
        with contextlib.suppress(OSError):  # it is gone when all went well
            beside.unlink()
    return path


def sync(path: Path) -> None:
    """Have the system write a file or a folder to the disk now."""
    with contextlib.suppress(PermissionError):  # some systems open no folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Serializable:
    """A result that can be written as a dict and as JSON.

    Attributes:
        kind: What it is called in JSON.
    """

    kind: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, with the kind of the result first."""
        return {"kind": self.kind, **to_builtins(self)}

    def to_json(self) -> str:
        """One JSON object that `lrtune.results.read` takes back; NaN and infinities as strings."""
        return json.dumps(self.to_dict(), allow_nan=False)


# --- where results come from


def manifest(task: Mapping[str, str], **settings: object) -> dict[str, str]:
    """The manifest of a result: its task, every setting, and the versions, as text."""
    described = {name: _text(value) for name, value in settings.items()}
    return {**task, **described, **_versions("lrtune", "torch")}


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(_text(inside) for inside in value)
    return str(value)


def provenance() -> dict[str, str]:
    """Where a session comes from: versions, command, machine, time, and the commit, if any."""
    return {
        **_versions("lrtune", "torch", "numpy", "optuna", "sqlalchemy"),
        "platform": platform.platform(),
        "command": shlex.join([_program(Path(sys.argv[0])), *sys.argv[1:]]) if sys.argv else "",
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(Path.cwd()),
    }


def _program(file: Path) -> str:
    """The name of a script, or of the package that `python -m` runs."""
    return file.parent.name if file.name == "__main__.py" else file.name


def _versions(*packages: str) -> dict[str, str]:
    versions = {}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "none"
    return {**versions, "python": platform.python_version()}


def commit(folder: Path) -> str:
    """The commit of the git tree around a folder, or an empty string."""
    # The files are read here: git itself would run programs that the tree's settings name.
    try:
        tree = next(each for each in (folder, *folder.parents) if (each / ".git").exists())
        base = tree / ".git"
        if base.is_file():  # a work tree, or a submodule
            base = (tree / base.read_text().removeprefix("gitdir:").strip()).resolve()
        head = (base / "HEAD").read_text().strip()
        common = base / "commondir"
        root = (base / common.read_text().strip()).resolve() if common.exists() else base
        if head.startswith("ref:"):
            head = _branch_commit(root, head.removeprefix("ref:").strip())
    except (OSError, StopIteration, UnicodeDecodeError, ValueError):
        return ""
    return head if re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", head) else ""


def _branch_commit(root: Path, branch: str) -> str:
    if ".." in branch or branch.startswith("/"):  # it would lead out of a stranger's tree
        return ""
    if (root / branch).is_file():
        return (root / branch).read_text().strip()
    packed = (root / "packed-refs").read_text().splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {branch}")), "")
