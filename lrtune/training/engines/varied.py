"""The loop, with runs that differ in more than rate, schedule and seed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from lrtune.errors import CheckpointError, whole_number
from lrtune.results.runs import Run
from lrtune.task.batches import Batch
from lrtune.task.group_settings import set_setting
from lrtune.task.task import Task
from lrtune.training.checkpoints import Checkpoint
from lrtune.training.engines import StepSettings
from lrtune.training.engines.loop import Loop


@dataclass(frozen=True)
class Variation:
    """What one run does otherwise than the task.

    Attributes:
        accumulate: How many batches make an update, >= 1.
        settings: `momentum` (SGD's, or Adam's beta1) and `weight_decay` of the optimizer.
    """

    accumulate: int = 1
    settings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the number of batches."""
        whole_number("accumulate", self.accumulate, least=1)


Variations = Mapping[str, Variation] | Variation
"""The names of runs to what they do otherwise than the task; or what all of them do."""


class VariedLoop(Loop):
    """The loop for runs with optimizer settings, or a batch size, of their own.

    All runs of a seed see the same batch at each step. One that accumulates adds its gradient to
    those of the steps before, and makes an update at every k-th step, at the rate of that step:
    with the mean of these gradients, or with their sum where the loss is a sum. Runs without a
    variation train as in the loop, bit for bit.

    Args:
        task: What is trained.
        variations: What runs do otherwise.
    """

    def __init__(self, task: Task, variations: Variations) -> None:
        super().__init__(task)
        self._variations = variations
        self._gathered = Counter[str]()  # batches whose gradients wait for the next update

    def begin(
        self, run: Run, like: str | None = None, checkpoint: Checkpoint | None = None
    ) -> None:
        """Create a fresh state for the run, copy that of run `like`, or restore a checkpoint.

        Raises:
            ArgumentError: The optimizer has no such setting.
            CheckpointError: Run `like` has gradients that wait for an update.
        """
        if like is not None:
            self._refuse_within_update(like)
        super().begin(run, like, checkpoint)
        for name, value in self.variation(run.name).settings.items():
            set_setting(self.states[run.name].state.optimizer, name, value)

    def checkpoint(self, run: Run, *, ended: bool) -> Checkpoint:
        """Return the run's model, optimizer and loss; see `Engine`.

        Raises:
            CheckpointError: Gradients wait for an update, and no checkpoint holds them.
        """
        self._refuse_within_update(run.name)
        return super().checkpoint(run, ended=ended)

    def drop(self, run: Run) -> None:
        """Delete the run's state."""
        super().drop(run)
        self._gathered.pop(run.name, None)

    def variation(self, name: str) -> Variation:
        """What a run does otherwise than the task."""
        known = self._variations
        return known if isinstance(known, Variation) else known.get(name, Variation())

    def update_run(self, run: Run, batch: Batch, settings: StepSettings) -> Tensor:
        """Add the gradient of a batch, and make an update where it is the last of k batches."""
        count = self.variation(run.name).accumulate
        if count == 1 or not settings.learns:
            return super().update_run(run, batch, settings)
        held = self.states[run.name]
        if not self._gathered[run.name]:
            held.state.optimizer.zero_grad()
        share = 1.0 if self._task.loss_reduction == "sum" else 1 / count
        loss = self.loss(held.state, batch, backward=True, share=share)
        held.set_rates(settings, loss)  # at each step, as a schedule may react to each loss
        self._gathered[run.name] = (self._gathered[run.name] + 1) % count
        if not self._gathered[run.name]:
            held.state.optimizer.step()
        return loss

    def _refuse_within_update(self, name: str) -> None:
        gathered = self._gathered[name]
        if gathered:
            count = self.variation(name).accumulate
            raise CheckpointError(
                f"run {name!r} has the gradients of {gathered} of {count} batches, which no "
                f"checkpoint holds. Stop it after a multiple of {count} steps."
            )
