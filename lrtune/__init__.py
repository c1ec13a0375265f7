"""Which learning rate, which schedule, and why does it not learn any more?

>>> import lrtune, torch
>>> from torch import nn
>>> data = torch.randn(256, 3), torch.randn(256, 1)
>>> task = lrtune.Task(nn.Linear(3, 1), data, loss=nn.MSELoss())
>>> 0 < lrtune.range_test(task, steps=20, seeds=1).suggestion.lr < 10
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrtune import schedules
    from lrtune._cohort import Cohort, train
    from lrtune._range_test import range_test
    from lrtune._report import report
    from lrtune._search import search
    from lrtune.errors import LrtuneError
    from lrtune.results import RangeTest, Search, Trace
    from lrtune.runs import Run
    from lrtune.task import Task

__all__ = [
    "Cohort",
    "LrtuneError",
    "RangeTest",
    "Run",
    "Search",
    "Task",
    "Trace",
    "range_test",
    "report",
    "schedules",
    "search",
    "train",
]

_HOMES = {
    "Cohort": "lrtune._cohort",
    "LrtuneError": "lrtune.errors",
    "RangeTest": "lrtune.results",
    "Run": "lrtune.runs",
    "Search": "lrtune.results",
    "Task": "lrtune.task",
    "Trace": "lrtune.results",
    "range_test": "lrtune._range_test",
    "report": "lrtune._report",
    "search": "lrtune._search",
    "train": "lrtune._cohort",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import lrtune` alone stays light."""
    if name == "schedules":
        return import_module("lrtune.schedules")
    if name not in _HOMES:
        raise AttributeError(f"module 'lrtune' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
