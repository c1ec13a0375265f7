"""Which learning rate, which schedule, and why does it not learn any more?

>>> import lrtune, torch
>>> from torch import nn
>>> data = torch.randn(256, 3), torch.randn(256, 1)
>>> task = lrtune.Task(nn.Linear(3, 1), data, loss=nn.MSELoss())
>>> 0 < lrtune.range_test(task, steps=100, seeds=1).suggestion.lr < 10
True
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from lrtune import schedules
    from lrtune.diagnosis.check import check
    from lrtune.diagnosis.diagnose import diagnose
    from lrtune.errors import LrtuneError
    from lrtune.reporting import report
    from lrtune.results import (
        ComparisonResult,
        Diagnosis,
        RangeTestResult,
        SearchResult,
        Trace,
        TransferResult,
    )
    from lrtune.results.runs import Run
    from lrtune.results.verdicts import verdicts
    from lrtune.schedules.torch_readers import from_torch
    from lrtune.schedules.torch_schedulers import to_torch
    from lrtune.study.study import Study
    from lrtune.task.task import Task
    from lrtune.training import Cohort, Evaluator, train
    from lrtune.tuning.compare import compare
    from lrtune.tuning.range_test import range_test
    from lrtune.tuning.search import plan, search
    from lrtune.tuning.transfer import transfer

__all__ = [
    "Cohort",
    "ComparisonResult",
    "Diagnosis",
    "Evaluator",
    "LrtuneError",
    "RangeTestResult",
    "Run",
    "SearchResult",
    "Study",
    "Task",
    "Trace",
    "TransferResult",
    "check",
    "compare",
    "diagnose",
    "from_torch",
    "plan",
    "range_test",
    "report",
    "schedules",
    "search",
    "to_torch",
    "train",
    "transfer",
    "verdicts",
]

_HOMES = {
    "Cohort": "lrtune.training",
    "ComparisonResult": "lrtune.results",
    "Diagnosis": "lrtune.results",
    "Evaluator": "lrtune.training",
    "LrtuneError": "lrtune.errors",
    "RangeTestResult": "lrtune.results",
    "Run": "lrtune.results.runs",
    "SearchResult": "lrtune.results",
    "Study": "lrtune.study.study",
    "Task": "lrtune.task.task",
    "Trace": "lrtune.results",
    "TransferResult": "lrtune.results",
    "check": "lrtune.diagnosis.check",
    "diagnose": "lrtune.diagnosis.diagnose",
    "compare": "lrtune.tuning.compare",
    "from_torch": "lrtune.schedules.torch_readers",
    "plan": "lrtune.tuning.search",
    "range_test": "lrtune.tuning.range_test",
    "report": "lrtune.reporting",
    "search": "lrtune.tuning.search",
    "to_torch": "lrtune.schedules.torch_schedulers",
    "train": "lrtune.training",
    "transfer": "lrtune.tuning.transfer",
    "verdicts": "lrtune.results.verdicts",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import lrtune` alone stays light."""
    if name == "schedules":
        return import_module("lrtune.schedules")
    if name == "__version__":
        return version("lrtune")  # the number is written in pyproject.toml, and nowhere else
    if name not in _HOMES:
        raise AttributeError(f"module 'lrtune' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
