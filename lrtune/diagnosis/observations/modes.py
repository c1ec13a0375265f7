"""The losses of the same training batches in train mode and in eval mode, before and after."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lrtune.diagnosis.observations.passes import as_in_training
from lrtune.task.batches import Batch
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import NOISE, derive_seed, seed_everything
from lrtune.task.states import TrainState, evaluating
from lrtune.task.task import Task

SETTLING = 20
"""Forward passes in train mode before eval mode is looked at, for the statistics of BatchNorm."""

UPDATES = 500
"""By convention: as many updates of a real training these passes stand for; an epoch's, where it
has more."""

USUAL = 0.1  # torch's momentum; instead of None, which means the mean over all updates


@dataclass(frozen=True)
class Modes:
    """Mean losses of the same training batches.

    Attributes:
        train: In train mode, before and after a training.
        evaluated: In eval mode, before and after it.
        scatter: The standard deviation of the batches' losses in train mode, before it.
    """

    train: tuple[float, float]
    evaluated: tuple[float, float]
    scatter: float


def losses_by_mode(task: Task, trained: TrainState, batches: Sequence[Batch]) -> Modes:
    """Measure a new state and the trained one in both modes."""
    with as_in_training():
        placed = [task.to_device(one) for one in batches]
        new = task.init_state(0, TRIAL_LR)
        after = task.copy_state(trained, TRIAL_LR)
        each = max(UPDATES, task.epoch_steps or 0) / SETTLING
        with _faster_statistics(after.model, each):
            for number in range(SETTLING):
                _loss(task, after, placed[number % len(placed)], number)
        evaluated = []
        for state in (new, after):
            with evaluating(state):
                evaluated.append(_losses(task, state, placed))
        train = [_losses(task, state, placed) for state in (new, after)]
    means = [float(np.mean(losses)) for losses in (*train, *evaluated)]
    return Modes((means[0], means[1]), (means[2], means[3]), float(np.std(train[0])))


@contextmanager
def _faster_statistics(model: nn.Module, updates: float) -> Iterator[None]:
    """Let each pass move the statistics of BatchNorm as far as so many updates will."""
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm)]
    kept = [(one, one.momentum) for one in norms]
    for norm, momentum in kept:
        norm.momentum = 1 - (1 - (USUAL if momentum is None else momentum)) ** updates
    yield
    for norm, momentum in kept:
        norm.momentum = momentum


def _losses(task: Task, state: TrainState, batches: Sequence[Batch]) -> list[float]:
    return [_loss(task, state, one, place) for place, one in enumerate(batches)]


def _loss(task: Task, state: TrainState, batch: Batch, number: int) -> float:
    seed_everything(derive_seed(0, NOISE, number))
    return task.loss(state, batch).item()
