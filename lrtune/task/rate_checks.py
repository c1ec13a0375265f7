"""Whether an optimizer trains at the rates that a schedule gives it at each update."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrtune.errors import TaskError
from lrtune.task.checks import TRIAL_LR
from lrtune.task.optimizers import MakeOptimizer, group_rates
from lrtune.task.random_state import NOISE, derive_seed, seed_everything

SLOWER = 1e-3
"""A rate is multiplied by this to see whether the next update is another one."""

PROBED = tuple(10.0**power for power in range(-6, 2))
"""Rates at which a factory shows how far its groups follow `lr`: the usual limits of a search."""

WRAPPED = ("_wrapped_by_lr_sched", "_with_counter")
"""What torch's schedulers write on the `step` of their optimizer, by version of torch."""


def refuse_scheduler(optimizer: object) -> None:
    """Raise if an optimizer has a scheduler of torch's, which has changed its rates already."""
    if not isinstance(optimizer, Optimizer):
        return
    inside = [optimizer, *(one for one in vars(optimizer).values() if isinstance(one, Optimizer))]
    schedulers = [one for one in vars(optimizer).values() if isinstance(one, LRScheduler)]
    wrapped = any(hasattr(one.step, name) for one in inside for name in WRAPPED)
    changed = any(
        not math.isclose(float(group.get("initial_lr", group["lr"])), float(group["lr"]))
        for group in optimizer.param_groups
    )
    if not (wrapped or schedulers or changed):
        return
    if not (wrapped or schedulers):
        group = next(one for one in optimizer.param_groups if "initial_lr" in one)
        raise TaskError(
            f"the optimizer's function gives a parameter group initial_lr={group['initial_lr']:.3g}"
            f" beside lr={float(group['lr']):.3g}; expected none, or the same, as only a scheduler "
            "sets it. Leave initial_lr out."
        )
    kind = type(schedulers[0]).__name__ if schedulers else "scheduler"
    name, rate = kind if schedulers else "OneCycleLR", group_rates(optimizer)[0]
    first = f", and group 0 begins at {rate:.3g} where lr is {TRIAL_LR:g}" if changed else ""
    raise TaskError(
        f"the optimizer's function makes a {kind}{first}; expected none, as lrtune sets the rate "
        "of each update itself, to lr times a schedule. Leave it out there, and give it as "
        f"schedule=lrtune.from_torch(lambda optimizer: {name}(optimizer, ...), steps)."
    )


def refuse_changed_rates(optimizer: Optimizer, given: Sequence[float]) -> None:
    """Raise if the rates are no longer those that were given: the last update has changed them."""
    for place, (rate, now) in enumerate(zip(given, group_rates(optimizer), strict=True)):
        if rate != now:
            raise TaskError(
                f"the {type(optimizer).__name__} changes its own rate: group {place} was given "
                f"{rate:.3g}, and after the update it has {now:.3g}; expected that it leaves its "
                "rate alone, as lrtune sets that of each update itself. Take the schedule out of "
                "its step (or its hook), and give it as schedule=, such as a function of progress "
                "or lrtune.from_torch(...)."
            )


def refuse_deaf_optimizer(make: MakeOptimizer, model: nn.Module) -> None:
    """Raise if a rate that is set after the first update changes nothing of the two that follow.

    The weights, which have gradients, are the same again afterwards.
    """
    weights = [one for one in model.parameters() if one.grad is not None]
    held = [(one.detach().clone(), one.grad.clone()) for one in weights if one.grad is not None]

    def reset() -> None:
        for weight, (numbers, gradient) in zip(weights, held, strict=True):
            weight.data.copy_(numbers)
            weight.grad = gradient.clone()

    ends: list[list[list[Tensor]]] = []
    # Some optimizers make a single update on a gradient; then this shows nothing.
    with suppress(Exception):
        for share in (1.0, SLOWER):
            reset()
            seed_everything(derive_seed(0, NOISE))
            optimizer = make(model, TRIAL_LR)
            optimizer.step()
            begin = _copies(optimizer)
            _multiply_rates(optimizer, share)
            for _ in range(2):  # ASGD takes a new rate one update later
                optimizer.step()
            ends.append(_copies(optimizer))
    reset()
    if len(ends) < 2:
        return
    for place, (first, one, other) in enumerate(zip(begin, *ends, strict=True)):
        moved = any(not torch.equal(a, b) for a, b in zip(first, one, strict=True))
        if moved and all(map(torch.equal, one, other)):
            raise TaskError(
                f"the {type(optimizer).__name__} does not read the rate that a schedule sets: "
                f"after a first one, its updates of group {place} are the same, bit for bit, at "
                f"lr={TRIAL_LR:g} and at lr={TRIAL_LR * SLOWER:g}; expected that step() takes "
                "group['lr'] of its param_groups. Write self.param_groups = base.param_groups in "
                "a wrapper; in place of Rprop and the like, which set their own steps, take SGD "
                "or Adam."
            )


def _copies(optimizer: Optimizer) -> list[list[Tensor]]:
    groups = optimizer.param_groups
    return [[one.detach().clone() for one in group["params"]] for group in groups]


def _multiply_rates(optimizer: Optimizer, share: float) -> None:
    seen: list[Any] = []  # groups may share the tensor that is their rate
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            group["lr"] *= share
        elif not any(group["lr"] is one for one in seen):
            seen.append(group["lr"])
            group["lr"].mul_(share)


class StuckRate(NamedTuple):
    """A group whose rate is the same over a range of `lr`, though it follows it elsewhere.

    Attributes:
        group: Its number.
        rate: Its rate there.
        low: The lowest `lr` that was tried there.
        high: The highest one.
    """

    group: int
    rate: float
    low: float
    high: float


def stuck_rates(make: Callable[[float], Optimizer]) -> list[StuckRate]:
    """Return the groups whose rate stands still over a part of the usual rates, as with a cap.

    >>> from torch.optim import SGD
    >>> stuck_rates(lambda lr: SGD([torch.zeros(1)], lr=min(lr, 0.1)))
    [StuckRate(group=0, rate=0.1, low=0.1, high=10.0)]
    """
    probed: dict[float, list[float]] = {}
    for rate in PROBED:
        with suppress(Exception):  # some factories refuse high rates, and a search says so
            probed[rate] = group_rates(make(rate))
    return list(_stuck(probed))


def _stuck(probed: dict[float, list[float]]) -> Iterator[StuckRate]:
    for place, rates in enumerate(zip(*probed.values(), strict=True)):
        for rate, some in itertools.groupby(zip(rates, probed, strict=True), lambda one: one[0]):
            tried = [lr for _, lr in some]
            if 1 < len(tried) < len(probed):
                yield StuckRate(place, rate, tried[0], tried[-1])
