"""Plain data: what `torch.load(weights_only=True)` reads, on the CPU."""

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrtune.errors import CheckpointError

PLAIN = (bool, int, float, complex, str, bytes, type(None))
LOADABLE = (*PLAIN, torch.Size, torch.dtype, torch.device)
"""Types without anything inside that `torch.load(weights_only=True)` reads."""


def on_cpu(value: Any, what: str) -> Any:
    """Return plain data with copies of its tensors on the CPU.

    Args:
        value: Tensors, numbers, texts, and lists, tuples and dicts of them.
        what: What the value is the state of, for a message.

    Raises:
        CheckpointError: It is, or contains, something else; the message names the type.

    >>> on_cpu({"step": torch.tensor(3), "betas": (0.9, 0.99)}, "an optimizer")
    {'step': tensor(3), 'betas': (0.9, 0.99)}
    """
    kind = type(value)
    if kind in (Tensor, nn.Parameter):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, np.generic):
        return value.item()
    if kind in (list, tuple):
        return kind(on_cpu(inside, what) for inside in value)
    if isinstance(value, dict):
        ordered: Any = OrderedDict if isinstance(value, OrderedDict) else dict
        made = ordered((key, on_cpu(inside, what)) for key, inside in value.items())
        if hasattr(value, "_metadata"):  # the versions of the modules, which loading asks for
            made._metadata = copy.deepcopy(value._metadata)  # noqa: SLF001
        return made
    if kind not in LOADABLE:
        raise CheckpointError(
            f"the state of {what} holds a {kind.__module__}.{kind.__qualname__}, which no "
            "checkpoint can hold: expected tensors, numbers, texts, lists and dicts."
        )
    return value
