"""What a schedule is, and how factories make them. Nothing here knows torch."""

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ParamSpec

from lrtune.errors import ArgumentError, ScheduleError

P = ParamSpec("P")
Curve = Callable[[float], float]
"""A pure function of progress: 0 at the first update of a run, just below 1 at its last."""


@dataclass(frozen=True)
class Schedule:
    """A multiplier of the peak learning rate, as a function of progress.

    Two schedules are equal when their `text` is: it tells how the schedule was made.

    Attributes:
        text: The call that makes it, such as ``"cosine(floor=0.1)"``.
        rate: Progress in [0, 1) to a multiplier >= 0 of the peak rate.
        momentum: Progress to the momentum itself (SGD's momentum, Adam's beta1); None leaves
            the optimizer's own momentum alone.

    >>> half = Schedule("half()", lambda progress: 0.5)
    >>> half, half(0.3)
    (half(), 0.5)
    """

    text: str
    rate: Curve = field(compare=False)
    momentum: Curve | None = field(default=None, compare=False)

    def __call__(self, progress: float) -> float:
        """The multiplier of the peak rate at this progress."""
        return self.rate(progress)

    def __repr__(self) -> str:
        """The call that makes it."""
        return self.text


def factory(make: Callable[P, Curve | tuple[Curve, Curve | None]]) -> Callable[P, Schedule]:
    """Make `make`, which returns a rate curve or (rate, momentum), return a `Schedule`.

    The text is read off the arguments, so that no schedule is ever without a name. Numbers are
    made plain first (``0`` for a float becomes ``0.0``, numpy's become Python's, lists become
    tuples), so that equal schedules have equal texts, and the text is Python that makes the
    schedule again.

    Raises:
        ScheduleError: When the schedule is made, an argument that is annotated as a number
            is none.

    >>> @factory
    ... def halves(every: float = 0.5):
    ...     return lambda progress: 0.5 ** (progress // every)
    >>> halves(every=0.25), halves(0.25)(0.6), halves(1) == halves(1.0)
    (halves(every=0.25), 0.25, True)
    """
    signature = inspect.signature(make)

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            call = f"{make.__name__}({name}={value!r})"
            bound.arguments[name] = _plain(call, value, signature.parameters[name].annotation)
        told = ", ".join(f"{name}={_told(value)}" for name, value in bound.arguments.items())
        curves = make(*bound.args, **bound.kwargs)
        rate, momentum = curves if isinstance(curves, tuple) else (curves, None)
        return Schedule(f"{make.__name__}({told})", rate, momentum)

    return made


def _plain(call: str, value: object, wanted: object = None) -> object:
    if wanted is float and not isinstance(value, numbers.Real):
        raise ScheduleError(f"{call}: expected a number, such as 0.1.")
    if wanted is int and not isinstance(value, numbers.Integral):
        raise ScheduleError(f"{call}: expected a whole number, such as 3.")
    if wanted is float or (isinstance(value, numbers.Real) and not hasattr(value, "__index__")):
        return float(value)  # type: ignore[arg-type]
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(_plain(call, item) for item in value)
    return value


def _told(value: object) -> str:
    if isinstance(value, tuple):
        inside = ", ".join(_told(item) for item in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return as_schedule(value).text if callable(value) else repr(value)


def as_schedule(curve: Curve) -> Schedule:
    """The schedule itself, or a user's own function of progress with its name as text.

    >>> def ramp(progress):
    ...     return progress
    >>> as_schedule(ramp)
    ramp
    """
    if isinstance(curve, Schedule):
        return curve
    if not callable(curve):
        raise ScheduleError(
            f"a schedule is a function of progress (0 ... 1), got {curve!r}. "
            "Take one of lrtune.schedules, or write `lambda progress: 1 - progress`."
        )
    if isinstance(curve, functools.partial):
        told = ", ".join(
            [*map(_told, curve.args), *(f"{k}={_told(v)}" for k, v in curve.keywords.items())]
        )
        return Schedule(f"{as_schedule(curve.func).text}({told})", curve)
    return Schedule(getattr(curve, "__name__", type(curve).__name__), curve)


def multipliers(schedule: Schedule, steps: int) -> list[float]:
    """The multiplier of the peak rate at each step of a run of `steps`, checked.

    Args:
        schedule: What to tabulate.
        steps: Length of the run in optimizer updates, >= 1.

    Returns:
        `steps` finite numbers >= 0; the one at index s is ``schedule(s / steps)``.

    Raises:
        ScheduleError: It raised, or gave NaN, infinity, a negative number or no number; the
            message names the schedule and the step.
        ArgumentError: `steps` is less than 1.

    >>> multipliers(Schedule("linear()", lambda progress: 1 - progress), 4)
    [1.0, 0.75, 0.5, 0.25]
    """
    _check_steps(steps)
    return [_value(schedule, "multiplier", step, steps) for step in range(steps)]


def momenta(schedule: Schedule, steps: int) -> list[float] | None:
    """The momentum at each step of a run of `steps`, checked; None where it is left alone.

    Args:
        schedule: What to tabulate.
        steps: Length of the run in optimizer updates, >= 1.

    Returns:
        `steps` numbers in [0, 1): SGD's momentum or Adam's beta1. None if the schedule has no
        momentum curve.

    Raises:
        ScheduleError: The curve raised, or gave something outside [0, 1).
        ArgumentError: `steps` is less than 1.

    >>> momenta(Schedule("warm", lambda p: 1.0, lambda p: 0.8 + p / 10), 2)
    [0.8, 0.8500000000000001]
    """
    _check_steps(steps)
    if schedule.momentum is None:
        return None
    return [_value(schedule, "momentum", step, steps) for step in range(steps)]


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ArgumentError(f"steps={steps!r}: a run has at least one step; pass its length.")


def _value(schedule: Schedule, kind: str, step: int, steps: int) -> float:
    curve = schedule.momentum if kind == "momentum" else schedule.rate
    wanted = "momentum in [0, 1)" if kind == "momentum" else "multiplier >= 0 of the peak rate"
    limit = 1.0 if kind == "momentum" else math.inf
    progress = step / steps
    where = f"schedule {schedule.text!r} at step {step} of {steps} (progress {progress:.4g})"
    try:
        value = float(curve(progress))  # type: ignore[misc]  # momenta() looked for None
    except Exception as error:
        raise ScheduleError(
            f"{where} raised {type(error).__name__}: {error}. "
            "A schedule takes one number, the progress, and returns one."
        ) from error
    if not 0 <= value < limit:
        raise ScheduleError(
            f"{where} gave {value!r}; expected a finite {wanted}. "
            "Call it at that progress to see why."
        )
    return value
