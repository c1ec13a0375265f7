"""What is seen of a task; every check reads it, and nothing else."""

from functools import cached_property

import torch

from lrtune.diagnosis.observations.groups import Group, parameter_groups
from lrtune.diagnosis.observations.order import Orders, batch_orders, validation_digests
from lrtune.diagnosis.observations.repeats import Repeats, repeated
from lrtune.diagnosis.observations.start import first_losses
from lrtune.task.random_state import preserve_random_state
from lrtune.task.rate_checks import StuckRate, stuck_rates
from lrtune.task.task import Task


class Observed:
    """A task, and what is seen of it: each thing when a check first asks for it, and only once.

    Attributes:
        task: What is looked at; it stays as it is.
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    @cached_property
    def orders(self) -> Orders:
        """(seed, epoch) to digests of the first batches, for seeds and epochs 0 and 1."""
        return batch_orders(self.task)

    @cached_property
    def validation_digests(self) -> tuple[int, ...]:
        """Digests of the first validation batches; empty without such data."""
        return validation_digests(self.task)

    @cached_property
    def groups(self) -> list[Group]:
        """The optimizer's parameter groups."""
        return parameter_groups(self.task)

    @cached_property
    def stuck_rates(self) -> list[StuckRate]:
        """The groups whose rate follows `lr` on a part of the usual rates only."""
        with (
            preserve_random_state(),
            torch.inference_mode(mode=False),
            torch.enable_grad(),
        ):
            return stuck_rates(self.task.optimizer_maker(seed=0))

    @cached_property
    def repeats(self) -> Repeats:
        """The same short run, made twice."""
        return repeated(self.task)

    @property
    def start(self) -> float:
        """The loss of the first batch before any update."""
        return self._first_losses[0]

    @property
    def start_in_eval(self) -> float:
        """The same in eval mode; NaN where the model has no loss there."""
        return self._first_losses[1]

    @cached_property
    def _first_losses(self) -> tuple[float, float]:
        return first_losses(self.task)
