"""Calls of torch's losses: what they are given, and which part they have in the loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lrtune.diagnosis.observations.origins import made_by

LOSSES = (
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss",
    "gaussian_nll_loss", "kl_div", "ctc_loss", "multi_margin_loss", "soft_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss",
)  # fmt: skip

LOGS = ("log_softmax", "logsigmoid", "log")
"""Logs of activations, from which losses are written by hand."""

RANGES = {
    "Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Hardsigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0),
    "Relu": (0.0, math.inf), "Softplus": (0.0, math.inf),
}  # fmt: skip
"""Operations to the range of the numbers that they return."""


@dataclass
class LossCall:
    """A call of one of torch's losses.

    Attributes:
        function: Its name, such as `cross_entropy`.
        made_by: The operation that made its input, as autograd calls it, such as `Softmax`.
        holds: What the numbers of its input are: `probabilities` that sum to one,
            `log-probabilities` whose exponentials do, or `scores`.
        shape: The shape of its input.
        highest: The largest number of its input.
        out_of_reach: The share of its targets that lie outside of the range of `made_by`.
        reversed: Whether the loss of the batch falls where this one rises; None where it has no
            part in it. Of the log of an activation: whether it falls where the logs fall that it
            takes, all of them alike.
    """

    function: str
    made_by: str
    holds: str
    shape: tuple[int, ...]
    highest: float
    out_of_reach: float
    reversed: bool | None = None


def note_loss(name: str, args: Any, kwargs: Any, result: Tensor) -> LossCall | None:
    """Return what is seen of a call; its part in the loss comes with the backward pass.

    None for the log of something else than an activation.
    """
    inputs = args[0] if args else kwargs["input"]
    target = args[1] if len(args) > 1 else kwargs.get("target")
    maker, numbers = made_by(inputs), inputs.detach()
    if name == "log" and maker not in ("Softmax", "Sigmoid"):
        return None
    targets = target.detach() if isinstance(target, Tensor) else numbers.new_empty(0)
    call = LossCall(
        name,
        maker,
        what_holds(numbers, _class_axes(name, inputs.ndim)),
        tuple(inputs.shape),
        float(numbers.max()) if numbers.numel() else math.nan,
        share_outside(targets, *RANGES.get(maker, (-math.inf, math.inf))),
    )
    if result.requires_grad:

        def note(gradient: Tensor) -> None:
            if gradient.any():
                call.reversed = _is_reversed(name, gradient.detach())

        result.register_hook(note)  # type: ignore[no-untyped-call]
    return call


def what_holds(numbers: Tensor, axes: Sequence[Sequence[int]]) -> str:
    """Return what the numbers of a tensor are, of which those along some axes may be one row.

    >>> what_holds(torch.tensor([[0.2, 0.8]]), [[1]]), what_holds(torch.tensor([[2.0, 0.8]]), [[1]])
    ('probabilities', 'scores')
    """
    tight = max(1e-3, 20 * torch.finfo(numbers.dtype).eps)
    numbers = numbers.double()
    for axis in axes:
        if not numbers.numel() or all(numbers.shape[one] == 1 for one in axis):
            continue
        if bool((numbers >= 0).all()) and _are_one(numbers.sum(tuple(axis)), tight):
            return "probabilities"
        # Less tightly, as a small number is often added before the log is taken.
        if _are_one(numbers.exp().sum(tuple(axis)), 0.05):
            return "log-probabilities"
    return "scores"


def share_outside(numbers: Tensor, low: float, high: float) -> float:
    """Return the share of numbers outside of a range by more than 1 % of their scatter.

    >>> share_outside(torch.tensor([-1.0, 0.5, 1.0, 3.0]), 0.0, 1.0)
    0.5
    """
    if numbers.numel() < 2 or not numbers.is_floating_point():
        return 0.0
    margin = 0.01 * numbers.std()
    return float(((numbers < low - margin) | (numbers > high + margin)).double().mean())


def _are_one(sums: Tensor, tolerance: float) -> bool:
    return bool(((sums - 1).abs() < tolerance).all())


def _class_axes(name: str, ndim: int) -> list[list[int]]:
    """Return the axes along which a loss expects probabilities to sum to one."""
    if name in ("cross_entropy", "nll_loss"):
        return [[min(1, ndim - 1)]]
    if name == "kl_div":
        several = [[ndim - 1], [min(1, ndim - 1)], [0], list(range(1, ndim)), list(range(ndim))]
        return [axes for axes in several if axes]
    return [[ndim - 1]] if ndim else []


def _is_reversed(name: str, gradient: Tensor) -> bool:
    if name not in LOGS:
        return float(gradient.double().sum()) < 0
    # Where a sign was forgotten, all rows count alike; a policy gradient weighs them by rewards.
    taken = gradient[gradient != 0]
    return bool((taken > 0).all()) and bool(taken.max() <= 1.001 * taken.min())
