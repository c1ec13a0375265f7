"""The study: everything that was measured on one task, in one database, and what it leads to.

Reading a study needs no torch, so `Study` is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrtune.study.study import Study

__all__ = ["Study"]


def __getattr__(name: str) -> Any:
    """Import `Study` when it is first used."""
    if name != "Study":
        raise AttributeError(f"module 'lrtune.study' has no attribute {name!r}")
    return import_module("lrtune.study.study").Study
