"""Engines carry updates out: the protocol between a cohort and its engine."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from lrtune.results.runs import Run, Validation
from lrtune.task.batches import Batch
from lrtune.training.checkpoints import Checkpoint


class StepSettings(NamedTuple):
    """What a schedule sets for one update: a multiplier of the peak rate, and the momentum.

    Attributes:
        rate: Multiplier of the peak rate; or, for a feedback schedule, a function of the loss of
            this very batch, which makes the engine wait for the device.
        momentum: SGD's momentum or Adam's beta1; None leaves the optimizer's own value.
        learns: Whether the run's rate is above zero at any step. Where it never is, an engine may
            skip the backward pass and the optimizer.
    """

    rate: float | Callable[[float], float]
    momentum: float | None = None
    learns: bool = True


class Engine(Protocol):
    """Holds the state of every run of a cohort, and updates the runs of one seed in lockstep.

    Random layers draw the same numbers in every run of a seed, and no run sees another's state.
    """

    def begin(
        self, run: Run, like: str | None = None, checkpoint: Checkpoint | None = None
    ) -> None:
        """Create a fresh state for the run, copy that of run `like`, or restore a checkpoint.

        Raises:
            CheckpointError: The checkpoint does not fit the task.
        """

    def update(
        self, runs: Sequence[Run], batch: Batch, settings: Sequence[StepSettings], noise: int
    ) -> Tensor:
        """Make one optimizer update of each run.

        Args:
            runs: Runs of one seed, all begun.
            batch: On the task's device.
            settings: Each run's rate and momentum at this step.
            noise: The seed of the random layers at this step.

        Returns:
            Each run's loss before the update, shape [runs], still on the device.
        """

    def validate(self, runs: Sequence[Run], samples: int | None = None) -> list[list[Validation]]:
        """Return the validation losses of each run; see `Task.validate`."""

    def finite(self, run: Run) -> bool:
        """Return whether all weights of the run that are trained are finite."""

    def checkpoint(self, run: Run, *, ended: bool) -> Checkpoint:
        """Return the run's model, optimizer and loss; a cohort adds the other fields.

        The optimizer's groups have their peak rates as `initial_lr`. Where the run has `ended`, the
        loss of its first batch is measured, too.

        Raises:
            CheckpointError: The state is no plain data.
        """

    def drop(self, run: Run) -> None:
        """Delete the run's state."""
