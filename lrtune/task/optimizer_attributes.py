"""What an optimizer holds besides what torch's own do, such as the slow weights of a wrapper."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, MethodType

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lrtune.task.value_texts import PLAIN, value_texts

TORCHS_OWN = vars(SGD([torch.zeros(1)])).keys() | {
    "_need_device_dtype_check_for_fused", "_opt_called", "_step_count", "step",
    "_step_supports_amp_scaling",
}  # fmt: skip
"""Attributes of torch's optimizers, which their `state_dict` holds, or which mean nothing."""


def optimizer_attributes(optimizer: Optimizer) -> Iterator[tuple[str, list[str]]]:
    """Yield the names of the attributes of an optimizer's own, each with texts of its numbers.

    Left out are functions, and the parameters, which belong to the model. `state` is among them
    where the class has a `state_dict` of its own, which may leave it out.
    """
    yield from _attributes(optimizer, {id(optimizer)})


def _attributes(optimizer: Optimizer, seen: set[int]) -> Iterator[tuple[str, list[str]]]:
    held = {name: one for name, one in vars(optimizer).items() if name not in TORCHS_OWN}
    if type(optimizer).state_dict is not Optimizer.state_dict:
        held["state"] = optimizer.state
    for name, value in held.items():
        if texts := list(_texts(value, seen)):
            yield name, texts


def _texts(value: object, seen: set[int]) -> Iterator[str]:
    if isinstance(value, PLAIN):
        yield repr(value)
    elif isinstance(value, (nn.Parameter, FunctionType, MethodType, type)):
        return
    elif isinstance(value, (Tensor, np.ndarray)):
        yield from value_texts(value)
    elif id(value) not in seen:
        seen.add(id(value))
        for one in _parts(value, seen):
            yield from _texts(one, seen)


def _parts(value: object, seen: set[int]) -> Iterable[object]:
    match value:
        case list() | tuple():
            return value
        case Mapping():
            return itertools.chain(*value.items())  # many are keyed by parameters
        case nn.Module():
            return value.state_dict().values()
        case Optimizer():
            own = ((name, *texts) for name, texts in _attributes(value, seen))
            return itertools.chain(*value.state.items(), *own)
    return vars(value).items() if hasattr(value, "__dict__") else []
