"""Attributes of modules that training changes, though they are neither weights nor buffers.

Such as a counter, a hidden state that is carried from batch to batch, or a random generator. They
are in no `state_dict`, but a model that uses them would go on otherwise without them.
"""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrtune.task.batches import to_device
from lrtune.task.plain_data import PLAIN, on_cpu
from lrtune.task.value_texts import value_texts

TORCHS_OWN = vars(nn.Module()).keys() - {"training"}
"""Attributes of every module: its weights, buffers, parts and hooks."""

Texts = dict[str, dict[str, tuple[str, ...]]]
"""The name of a part of a module, and the name of an attribute, to texts that tell its value."""

Changes = dict[str, dict[str, Any]]
"""The name of a part, and the name of an attribute, to its value as plain data."""


def attribute_texts(module: nn.Module) -> Texts:
    """Return what every attribute is now, of those that can be saved.

    These are numbers, texts, tensors without gradients, lists, tuples and dicts of them, and random
    generators. Other objects are taken for settings, which training does not change.
    """
    return {
        name: {
            key: _texts(value)
            for key, value in vars(part).items()
            if key not in TORCHS_OWN and _is_savable(value)
        }
        for name, part in module.named_modules()
    }


def changed_attributes(module: nn.Module, fresh: Texts) -> Changes:
    """Return the attributes that are not what they were when `fresh` was taken."""
    changed: Changes = {}
    for name, texts in attribute_texts(module).items():
        part, before = vars(module.get_submodule(name)), fresh.get(name, {})
        if keys := [key for key, text in texts.items() if before.get(key) != text]:
            changed[name] = {key: on_cpu(_content(part[key]), f"{name}.{key}") for key in keys}
    return changed


def restore_attributes(module: nn.Module, changed: Mapping[str, Mapping[str, Any]]) -> None:
    """Set attributes to what `changed_attributes` has returned."""
    device = next((weight.device for weight in module.parameters()), torch.device("cpu"))
    for name, values in changed.items():
        part = vars(module.get_submodule(name))
        for key, value in values.items():
            match part.get(key):
                case torch.Generator() as own:
                    own.set_state(value)
                case np.random.Generator() as own:
                    own.bit_generator.state = value
                case random.Random() as own:
                    own.setstate(value)
                case np.random.RandomState() as own:
                    own.set_state(value)
                case Tensor() as own if _is_like(own, value):
                    own.copy_(value)  # in place, as another part may hold it, too
                case own:
                    where = own.device if isinstance(own, Tensor) else device
                    part[key] = to_device(on_cpu(value, key), where)


def _is_savable(value: object) -> bool:
    kind = type(value)
    if kind is Tensor:  # a result of a computation is computed again
        return not value.requires_grad  # type: ignore[attr-defined]
    if kind in (list, tuple):
        return all(_is_savable(inside) and not _is_generator(inside) for inside in value)  # type: ignore[attr-defined]
    if kind is dict:
        return _is_savable([*value.keys(), *value.values()])  # type: ignore[attr-defined]
    return kind in PLAIN or _is_generator(value)


def _is_generator(value: object) -> bool:
    kinds = torch.Generator, np.random.Generator, random.Random, np.random.RandomState
    return isinstance(value, kinds)


def _is_like(own: Tensor, value: object) -> bool:
    return isinstance(value, Tensor) and (own.shape, own.dtype) == (value.shape, value.dtype)


def _content(value: Any) -> Any:
    match value:
        case torch.Generator():
            return value.get_state()
        case np.random.Generator():
            return _without_arrays(value.bit_generator.state)
        case random.Random():
            return value.getstate()
        case np.random.RandomState():
            return _without_arrays(value.get_state(legacy=False))
    return value


def _without_arrays(value: Any) -> Any:
    """Return the state of one of numpy's generators, which also takes lists instead of arrays."""
    if isinstance(value, dict):
        return {key: _without_arrays(inside) for key, inside in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def _texts(value: object) -> tuple[str, ...]:
    # By repr, as NaN does not equal itself, and True equals 1.
    return (repr(value),) if type(value) in PLAIN else tuple(value_texts(_content(value)))
