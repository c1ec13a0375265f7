"""The gradient noise scale: the batch size beyond which larger batches make updates hardly better.

Source: McCandlish et al. 2018, arXiv:1812.06162, appendix A.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor

from lrtune.task.batches import Batch, count_examples, map_leaves
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.states import TrainState
from lrtune.task.task import Task

BATCHES = 16  # by convention: the interval then is a factor of some three to either side
SEED = 1  # of the batches: others than the state was trained on
MOST_NUMBERS = 2**20  # by convention: so many numbers of a gradient are looked at
CHANCE = 0.9  # of the interval


@dataclass(frozen=True)
class GradientNoise:
    """The simple noise scale tr(covariance) / |gradient|^2, in samples, at one state.

    Attributes:
        step: The updates that the state has made.
        scale: The estimate; infinite where the gradient is no larger than its noise.
        low, high: Its 90 % interval, by the jackknife; `high` may be infinite.
        batch: The samples of a batch of the task.
    """

    step: int
    scale: float
    low: float
    high: float
    batch: int


def gradient_noise(task: Task, state: TrainState, step: int) -> list[GradientNoise]:
    """Estimate the noise scale from the gradients of several batches at one state.

    Where an epoch has fewer batches, these are cut into pieces.

    Returns:
        It alone; nothing where there are not enough batches of one size, or it cannot be told.
    """
    with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
        batches, of = _batches(task)
        sizes = {count_examples(one) for one in batches}
        if len(batches) < BATCHES or len(sizes) > 1:
            return []
        weights = [one for one in state.model.parameters() if one.requires_grad]
        chosen = _chosen_numbers(sum(one.numel() for one in weights))
        rows = list[Tensor]()
        for place, batch in enumerate(batches):
            seed_everything(derive_seed(SEED, NOISE, place))
            try:
                loss = task.loss(state, task.to_device(batch))
            except Exception:
                if sizes == {task.batch_examples}:
                    raise
                return []  # a model may take batches of one size only
            rows.append(_gradient(loss, weights)[chosen.to(loss.device)].cpu().double())
    products = torch.stack(rows) @ torch.stack(rows).T
    scale = noise_scale(products.numpy(), sizes.pop(), of)
    return [] if scale is None else [GradientNoise(step, *scale, task.batch_examples)]


def _batches(task: Task) -> tuple[list[Batch], float]:
    """Batches of one size, or pieces of batches where an epoch has too few; and how many it has."""
    usual, steps = task.batch_examples, task.epoch_steps
    pieces = 1 if steps is None else -(-BATCHES // steps)
    if pieces > 1 and (task.loss_reduction not in ("mean", "sum") or usual < 2 * pieces):
        return [], math.inf
    read = itertools.islice(task.batches(SEED), steps if pieces > 1 else 2 * BATCHES)
    batches = [batch for batch in read if count_examples(batch) == usual]
    size = usual // pieces
    cut = [
        map_leaves(batch, partial(_rows, first=size * place, size=size, of=usual))
        for batch in batches
        for place in range(pieces)
    ]
    return cut[:BATCHES], math.inf if steps is None else steps * pieces


def _rows(leaf: Any, *, first: int, size: int, of: int) -> Any:
    """Some rows of a tensor that has one for each sample."""
    has_rows = isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == of
    return leaf[first : first + size] if has_rows and size < of else leaf


def _gradient(loss: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The gradient as one row."""
    found = torch.autograd.grad(loss.sum(), weights, allow_unused=True)
    flat = [
        torch.zeros_like(weight) if one is None else one.to_dense()
        for one, weight in zip(found, weights, strict=True)
    ]
    return torch.cat([one.reshape(-1) for one in flat])


def noise_scale(
    products: NDArray[np.float64], batch: int, of: float = math.inf
) -> tuple[float, float, float] | None:
    """The noise scale and its interval, from the inner products of the gradients of batches.

    Args:
        products: Shape [n, n], n >= 3.
        batch: The samples of each batch.
        of: How many batches there are; they are drawn without repetition.

    Returns:
        Scale, low and high; None where the gradients are all the same, or not finite, or less alike
        than chance makes them.

    >>> gradients = 2 + np.eye(4, 100)  # each is noise in a direction of its own
    >>> [round(one, 3) for one in noise_scale(gradients @ gradients.T, 8)]
    [0.02, 0.02, 0.02]
    """
    count = len(products)
    if not np.isfinite(products).all():
        return None
    share = _signal(products, of)
    shares = [_signal(np.delete(np.delete(products, k, 0), k, 1), of) for k in range(count)]
    if not np.isfinite([share, *shares]).all():
        return None
    spread = math.sqrt((count - 1) * float(np.var(shares)))
    reach = float(student.ppf((1 + CHANCE) / 2, count - 1)) * spread
    if not share + reach > 0:
        return None
    ends = (share, share + reach, share - reach)
    scale, low, high = (batch / one if one > 0 else math.inf for one in ends)
    return scale, low, high


@np.errstate(invalid="ignore")
def _signal(products: NDArray[np.float64], of: float) -> float:
    """|gradient|^2 / tr(covariance of the gradient of a batch), both without bias."""
    count = len(products)
    mean = float(products.mean())  # of all pairs: the square of the mean gradient
    noise = (float(np.trace(products)) / count - mean) * count / (count - 1)
    if noise <= 0:
        return math.inf
    left = max(0.0, 1 - count / of)  # of the variance of a mean, where nothing is drawn twice
    return (mean - left * noise / count) / noise


def _chosen_numbers(count: int) -> Tensor:
    """Which numbers of a gradient are looked at: all, or a sample."""
    if count <= MOST_NUMBERS:
        return torch.arange(count)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(count, (MOST_NUMBERS,), generator=generator)
