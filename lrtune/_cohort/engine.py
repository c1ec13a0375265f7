"""What a cohort asks of an engine."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from lrtune.data import Batch
from lrtune.runs import Run


class Engine(Protocol):
    """Holds the states of the runs of a cohort, and updates those of one seed in lockstep.

    Every run draws the same numbers for its random layers, and none sees another's state.
    """

    def begin(self, run: Run, like: str | None = None) -> None:
        """Hold a fresh state for the run, or one that goes on from the state of run `like`."""

    def update(
        self, runs: Sequence[Run], batch: Batch, rates: Sequence[float], noise: int
    ) -> Sequence[Tensor]:
        """One optimizer update of each run on the placed batch.

        Args:
            runs: Runs of one seed, all begun.
            batch: On the task's device.
            rates: Each run's multiplier of its peak rate at this step.
            noise: The seed of the random layers at this step.

        Returns:
            Each run's loss before the update: scalars, still on the device.
        """

    def validate(self, run: Run) -> float:
        """Mean validation loss of the run."""

    def drop(self, run: Run) -> None:
        """Forget the run's state."""
