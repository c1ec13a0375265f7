"""What a cohort asks of an engine."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from lrtune.results.runs import Run
from lrtune.task.batch import Batch


class Pace(NamedTuple):
    """What a run's optimizer is set to for one update.

    Attributes:
        rate: Multiplier of the peak rate; or, for a schedule that reacts to the loss, a function
            of the loss of this very batch, which costs a look at the device.
        momentum: SGD's momentum or Adam's beta1; None leaves the optimizer's own alone.
        learns: Whether the rate is above zero at any step: otherwise the loss is all there is to
            the run, and an engine may spare the rest.
    """

    rate: float | Callable[[float], float]
    momentum: float | None = None
    learns: bool = True


class Engine(Protocol):
    """Holds the states of the runs of a cohort, and updates those of one seed in lockstep.

    Every run draws the same numbers for its random layers, and none sees another's state.
    """

    def begin(self, run: Run, like: str | None = None) -> None:
        """Hold a fresh state for the run, or one that goes on from the state of run `like`."""

    def update(
        self, runs: Sequence[Run], batch: Batch, paces: Sequence[Pace], noise: int
    ) -> Tensor:
        """One optimizer update of each run on the placed batch.

        Args:
            runs: Runs of one seed, all begun.
            batch: On the task's device.
            paces: Each run's rate and momentum at this step.
            noise: The seed of the random layers at this step.

        Returns:
            Each run's loss before the update, shape [runs], still on the device.
        """

    def validate(self, runs: Sequence[Run]) -> list[float]:
        """Mean validation loss of each run."""

    def drop(self, run: Run) -> None:
        """Forget the run's state."""
