"""`from_torch`: a schedule of what a torch scheduler does."""

import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import overload

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lrtune.errors import ScheduleError, first_line, positive_number, shown
from lrtune.schedules import formulas
from lrtune.schedules.plateaus import ReduceOnPlateau
from lrtune.schedules.schedule import Schedule, check_steps, momenta, multipliers

_MOMENTUM = 0.9  # of the dummy optimizer in `from_torch`

WRITE = (
    "Write, for example, lrtune.from_torch(lambda optimizer: StepLR(optimizer, 30), steps=90); or "
    "write a function of progress, such as lambda progress: 1 - progress, without from_torch."
)
"""The ways out for what is no torch scheduler."""


@overload
def from_torch(  # type: ignore[overload-overlap]
    make_scheduler: Callable[[Optimizer], ReduceLROnPlateau], steps: int, *, lr: float = 1.0
) -> ReduceOnPlateau: ...
@overload
def from_torch(
    make_scheduler: Callable[[Optimizer], LRScheduler], steps: int, *, lr: float = 1.0
) -> Schedule: ...
def from_torch(
    make_scheduler: Callable[[Optimizer], LRScheduler], steps: int, *, lr: float = 1.0
) -> Schedule | ReduceOnPlateau:
    """Return a schedule that is a table of the rates of a torch scheduler.

    The largest rate becomes multiplier 1: for StepLR the optimizer's rate, for OneCycleLR and
    CyclicLR (nearly) their `max_lr`. A scheduler that sets the momentum gives the schedule a
    momentum curve. Two such schedules are equal if scheduler class, steps and tables are.

    A ReduceLROnPlateau becomes `ReduceOnPlateau(on="val")`, which validates as often as the script
    calls `scheduler.step(val_loss)`.

    Args:
        make_scheduler: Takes an optimizer and returns a scheduler for it.
        steps: How often the script calls `scheduler.step()` in the whole run, >= 1: once per update
            or once per epoch. The table is stretched over the horizon of a run.
        lr: Rate of the optimizer. It matters for schedulers with further absolute rates, such as
            CosineAnnealingLR's `eta_min`: pass the rate they were chosen for.

    Raises:
        ScheduleError: The scheduler is no scheduler, ends before `steps`, has a value for each
            parameter group, has no rate above 0, or gives a negative rate or NaN (then the message
            names the step); or it is a ReduceLROnPlateau with a mode, cooldown or lowest rate that
            `ReduceOnPlateau` does not have.
        ArgumentError: `steps` is less than 1.

    >>> from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
    >>> from_torch(lambda optimizer: ReduceLROnPlateau(optimizer, patience=5), steps=50)
    ReduceOnPlateau(on='val', every=0.02, factor=0.1, patience=0.1, threshold=0.0001)
    >>> thirds = from_torch(lambda optimizer: StepLR(optimizer, 30), steps=90)
    >>> [round(thirds(step / 900), 6) for step in (0, 299, 300, 600)]
    [1.0, 1.0, 0.1, 0.01]
    """
    check_steps(steps)
    positive_number("lr", lr)
    if not callable(make_scheduler):
        raise ScheduleError(
            f"from_torch got {_text(make_scheduler)}; expected a function that makes a scheduler "
            f"for an optimizer. {WRITE}"
        )
    optimizer = _dummy(lr)
    scheduler = _made(make_scheduler, optimizer)
    if isinstance(scheduler, ReduceLROnPlateau):
        return _read_plateau(scheduler, steps)
    name, rates, read = _read_rates(scheduler, optimizer, steps)
    peak = max(rates)
    if not peak > 0:
        raise ScheduleError(
            f"from_torch: expected a rate above 0 at some step; the largest of {name} is {peak!r}. "
            "Check its factors and lr."
        )
    values = tuple(rate / peak for rate in rates)
    moments = read if set(read) != {_MOMENTUM} else None
    # The text of a schedule decides whether two are equal, so it needs a checksum of the table.
    mark = zlib.crc32(repr((values, moments)).encode())
    schedule = Schedule(
        f"from_torch({name}, steps={steps}, table={mark:08x})",
        partial(formulas.table, values=values),
        partial(formulas.table, values=moments) if moments else None,
    )
    multipliers(schedule, steps)  # raises, with the step, for a negative rate or NaN
    momenta(schedule, steps)
    return schedule


