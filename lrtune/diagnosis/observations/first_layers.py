"""What the first layers with weights are given: the scale of their inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lrtune.diagnosis.observations.calls import is_wrapped
from lrtune.task.batches import tensors_of
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.task import Task

SELDOM = 0.05  # by convention: a feature that is 0 in more of the samples has no scale


@dataclass(frozen=True)
class FirstLayer:
    """A layer with weights that reads the data.

    Attributes:
        name: Its name in the model.
        scale: The root mean square of the numbers that it is given, zeros left out.
        low, high: The smallest and the largest scale of a feature: of a column, or a channel.
        features: How many features there are.
        normed: Whether a normalisation follows it at once.
    """

    name: str
    scale: float
    low: float
    high: float
    features: int
    normed: bool


@dataclass(frozen=True)
class _Call:
    """A call of a part of the model without parts of its own, and the first tensor it is given."""

    name: str
    layer: nn.Module
    given: Tensor | None


def first_layers(task: Task) -> list[FirstLayer]:
    """The first layer with weights, and others that are given a tensor of the batch itself.

    Not the first one where an embedding comes before it, whose scale is not that of the data.
    """
    with preserve_random_state(), torch.inference_mode(mode=False), torch.no_grad():
        state, batch = task.init_state(0, TRIAL_LR), task.to_device(next(task.batches(0)))
        calls = list[_Call]()
        for name, part in state.model.named_modules():
            if not any(part.children()):
                part.register_forward_pre_hook(partial(_note, calls, name), with_kwargs=True)
        seed_everything(derive_seed(0, NOISE))
        task.loss(state, batch)
        raw = {one.data_ptr() for one in tensors_of(batch) if one.layout is torch.strided}
        return list(_first(calls, raw))


def _note(
    calls: list[_Call], name: str, layer: nn.Module, given: Any, named: Mapping[str, Any]
) -> None:
    tensors = [
        one
        for one in tensors_of([*given, dict(named)])
        if one.is_floating_point() and one.layout is torch.strided and not is_wrapped(one)
    ]
    calls.append(_Call(name, layer, tensors[0] if tensors else None))


def _first(calls: list[_Call], raw: set[int]) -> list[FirstLayer]:
    found, first = list[FirstLayer](), True
    for place, one in enumerate(calls):
        if isinstance(one.layer, (nn.Embedding, nn.EmbeddingBag)):
            first = False
        if one.given is None or not _has_weights(one.layer):
            continue
        if (first or one.given.data_ptr() in raw) and one.given.numel():
            after = calls[place + 1].layer if place + 1 < len(calls) else None
            found.append(_described(one, one.given, normed="Norm" in type(after).__name__))
        first = False
    return found


def _has_weights(layer: nn.Module) -> bool:
    matrices = [one for one in layer.parameters(recurse=False) if one.ndim > 1]
    return bool(matrices) and not isinstance(layer, (nn.Embedding, nn.EmbeddingBag))


def _described(call: _Call, given: Tensor, *, normed: bool) -> FirstLayer:
    numbers = given.detach().cpu().double()
    # Channels of images come second; columns, and the features of a sequence, come last.
    is_conv = isinstance(call.layer, nn.modules.conv._ConvNd)  # noqa: SLF001 - the base of them all
    axis = 1 if is_conv and numbers.ndim > 2 else numbers.ndim - 1
    columns = numbers.movedim(axis, 0).reshape(numbers.shape[axis], -1)
    there = (columns != 0).sum(1)
    scales = columns.square().sum(1).div(there.clamp(min=1)).sqrt()
    often = scales[there > SELDOM * columns.shape[1]]
    nonzero = float(there.sum())
    scale = float(columns.square().sum().sqrt()) / max(1.0, nonzero) ** 0.5
    low, high = (float(often.min()), float(often.max())) if len(often) else (scale, scale)
    return FirstLayer(call.name, scale, low, high, len(columns), normed)
