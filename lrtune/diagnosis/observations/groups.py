"""The parameter groups of the optimizer."""

import math
from dataclasses import dataclass

import torch

from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import preserve_random_state
from lrtune.task.task import Task


@dataclass(frozen=True)
class Group:
    """A parameter group of the optimizer.

    Attributes:
        lr: Its rate, as a multiple of the rate that the optimizer was made with; where it is
            `fixed`, the rate itself.
        fixed: Whether it has this rate whatever the optimizer was made with.
        weight_decay: NaN where the optimizer has none.
        parameters: How many numbers it trains.
    """

    lr: float
    fixed: bool
    weight_decay: float
    parameters: int


def parameter_groups(task: Task) -> list[Group]:
    """The groups of an optimizer that is made for this."""
    with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
        one, two = (
            task.init_state(0, lr).optimizer.param_groups for lr in (TRIAL_LR, 2 * TRIAL_LR)
        )
    groups = []
    for first, second in zip(one, two, strict=True):
        rate = float(first["lr"])
        fixed = rate == float(second["lr"]) and rate > 0
        groups.append(
            Group(
                rate if fixed else rate / TRIAL_LR,
                fixed,
                float(first.get("weight_decay", math.nan)),
                sum(parameter.numel() for parameter in first["params"]),
            )
        )
    return groups
