"""Whether the gradient of many batches together differs from zero."""

import itertools
import math

import torch
from torch import Tensor
from torch.optim import Optimizer

from lrtune.task.checks import TRIAL_LR
from lrtune.task.optimizers import trained_weights
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.states import TrainState
from lrtune.task.task import Task

MOST_NUMBERS = 2**20  # by convention: of a gradient; 8 MB
GRADIENT_BATCHES = 8  # by convention: as many gradients are held at once
VANISHES = 0.01  # by convention: of the gradient before training
WITHIN_NOISE = 2.0  # by convention: standard errors within which a gradient is zero


def gradient_vanishes(task: Task, state: TrainState, lr: float, seed: int) -> bool:
    """Whether the gradient of some batches together is zero, but for their noise.

    Where batches have no noise, as with all data in one: whether it is next to nothing, beside
    that before training. It costs a forward and a backward pass of nine batches.

    Args:
        task: What is trained.
        state: Where the gradients are taken; it stays as it is.
        lr: The rate that the state before training is made for.
        seed: Decides the batches.
    """
    gradients = gradients_of(task, state, seed, GRADIENT_BATCHES)
    with preserve_random_state():
        fresh = task.init_state(seed, lr)
    before = gradients_of(task, fresh, seed, 1)
    small = float(gradients.mean(0).norm()) < VANISHES * float(before.norm())
    return small or gradient_excess(gradients) < WITHIN_NOISE


def gradient_excess(gradients: Tensor) -> float:
    """The squared gradient of all batches together, in standard errors of that of their noise.

    The products of the gradients of two batches have the squared gradient as their mean, and
    scatter by their noise. Zero, where all gradients are.

    Args:
        gradients: Of some batches, batch x weight.

    >>> alike = torch.ones(8, 2)
    >>> round(gradient_excess(alike), 2), gradient_excess(0 * alike)
    (5.29, 0.0)
    """
    count = len(gradients)
    products = gradients @ gradients.T
    pairs = products[torch.triu_indices(count, count, 1).unbind()]
    error = math.sqrt(float((pairs**2).mean()) / len(pairs))
    return float(pairs.mean()) / error if error > 0 else 0.0


def gradients_of(task: Task, state: TrainState, seed: int, batches: int) -> Tensor:
    """The gradients of the first batches of a seed, batch x weight, on the CPU in float64.

    Args:
        task: What is trained.
        state: Where the gradients are taken; it stays as it is.
        seed: Decides the batches.
        batches: How many of them; all of their gradients are held at once.
    """
    gradients = []
    with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
        own = task.copy_state(state, TRIAL_LR)
        for place, batch in enumerate(itertools.islice(task.batches(seed), batches)):
            seed_everything(derive_seed(seed, NOISE, place))
            own.optimizer.zero_grad()
            task.loss(own, task.to_device(batch)).backward()  # type: ignore[no-untyped-call]
            gradients.append(_flat(own.optimizer))
    return torch.stack(gradients)


def _flat(optimizer: Optimizer) -> Tensor:
    """The gradients, with that of the weight decay, one after the other, on the CPU in float64.

    Of very many weights, every n-th, which tells mean and noise alike.
    """
    every = -(-sum(weight.numel() for weight in trained_weights(optimizer)) // MOST_NUMBERS)
    parts = []
    for group in optimizer.param_groups:
        for weight in group["params"]:
            decay = float(group.get("weight_decay") or 0.0) * weight.detach()
            slope = decay if weight.grad is None else weight.grad.detach().to_dense() + decay
            parts.append(slope.flatten()[::every].double().cpu())
    return torch.cat(parts)