def _read_plateau(scheduler: ReduceLROnPlateau, steps: int) -> ReduceOnPlateau:
    """Return the schedule of a scheduler that reacts to the validation loss."""
    known = {"mode": "min", "threshold_mode": "rel", "cooldown": 0, "min_lrs": [0]}
    for name, expected in known.items():
        if (given := getattr(scheduler, name)) != expected:
            raise ScheduleError(
                f"from_torch: ReduceLROnPlateau with {name.replace('min_lrs', 'min_lr')}="
                f"{given!r}; expected {expected!r}, as lrtune.schedules.ReduceOnPlateau has no "
                "other. Make it without that argument, or write a schedule with the methods of "
                "ReduceOnPlateau."
            )
    if steps < 2:
        raise ScheduleError(
            f"from_torch: steps={steps}, so ReduceLROnPlateau would be stepped at the end only, "
            "and never lower the rate. Give the number of validations of the whole run."
        )
    return ReduceOnPlateau(
        on="val",
        every=1 / steps,
        factor=scheduler.factor,
        patience=min(1.0, scheduler.patience / steps),
        threshold=scheduler.threshold,
    )


def _read_rates(
    scheduler: LRScheduler, optimizer: Optimizer, steps: int
) -> tuple[str, list[float], tuple[float, ...]]:
    name, end = type(scheduler).__name__, getattr(scheduler, "total_steps", None)
    if isinstance(end, int) and steps > end:
        raise _too_long(steps, name, end)
    # The rate of step 0 is set when the scheduler is built, the others by its steps.
    (group,) = optimizer.param_groups
    rates, moments = [], []
    for step in range(steps):
        if step:
            optimizer.step()  # torch warns about a scheduler that steps before its optimizer
            try:
                scheduler.step()
            except Exception as error:
                if not isinstance(error, (ValueError, LookupError)):  # as at the end of one
                    raise _raised(error, name, step) from error
                raise _too_long(steps, name, step) from error
        rates.append(float(group["lr"]))
        moments.append(float(group["momentum"]))
    return name, rates, tuple(moments)


def _dummy(lr: float, groups: int = 1) -> Optimizer:
    """Return an optimizer of nothing, as a scheduler changes its optimizer; with momentum."""
    params = [{"params": [torch.zeros(1)]} for _ in range(groups)]
    return torch.optim.SGD(params, lr=lr, momentum=_MOMENTUM)


def _made(
    make_scheduler: Callable[[Optimizer], LRScheduler], optimizer: Optimizer
) -> LRScheduler | ReduceLROnPlateau:
    """Return the scheduler of a function for this optimizer, after a check."""
    try:
        scheduler = make_scheduler(optimizer)
    except Exception as error:
        raise _unmade(make_scheduler, error) from error
    if not isinstance(scheduler, (LRScheduler, ReduceLROnPlateau)):
        raise ScheduleError(
            f"from_torch: the function returned {_text(scheduler)}; expected a torch scheduler. "
            f"{WRITE}"
        )
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ScheduleError(
            f"from_torch: the {type(scheduler).__name__} belongs to another optimizer; expected "
            "one for the optimizer that the function is given. Use its argument: lambda optimizer: "
            f"{type(scheduler).__name__}(optimizer, ...)."
        )
    return scheduler


def _unmade(make_scheduler: Callable[[Optimizer], object], error: Exception) -> ScheduleError:
    """Return the error for a function that raised one."""
    for count in {int(number) for number in re.findall(r"\b\d{1,3}\b", str(error))} - {0, 1}:
        with suppress(Exception):  # with so many groups it works
            make_scheduler(_dummy(1.0, count))
            return ScheduleError(
                f"from_torch: the scheduler has a value for each of {count} parameter groups; "
                "expected one value, as a schedule multiplies the rates of all groups. Give one, "
                "and the groups their ratios in the optimizer's factory: {'params': ..., "
                "'lr': lr / 10}."
            )
    return ScheduleError(
        f"from_torch: making the scheduler raised {type(error).__name__}: "
        f"{first_line(error)}. Expected a "
        f"function that takes an optimizer. {WRITE}"
    )


def _raised(error: Exception, name: str, step: int) -> ScheduleError:
    return ScheduleError(
        f"from_torch: the {name} raised {type(error).__name__} at step {step}: "
        f"{first_line(error)}. Expected a rate for each step. Look at the function that it was "
        "given."
    )


def _too_long(steps: int, name: str, end: int) -> ScheduleError:
    return ScheduleError(
        f"from_torch: steps={steps}, but the {name} ends at {end}; expected as many steps as it "
        f"has, or fewer. Give steps={end}, or make the scheduler for {steps}."
    )


def _text(given: object) -> str:
    """Return what something is, in words."""
    return "nothing" if given is None else shown(given)
