"""What a verb is handed: a function that trains runs and returns their trace."""

from collections.abc import Sequence
from typing import Protocol

from lrtune._cohort.cohort import Progress, train
from lrtune.results import Trace
from lrtune.runs import Run
from lrtune.task import Task


class Evaluate(Protocol):
    """Trains runs; a verb knows nothing else of how, so it is tested with a lambda."""

    def __call__(
        self, runs: Sequence[Run], steps: int, *, stage: str, validate: bool = True
    ) -> Trace:
        """Train every run for `steps`; `stage` is a word for people, such as `coarse`."""


def evaluator(task: Task, progress: Progress | None = None) -> Evaluate:
    """Train the task itself, each call a cohort of its own."""

    def evaluate(runs: Sequence[Run], steps: int, *, stage: str, validate: bool = True) -> Trace:
        return train(task, runs, steps, stage=stage, validate=validate, progress=progress)

    return evaluate
