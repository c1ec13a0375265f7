"""The study: everything that was measured on one task, in one database, and what it leads to.

Only this package knows Optuna and the database. Opening one to read it needs neither Optuna nor
torch, so names are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrtune.study.proposer import Fixed, Proposal, Proposer, Sampler
    from lrtune.study.remembering import Study

__all__ = ["Fixed", "Proposal", "Proposer", "Sampler", "Study"]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'lrtune.study' has no attribute {name!r}")
    home = "remembering" if name == "Study" else "proposer"
    return getattr(import_module(f"lrtune.study.{home}"), name)
