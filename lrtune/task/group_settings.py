"""The settings of an optimizer's parameter groups that can be varied: momentum and weight decay."""

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from lrtune.errors import ArgumentError
from lrtune.schedules.torch_schedulers import set_group_momentum

SETTINGS = ("weight_decay", "momentum")
"""What can be varied; `momentum` is SGD's, or Adam's beta1."""


def own_setting(optimizer: Optimizer, name: str) -> float:
    """Return the value of a setting in the groups of an optimizer.

    Groups without weight decay, such as those of biases, do not count beside others.

    Raises:
        ArgumentError: A group has no such setting, or the groups differ in it.

    >>> import torch
    >>> groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "weight_decay": 0.0}]
    >>> optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.05)
    >>> own_setting(optimizer, "weight_decay"), own_setting(optimizer, "momentum")
    (0.05, 0.9)
    """
    kind = type(optimizer).__name__
    values = {_value(group, name) for group in optimizer.param_groups}
    if None in values:
        groups = optimizer.param_groups
        there = [one for one in SETTINGS if all(_value(group, one) is not None for group in groups)]
        raise ArgumentError(
            f"{kind} has no {name}; expected a setting that all of its parameter groups have: "
            f"{', '.join(there) or 'it has none of those that can be varied'}. Leave {name} out, "
            "or use an optimizer with it."
        )
    known = {value for value in values if value is not None}
    if name == "weight_decay" and len(known) > 1:
        known.discard(0.0)
    if len(known) > 1:
        raise ArgumentError(
            f"the parameter groups of {kind} have {name} "
            f"{', '.join(f'{one:g}' for one in sorted(known))}; expected one value, besides groups "
            "without weight decay. Give them the same value to vary it."
        )
    return known.pop()


def set_setting(optimizer: Optimizer, name: str, value: float) -> None:
    """Give the groups of an optimizer another momentum or weight decay.

    Groups without weight decay stay without it beside others that have some.

    Raises:
        ArgumentError: As in `own_setting`.

    >>> import torch
    >>> groups = [{"params": [torch.zeros(1)]}, {"params": [torch.zeros(1)], "weight_decay": 0.0}]
    >>> optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.05)
    >>> set_setting(optimizer, "weight_decay", 0.3)
    >>> [group["weight_decay"] for group in optimizer.param_groups]
    [0.3, 0.0]
    """
    own = own_setting(optimizer, name)
    for group in optimizer.param_groups:
        if name == "momentum":
            set_group_momentum(group, value)
        elif group[name] == own:
            group[name] = value


def _value(group: Mapping[str, Any], name: str) -> float | None:
    """Return the setting of one group; None where it has none."""
    value = group["betas"][0] if name == "momentum" and "betas" in group else group.get(name)
    return None if value is None else float(value)
