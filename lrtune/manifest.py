"""The manifest: what an experiment was made of, as text, so that a report can be made again."""

import platform
from collections.abc import Mapping
from importlib.metadata import version


def manifest(task: Mapping[str, str], **settings: object) -> dict[str, str]:
    """The task in words, every setting, and the versions that matter."""
    told = {name: _told(value) for name, value in settings.items()}
    versions = {name: version(name) for name in ("lrtune", "torch")}
    return {**task, **told, **versions, "python": platform.python_version()}


def _told(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(_told(inside) for inside in value)
    return str(value)
