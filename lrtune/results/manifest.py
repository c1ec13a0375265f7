"""Where a result comes from, as text: task, settings, versions, command, machine, commit."""

import platform
import re
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def manifest(task: Mapping[str, str], **settings: object) -> dict[str, str]:
    """The manifest of a result: its task, every setting, and the versions, as text."""
    described = {name: _text(value) for name, value in settings.items()}
    versions = {name: version(name) for name in ("lrtune", "torch")}
    return {**task, **described, **versions, "python": platform.python_version()}


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(_text(inside) for inside in value)
    return str(value)


_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def provenance() -> dict[str, str]:
    """Where a session comes from: versions, command, machine, time, and the commit, if any."""
    packages = ("lrtune", "torch", "numpy", "optuna", "sqlalchemy")
    return {
        **{name: _version(name) for name in packages},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv else "",
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(Path.cwd()),
    }


def commit(folder: Path) -> str:
    """The commit of the git tree around a folder, or an empty string.

    The files are read here: git itself would run programs that the tree's settings name.
    """
    try:
        tree = next(each for each in (folder, *folder.parents) if (each / ".git").exists())
        base = tree / ".git"
        if base.is_file():  # a work tree, or a submodule
            base = (tree / base.read_text().removeprefix("gitdir:").strip()).resolve()
        head = (base / "HEAD").read_text().strip()
        common = base / "commondir"
        root = (base / common.read_text().strip()).resolve() if common.exists() else base
        return _resolved(root, head, {})
    except (OSError, StopIteration, UnicodeDecodeError, ValueError):
        return ""


def _resolved(root: Path, head: str, packed: Mapping[str, str]) -> str:
    if not head.startswith("ref:"):
        return head if _HASH.fullmatch(head) else ""
    name = head.removeprefix("ref:").strip()
    if ".." in name or name.startswith("/"):
        return ""
    loose = root / name
    if loose.is_file():
        return _resolved(root, loose.read_text().strip()[:100], packed)
    lines = (root / "packed-refs").read_text().splitlines()
    found = next((line.split()[0] for line in lines if line.endswith(f" {name}")), "")
    return found if _HASH.fullmatch(found) else ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
