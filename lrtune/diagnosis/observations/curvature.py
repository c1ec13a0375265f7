"""The largest eigenvalue of the Hessian of the loss of one batch: its sharpness.

Source: Cohen et al. 2021, arXiv:2103.00065.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import SGD, Optimizer

from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.states import TrainState
from lrtune.task.task import Task

PRODUCTS = 8
"""By convention: Hessian-vector products. Each costs about two updates; of healthy tasks the
largest eigenvalue is known to some 5 % then."""
CURVATURE = 2 * PRODUCTS + 1  # what one sharpness costs, in updates


@dataclass(frozen=True)
class Sharpness:
    """The largest eigenvalue on the first batch, at one state.

    Attributes:
        step: The updates that the state has made.
        value: The eigenvalue; in groups with rates of their own, that of the Hessian times these
            rates, relative to the rate of the task.
    """

    step: int
    value: float


def sharpness(task: Task, state: TrainState, step: int, lr: float) -> list[Sharpness]:
    """Estimate the sharpness by Lanczos' method, a power iteration that forgets nothing.

    Args:
        task: Its first batch is looked at.
        state: Where; it stays as it is, but for statistics such as those of BatchNorm.
        step: The updates that it has made.
        lr: The rate that its optimizer was made for.

    Returns:
        It alone; nothing where there are no second derivatives.
    """
    with (
        preserve_random_state(),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),  # other kinds of attention have no second derivative
        torch.backends.cudnn.flags(enabled=False),  # nor have its recurrent nets
    ):
        groups = [
            (weight, math.sqrt(max(0.0, float(group["lr"])) / lr))
            for group in state.optimizer.param_groups
            for weight in group["params"]
            if weight.requires_grad
        ]
        weights, scales = [one for one, _ in groups], [scale for _, scale in groups]
        seed_everything(derive_seed(0, NOISE))
        batch = task.to_device(next(task.batches(0)))
        seed_everything(derive_seed(0, NOISE))
        try:
            loss = task.loss(state, batch).sum()
            slope = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
            value = _largest(_Hessian(slope, weights, scales))
        except RuntimeError:  # an operation without a second derivative
            return []
    return [Sharpness(step, value)] if math.isfinite(value) else []


def largest_rate(optimizer: Optimizer, sharpness: float) -> float:
    """The rate above which an optimizer is unstable on a quadratic loss; infinite where unknown.

    It is 2 (1 + momentum) / sharpness for SGD, weight decay included. No such bound holds for
    optimizers that precondition, such as Adam.

    >>> import torch
    >>> round(largest_rate(SGD([torch.zeros(1)], lr=0.1, momentum=0.9), 38.0), 9)
    0.1

    Source: Cohen et al. 2021, arXiv:2103.00065, appendix B.
    """
    if type(optimizer) is not SGD:
        return math.inf
    group = optimizer.param_groups[0]
    momentum, factor = float(group["momentum"]), 1 - float(group["dampening"])
    reach = 2 * (1 + momentum)
    if group["nesterov"]:
        reach /= 1 + 2 * momentum
    return reach / (factor * (sharpness + float(group["weight_decay"])))


class _Hessian:
    """The Hessian of a loss, to be multiplied with."""

    def __init__(
        self, slope: Sequence[Tensor | None], weights: Sequence[Tensor], scales: Sequence[float]
    ) -> None:
        there = [
            (one, weight, scale)
            for one, weight, scale in zip(slope, weights, scales, strict=True)
            if one is not None and one.requires_grad and scale
        ]
        self._slope = [one for one, _, _ in there]
        self.weights, self._scales = [one for _, one, _ in there], [one for *_, one in there]

    def __matmul__(self, vector: list[Tensor]) -> list[Tensor]:
        scaled = [one * scale for one, scale in zip(vector, self._scales, strict=True)]
        found = torch.autograd.grad(
            self._slope, self.weights, scaled, retain_graph=True, allow_unused=True
        )
        return [
            torch.zeros_like(one) if product is None else product * scale
            for product, one, scale in zip(found, self.weights, self._scales, strict=True)
        ]


def _largest(hessian: _Hessian) -> float:
    """The largest eigenvalue, by `PRODUCTS` steps of Lanczos."""
    if not hessian.weights:
        return math.nan
    generator = torch.Generator().manual_seed(0)
    vector = [torch.randn(one.shape, generator=generator).to(one) for one in hessian.weights]
    before, beta = [torch.zeros_like(one) for one in vector], 0.0
    vector = _times(vector, 1 / _norm(vector))
    diagonal, beside = list[float](), list[float]()
    for _ in range(PRODUCTS):
        product = hessian @ vector
        alpha = _dot(product, vector)
        diagonal.append(alpha)
        rest = [
            one - alpha * here - beta * last
            for one, here, last in zip(product, vector, before, strict=True)
        ]
        beta = _norm(rest)
        if not math.isfinite(beta):
            return math.nan
        if beta <= 1e-6 * max(map(abs, diagonal)):  # all there is has been seen
            break
        beside.append(beta)
        before, vector = vector, _times(rest, 1 / beta)
    size = len(diagonal)
    matrix = np.diag(diagonal) + sum(np.diag(beside[: size - 1], k) for k in (-1, 1))
    return float(np.linalg.eigvalsh(matrix)[-1])


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    exact = torch.promote_types(one[0].dtype, torch.float32)  # sums of half precision are not
    return sum(float((a.to(exact) * b.to(exact)).sum()) for a, b in zip(one, other, strict=True))


def _norm(vector: Sequence[Tensor]) -> float:
    return math.sqrt(_dot(vector, vector))


def _times(vector: Sequence[Tensor], factor: float) -> list[Tensor]:
    return [one * factor for one in vector]
