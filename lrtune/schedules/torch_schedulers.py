"""A schedule leaves the house as a torch scheduler or as a snippet; a torch scheduler comes in.

Whatever leaves gives the schedule's own rate at every step of the run. After the last step a rate
is never negative and never climbs: the last one is held, but for torch's own schedulers in a
snippet (StepLR, MultiStepLR, ExponentialLR, LinearLR, PolynomialLR), which may go on falling.
"""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from lrtune.errors import ArgumentError, ScheduleError
from lrtune.schedules import Curve, Schedule, as_schedule, formulas, momenta, multipliers
from lrtune.schedules.snippets import snippet

__all__ = ["MomentumLR", "from_torch", "set_momentum", "snippet", "to_torch"]

_MOMENTUM = 0.9  # of the dummy optimizer that `from_torch` reads a scheduler out on


class MomentumLR(LambdaLR):
    """A LambdaLR that sets the momentum along with the rate, as torch's OneCycleLR does.

    Attributes:
        momentum_at: Step to momentum; like the lambdas, it is not part of the state dict.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        multiplier: Callable[[int], float],
        momentum_at: Callable[[int], float],
    ) -> None:
        """Set rate and momentum for the first step."""
        self.momentum_at = momentum_at
        super().__init__(optimizer, multiplier)

    def get_lr(self) -> list[Any]:
        """The rates for the step that comes now; its momentum is set on the way."""
        set_momentum(self.optimizer, self.momentum_at(self.last_epoch))
        return super().get_lr()

    def state_dict(self) -> dict[str, Any]:
        """Plain data, which `torch.load(weights_only=True)` reads."""
        return {key: value for key, value in super().state_dict().items() if key != "momentum_at"}


def to_torch(schedule: Curve, optimizer: Optimizer, steps: int) -> LambdaLR:
    """Give the optimizer this schedule: a real torch scheduler, to be stepped after each update.

    The rate that a parameter group has at this moment is its peak, so groups keep their ratios. A
    schedule with a momentum curve sets SGD's momentum or Adam's beta1, too.

    Args:
        schedule: A schedule, or any function of progress.
        optimizer: Any torch optimizer; its rates are set for the first step.
        steps: Length of the run in optimizer updates, >= 1.

    Returns:
        A scheduler whose rates at steps 0 ... steps - 1 are the schedule's, and which holds the
        last one afterwards.

    Raises:
        ScheduleError: The schedule raises or gives something that is no multiplier, or it moves
            the momentum of an optimizer that has none.
        ArgumentError: `steps` is less than 1.

    >>> from lrtune.schedules import cosine
    >>> sgd = torch.optim.SGD([torch.zeros(1)], lr=0.2)
    >>> scheduler = to_torch(cosine(), sgd, steps=4)
    >>> rates = []
    >>> for _ in range(6):
    ...     rates.append(round(sgd.param_groups[0]["lr"], 4))
    ...     sgd.step()
    ...     scheduler.step()
    >>> rates
    [0.2, 0.1707, 0.1, 0.0293, 0.0293, 0.0293]
    """
    known = as_schedule(schedule)
    rates, moments = multipliers(known, steps), momenta(known, steps)
    if moments:
        set_momentum(optimizer, moments[0])  # refuses before anything else is touched
    for group in optimizer.param_groups:
        group.pop("initial_lr", None)  # what an earlier scheduler took for the peak
    last = steps - 1
    if moments:
        return MomentumLR(
            optimizer, lambda step: rates[min(step, last)], lambda step: moments[min(step, last)]
        )
    return LambdaLR(optimizer, lambda step: rates[min(step, last)])


def set_momentum(optimizer: Optimizer, value: float) -> None:
    """Set the momentum of every parameter group: SGD's `momentum`, or the first of Adam's `betas`.

    Args:
        optimizer: An optimizer whose groups have the one or the other.
        value: The momentum, in [0, 1).

    Raises:
        ScheduleError: A group has neither.

    >>> adam = torch.optim.AdamW([torch.zeros(1)])
    >>> set_momentum(adam, 0.8)
    >>> adam.param_groups[0]["betas"]
    (0.8, 0.999)
    """
    for group in optimizer.param_groups:
        if "betas" not in group and "momentum" not in group:
            raise ScheduleError(
                f"{type(optimizer).__name__} has neither momentum nor betas, which the schedule "
                "would move. Leave them alone, as one_cycle(momentum=None) does."
            )
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


def from_torch(
    make_scheduler: Callable[[Optimizer], LRScheduler], steps: int, *, lr: float = 1.0
) -> Schedule:
    """Read a torch scheduler out, once, into a table: ``lambda optimizer: StepLR(optimizer, 30)``.

    It is built and stepped on a dummy optimizer (SGD with one zero and momentum), because building
    one changes the optimizer it is built on. The peak, whose multiplier is 1, is the largest rate
    of the read-out run: for StepLR the optimizer's own rate, for OneCycleLR and CyclicLR (about)
    their `max_lr`. A scheduler that cycles the momentum gives the schedule a momentum curve.

    Args:
        make_scheduler: Takes an optimizer and returns a scheduler on it.
        steps: How often the script calls `scheduler.step()` in the whole run, >= 1: the epochs of
            the run where it does so once per epoch. The table is as fine as that, and is stretched
            over whatever horizon the schedule is run at.
        lr: Rate of the dummy optimizer. It matters only to schedulers with absolute numbers beside
            it, such as CosineAnnealingLR's `eta_min`: pass the rate they were written for.

    Returns:
        A schedule; two are equal if scheduler class, steps and table are.

    Raises:
        ScheduleError: It reacts to the loss, builds no scheduler, never gives a rate above 0, or
            gives a negative rate or NaN; for the last two the message names the step.
        ArgumentError: `steps` is less than 1.

    >>> from torch.optim.lr_scheduler import StepLR
    >>> thirds = from_torch(lambda optimizer: StepLR(optimizer, 30), steps=90)
    >>> [round(thirds(step / 900), 6) for step in (0, 299, 300, 600)]
    [1.0, 1.0, 0.1, 0.01]
    """
    if steps < 1:
        raise ArgumentError(f"from_torch(steps={steps!r}): expected the length of a run, >= 1.")
    if not callable(make_scheduler):
        raise ScheduleError(
            f"from_torch({make_scheduler!r}): expected a function that takes an optimizer, such as "
            "lambda optimizer: StepLR(optimizer, 30)."
        )
    name, rates, moments = _read_out(make_scheduler, steps, lr)
    peak = max(rates)
    if not peak > 0:
        raise ScheduleError(f"from_torch: {name} never gives a rate above 0; got {peak!r} at most.")
    values = tuple(rate / peak for rate in rates)
    moves = any(value != _MOMENTUM for value in moments)
    mark = zlib.crc32(repr((values, moments if moves else None)).encode())
    schedule = Schedule(
        f"from_torch({name}, steps={steps}, table={mark:08x})",
        partial(formulas.table, values=values),
        partial(formulas.table, values=moments) if moves else None,
    )
    multipliers(schedule, steps)
    momenta(schedule, steps)
    return schedule


def _read_out(
    make_scheduler: Callable[[Optimizer], LRScheduler], steps: int, lr: float
) -> tuple[str, list[float], tuple[float, ...]]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr, momentum=_MOMENTUM)
    scheduler = make_scheduler(optimizer)
    name = type(scheduler).__name__
    if isinstance(scheduler, ReduceLROnPlateau):
        raise ScheduleError(
            f"from_torch: {name} reacts to the loss, so it has no table. "
            "Use lrtune.schedules.ReduceOnPlateau."
        )
    if not isinstance(scheduler, LRScheduler):
        raise ScheduleError(f"from_torch: expected a torch scheduler, got {scheduler!r}.")
    (group,) = optimizer.param_groups
    rates, moments = [], []
    for step in range(steps):
        if step:
            optimizer.step()
            scheduler.step()
        rates.append(float(group["lr"]))
        moments.append(float(group["momentum"]))
    return name, rates, tuple(moments)
