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
        self,
        runs: Sequence[Run],
        steps: int,
        *,
        stage: str,
        validate: bool = True,
        until: int | None = None,
    ) -> Trace:
        """Train every run up to step `until`, all of `steps` when None.

        Args:
            runs: Candidates.
            steps: The horizon over which schedules are spread.
            stage: A word for people, such as `coarse`.
            validate: Measure the runs on the validation data at the end, if any.
            until: The rung; called again with a higher one, the same runs go on.

        Returns:
            The trace with all rows from step 0.
        """


def evaluator(task: Task, progress: Progress | None = None) -> Evaluate:
    """Train the task itself, each call a cohort of its own."""

    def evaluate(
        runs: Sequence[Run],
        steps: int,
        *,
        stage: str,
        validate: bool = True,
        until: int | None = None,
    ) -> Trace:
        return train(
            task, runs, steps, stage=stage, validate=validate, until=until, progress=progress
        )

    return evaluate
