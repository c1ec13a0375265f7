"""What is seen of a task; every check reads it, and nothing else."""

import math
from collections.abc import Sequence
from functools import cached_property

import torch

from lrtune.diagnosis.observations.calls import Calls, Layer
from lrtune.diagnosis.observations.curvature import CURVATURE, Sharpness, sharpness
from lrtune.diagnosis.observations.doubles import Doubles, doubles
from lrtune.diagnosis.observations.first_layers import FirstLayer, first_layers
from lrtune.diagnosis.observations.gradient_noise import (
    BATCHES as NOISE_BATCHES,
)
from lrtune.diagnosis.observations.gradient_noise import (
    GradientNoise,
    gradient_noise,
)
from lrtune.diagnosis.observations.groups import Group, parameter_groups
from lrtune.diagnosis.observations.main_training import MainTraining, main_training
from lrtune.diagnosis.observations.memorising import HELD_OUT, MEMORISING, Memorised, memorise
from lrtune.diagnosis.observations.modes import Modes, losses_by_mode
from lrtune.diagnosis.observations.odd_numbers import (
    TRAINING,
    VALIDATION,
    OddNumbers,
    odd_numbers,
)
from lrtune.diagnosis.observations.one_batch import OneBatch, overfit_one_batch
from lrtune.diagnosis.observations.order import Orders, batch_orders
from lrtune.diagnosis.observations.passes import (
    Pass,
    calls_in_eval,
    calls_with_fewer_rows,
    first_batches,
    passes_of,
    watched_passes,
)
from lrtune.diagnosis.observations.plain_loss import plain_loss
from lrtune.diagnosis.observations.repeats import BATCHES, Repeats, repeat
from lrtune.diagnosis.observations.reruns import Reruns, run_again
from lrtune.diagnosis.observations.samples import Samples, training_samples, validation_samples
from lrtune.diagnosis.observations.short_batches import batch_norms, least_rows
from lrtune.diagnosis.observations.short_training import ShortTraining, train_shortly
from lrtune.diagnosis.observations.start import first_losses
from lrtune.diagnosis.observations.updates import Moved, first_update
from lrtune.errors import DataError
from lrtune.task.batches import Batch
from lrtune.task.guess import Guess
from lrtune.task.part_guess import TRAIN
from lrtune.task.random_state import preserve_random_state
from lrtune.task.rate_checks import StuckRate, stuck_rates
from lrtune.task.task import Task

FIRST = 8
"""By convention: the first batches that are looked at."""

STEPS = 600  # by convention: where nobody says how long the training is
LEAST_BUDGET = 300.0  # updates of all trials; half of a training of 600


class Observed:
    """A task, and what is seen of it: each thing when a check first asks for it, and only once.

    Attributes:
        task: What is looked at; it stays as it is.
        lr: The rate in question; None where none was given.
        steps: The length of the training that is asked about, in updates.
        spent: The updates that trials have made so far, other passes counted as so many updates.
    """

    def __init__(self, task: Task, lr: float | None = None, steps: int = STEPS) -> None:
        self.task, self.lr, self.steps = task, lr, steps
        self.spent = 0.0

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

    # --- trials, which train; each takes its updates from what the budget has left

    @property
    def left(self) -> float:
        """The updates that trials may still make, of half a training or 300, if that is more."""
        return max(LEAST_BUDGET, self.steps / 2) - self.spent

    @cached_property
    def one_batch(self) -> OneBatch:
        """Trainings on the first batch alone."""
        tried = overfit_one_batch(self.task)
        self.spent += tried.updates
        return tried

    @cached_property
    def main_training(self) -> MainTraining | None:
        """A training at the rate in question, or at the best of a short grid.

        None where the data hold something that no rate trains on.
        """
        try:
            run = main_training(self.task, self.lr, self.steps)
        except DataError:  # which a check of the data tells
            return None
        self.spent += run.updates + self._validation_cost(run.val_samples)
        return run

    @cached_property
    def memorised(self) -> Memorised | None:
        """Some hundred samples learned by heart.

        None where Adam does not learn one batch, where the data hold something that no rate trains
        on, without validation data, and where the budget is spent.
        """
        tried, cost = self.one_batch, MEMORISING + self._validation_cost(HELD_OUT)
        if not self.task.has_validation or not math.isfinite(tried.adam_lr) or cost > self.left:
            return None
        self.spent += cost
        try:
            return memorise(self.task, tried)
        except DataError:
            return None

    @cached_property
    def sharpness(self) -> list[Sharpness]:
        """The sharpness at the start and at the end of the main training, as the budget allows."""
        run, found = self.main_training, list[Sharpness]()
        states = {} if run is None else run.states
        for step in dict.fromkeys([*states][:1] + [*states][-1:]):
            if run is not None and self.left >= CURVATURE:
                self.spent += CURVATURE
                found += sharpness(self.task, states[step], step, run.lr)
        return found

    @cached_property
    def gradient_noise(self) -> list[GradientNoise]:
        """The gradient noise scale along the main training, as the budget allows."""
        run, found = self.main_training, list[GradientNoise]()
        states = {} if run is None else run.states
        for step in [*states][1:]:
            if self.left >= NOISE_BATCHES:
                self.spent += NOISE_BATCHES
                found += gradient_noise(self.task, states[step], step)
        return found

    def _validation_cost(self, samples: int) -> float:
        """What it costs to validate so many samples, in updates: a forward pass is a third."""
        return samples / (3 * self.task.batch_examples)
