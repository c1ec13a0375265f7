"""What is seen of a task before it trains; every check reads it, and nothing else."""

from collections.abc import Sequence
from functools import cached_property

import torch

from lrtune.diagnosis.observations.calls import Calls, Layer
from lrtune.diagnosis.observations.doubles import Doubles, doubles
from lrtune.diagnosis.observations.far_outputs import losses_far_out
from lrtune.diagnosis.observations.first_layers import FirstLayer, first_layers
from lrtune.diagnosis.observations.groups import Group, parameter_groups
from lrtune.diagnosis.observations.odd_numbers import (
    TRAINING,
    VALIDATION,
    OddNumbers,
    odd_numbers,
)
from lrtune.diagnosis.observations.order import Orders, batch_orders, validation_digests
from lrtune.diagnosis.observations.passes import (
    Pass,
    calls_in_eval,
    calls_with_fewer_rows,
    first_batches,
    watched_passes,
)
from lrtune.diagnosis.observations.plain_loss import plain_loss
from lrtune.diagnosis.observations.repeats import BATCHES, Repeats, repeat
from lrtune.diagnosis.observations.reruns import Reruns, run_again
from lrtune.diagnosis.observations.samples import Samples, training_samples, validation_samples
from lrtune.diagnosis.observations.short_batches import batch_norms, least_rows
from lrtune.diagnosis.observations.start import first_losses
from lrtune.diagnosis.observations.targets_used import uses_targets
from lrtune.diagnosis.observations.updates import Moved, first_update
from lrtune.errors import LrtuneError
from lrtune.task.batches import Batch
from lrtune.task.guess import Guess
from lrtune.task.part_guess import TRAIN
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
    def reruns(self) -> Reruns | None:
        """The same short run, made twice; None where it cannot be trained."""
        try:
            return run_again(self.task)
        except LrtuneError:  # another check tells why, or training does
            return None

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
    def losses_far_out(self) -> dict[float, float]:
        """Factors of the outputs to the loss of the first batch; empty where that fails."""
        return losses_far_out(self.task, self.batches[0])

    @cached_property
    def uses_targets(self) -> bool:
        """Whether the loss reads the targets of the first batch."""
        return uses_targets(self.task, self.batches[0])

    @cached_property
    def repeats(self) -> Repeats | None:
        """Losses of the same batches in the same order, and in another; None where that fails."""
        return repeat(self.task, self.batches[:BATCHES])

    @cached_property
    def training_samples(self) -> Samples:
        """The first samples of the first epoch, some thousand at most."""
        return training_samples(self.task)

    @cached_property
    def validation_samples(self) -> Samples:
        """The first validation samples, some thousand at most; none without such data."""
        return validation_samples(self.task)

    @cached_property
    def training_guess(self) -> Guess | None:
        """The loss of the best constant prediction for training samples; None where unknown."""
        batches = [one.batch for one in self.training_samples.found]
        return self.task.trained_on(batches).guess(TRAIN) if batches else None

    @cached_property
    def odd_numbers(self) -> list[OddNumbers]:
        """NaN and infinite numbers in training and validation data; empty without any."""
        parts = {TRAINING: self.training_samples, VALIDATION: self.validation_samples}
        found = [odd_numbers(self.task, part, samples) for part, samples in parts.items()]
        return [one for one in found if one is not None]

    @cached_property
    def doubles(self) -> Doubles:
        """How often inputs repeat among training data, and in the validation data."""
        return doubles(self.training_samples, self.validation_samples)

    @cached_property
    def least_rows(self) -> int:
        """The samples of the smallest training batch, as far as that is known."""
        return least_rows(self.task, self.training_samples)

    @cached_property
    def batch_norms(self) -> list[str]:
        """The names of BatchNorm layers that take mean and variance from their batch."""
        return batch_norms(self.task)

    @cached_property
    def first_layers(self) -> list[FirstLayer]:
        """The layers with weights that read the data."""
        return first_layers(self.task)

    @cached_property
    def plain_loss(self) -> float:
        """The loss of the first batch with outputs that say nothing; NaN where nobody knows."""
        return plain_loss(self.task)
