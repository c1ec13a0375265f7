"""What is seen of a task; every check reads it, and nothing else."""

from collections.abc import Sequence
from functools import cached_property

import torch

from lrtune.diagnosis.observations.calls import Calls, Layer
from lrtune.diagnosis.observations.groups import Group, parameter_groups
from lrtune.diagnosis.observations.modes import Modes, losses_by_mode
from lrtune.diagnosis.observations.order import Orders, batch_orders
from lrtune.diagnosis.observations.passes import (
    Pass,
    calls_in_eval,
    calls_with_fewer_rows,
    first_batches,
    passes_of,
    watched_passes,
)
from lrtune.diagnosis.observations.repeats import BATCHES, Repeats, repeat
from lrtune.diagnosis.observations.reruns import Reruns, run_again
from lrtune.diagnosis.observations.short_training import ShortTraining, train_shortly
from lrtune.diagnosis.observations.start import first_losses
from lrtune.diagnosis.observations.updates import Moved, first_update
from lrtune.task.batches import Batch
from lrtune.task.random_state import preserve_random_state
from lrtune.task.rate_checks import StuckRate, stuck_rates
from lrtune.task.task import Task

FIRST = 8
"""By convention: the first batches that are looked at."""


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
    def reruns(self) -> Reruns:
        """The same short run, made twice."""
        return run_again(self.task)

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

    @cached_property
    def batches(self) -> Sequence[Batch]:
        """The first batches, as the loader gives them."""
        return first_batches(self.task, FIRST)

    @cached_property
    def first_pass(self) -> Pass | None:
        """A forward and a backward pass of the first batch; None where one fails."""
        return next(iter(watched_passes(self.task, self.batches[:1])), None)

    @cached_property
    def more_passes(self) -> Sequence[Pass]:
        """The same of the other first batches; empty where one fails."""
        return watched_passes(self.task, self.batches[1:])

    @cached_property
    def calls(self) -> Calls | None:
        """What the first pass calls; None where it fails."""
        return None if self.first_pass is None else self.first_pass.calls

    @cached_property
    def calls_with_fewer_rows(self) -> Calls | None:
        """What a pass of the first batch without its last row calls; None where it fails."""
        return calls_with_fewer_rows(self.task, self.batches[0])

    @cached_property
    def calls_in_eval(self) -> Calls | None:
        """What a pass in eval mode calls; None without validation data."""
        return calls_in_eval(self.task, self.batches[0]) if self.task.has_validation else None

    @cached_property
    def layers(self) -> Sequence[Layer]:
        """The layers, in the order of their calls, with the gradients at their outputs.

        Weights that are zero at the start, as those of a last layer may be, are not zero here.
        """
        first = self.first_pass
        if first is None:
            return ()
        if any(one.size == 0 and one.used and len(one.shape) > 1 for one in first.weights):
            filled = watched_passes(self.task, self.batches[:1], fill=True)
            return list(filled[0].calls.layers.values()) if filled else ()
        return list(first.calls.layers.values())

    @cached_property
    def first_update(self) -> Sequence[Moved]:
        """Losses of the first batch along its first update, and against it."""
        return first_update(self.task, self.batches[0])

    @cached_property
    def repeats(self) -> Repeats | None:
        """Losses of the same batches in the same order, and in another; None where that fails."""
        return repeat(self.task, self.batches[:BATCHES])

    @cached_property
    def trained(self) -> ShortTraining | None:
        """A short training at the best of a few rates; None where no rate trains."""
        return train_shortly(self.task)

    @cached_property
    def trained_passes(self) -> Sequence[Pass]:
        """Passes of the first batches after that training."""
        return passes_of(self.task, self.trained.state, self.batches[:3]) if self.trained else ()

    @cached_property
    def modes(self) -> Modes | None:
        """Losses in train mode and in eval mode, before and after that training."""
        return losses_by_mode(self.task, self.trained, self.batches) if self.trained else None
