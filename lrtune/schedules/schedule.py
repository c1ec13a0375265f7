"""`Schedule`, the decorator that makes factories of schedules, and the checks they share."""

import functools
import inspect
import math
import numbers
import operator
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ParamSpec

from lrtune.errors import ScheduleError, first_line, shown, whole_number

P = ParamSpec("P")
Curve = Callable[[float], float]
"""A pure function of progress: 0 at the first update of a run, just below 1 at its last."""
Curves = tuple[Curve, Curve | None]
"""The rate and the momentum; None keeps the optimizer's own momentum."""


@dataclass(frozen=True)
class Schedule:
    """A multiplier of the peak learning rate, as a function of progress; the text identifies it.

    Attributes:
        text: The call that makes the schedule, such as ``"cosine(floor=0.1)"``.
        rate: Progress in [0, 1) to a multiplier >= 0 of the peak rate.
        momentum: Progress to SGD's momentum or Adam's beta1, in [0, 1); None keeps the optimizer's.
        name: Name of the registry's entry that made it; empty for others.
        sweeps: Whether it varies the rate itself, as a range test does: then each parameter group
            has the rate that the optimizer's factory gives it at the present one, so that a rate
            which does not follow `lr` stays. A schedule of a training multiplies all groups.

    >>> half = Schedule("half()", lambda progress: 0.5)
    >>> half, half(0.3)
    (half(), 0.5)
    """

    text: str
    rate: Curve = field(compare=False)
    momentum: Curve | None = field(default=None, compare=False)
    name: str = field(default="", compare=False)
    sweeps: bool = False

    def __call__(self, progress: float) -> float:
        """Return the multiplier at this progress."""
        return self.rate(progress)

    def __repr__(self) -> str:
        """Return the call that makes the schedule."""
        return self.text


FACTORIES: dict[str, Callable[..., Schedule]] = {}
"""Every function decorated with `factory`, by name; `parse` may call these and nothing else."""


def factory(make: Callable[P, Curve | Curves]) -> Callable[P, Schedule]:
    """Turn a function that returns a curve, or (rate, momentum), into a factory of schedules.

    The factory writes the text of each schedule from its arguments, and `parse` reads it back.
    Equal arguments give equal texts: numbers become Python's, and lists become tuples.

    Raises:
        ScheduleError: lrtune has a factory of that name; or, from the factory, an argument that is
            annotated as a number is none.

    >>> @factory
    ... def halving(every: float = 0.5):
    ...     return lambda progress: 0.5 ** (progress // every)
    >>> halving(every=0.25), halving(0.25)(0.6), halving(1) == halving(1.0)
    (halving(every=0.25), 0.25, True)
    """
    name, signature = make.__name__, inspect.signature(make)
    taken = FACTORIES.get(name)
    # A text must mean one schedule, so a factory of lrtune cannot be replaced. One of the user's
    # can: a notebook runs a cell twice, and a script may be imported under two names.
    if taken and taken.__module__ != make.__module__ and taken.__module__.startswith("lrtune."):
        raise ScheduleError(
            f"lrtune has a schedule called {name} already, so the text '{name}()' would mean two "
            "schedules. Rename the function."
        )

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for key, value in bound.arguments.items():
            wanted = signature.parameters[key].annotation
            bound.arguments[key] = _normalize(f"{name}({key}={value!r})", value, wanted)
        # All arguments by name, defaults too: the text means the same if a default changes one day.
        arguments = ", ".join(f"{k}={_argument_text(v)}" for k, v in bound.arguments.items())
        curves = make(*bound.args, **bound.kwargs)
        rate, momentum = curves if isinstance(curves, tuple) else (curves, None)
        return Schedule(f"{name}({arguments})", rate, momentum)

    FACTORIES[name] = made
    return made


def _normalize(call: str, value: object, wanted: object = None) -> object:
    """Return an argument as plain Python, so that equal arguments have equal texts."""
    if wanted is float and not isinstance(value, numbers.Real):
        raise ScheduleError(f"{call}: expected a number, such as 0.1.")
    if wanted is int and not isinstance(value, numbers.Integral):
        raise ScheduleError(f"{call}: expected a whole number, such as 3.")
    if wanted is float or (isinstance(value, numbers.Real) and not hasattr(value, "__index__")):
        return float(value)  # type: ignore[arg-type]
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Iterable) and not isinstance(value, str):  # a list cannot be hashed
        return tuple(_normalize(call, item) for item in value)
    return value


def _argument_text(value: object) -> str:
    if isinstance(value, tuple):
        items = ", ".join(map(_argument_text, value))
        return f"({items},)" if len(value) == 1 else f"({items})"
    return as_schedule(value).text if callable(value) else repr(value)


def as_schedule(curve: Curve) -> Schedule:
    """Return a schedule as it is, and a function of progress as a schedule with its name.

    Raises:
        ScheduleError: It is no function, or two calls with one number differ.

    >>> def ramp(progress):
    ...     return progress
    >>> as_schedule(ramp)
    ramp
    """
    if isinstance(curve, Schedule):
        return curve
    kind = curve if isinstance(curve, type) else type(curve)
    if kind.__module__.startswith("torch.optim"):
        raise ScheduleError(
            f"{kind.__name__} is a scheduler of torch's; expected a schedule, that is a function "
            f"of progress (0 ... 1). Write lrtune.from_torch(lambda optimizer: {kind.__name__}("
            "optimizer, ...), steps)."
        )
    if isinstance(curve, list | tuple | dict):
        raise ScheduleError(
            f"got {shown(curve)} as a schedule; expected one, which multiplies the rates of all "
            "parameter groups. Pass a single one; lrtune.compare(task, found, schedules=[...]) "
            "compares several."
        )
    if not callable(curve):
        raise ScheduleError(
            "expected a schedule, that is a function of progress (0 ... 1), got "
            f"{shown(curve)}. Take one of lrtune.schedules, or write "
            "`lambda progress: 1 - progress`."
        )
    _check_pure(curve)
    if isinstance(curve, functools.partial):
        keywords = (f"{name}={_argument_text(value)}" for name, value in curve.keywords.items())
        arguments = ", ".join([*map(_argument_text, curve.args), *keywords])
        return Schedule(f"{as_schedule(curve.func).text}({arguments})", curve)
    return Schedule(getattr(curve, "__name__", type(curve).__name__), curve)


def _check_pure(curve: Curve) -> None:
    """Raise where a function gives two numbers for the same progress."""
    for progress in (0.0, 0.25, 0.5, 0.75):
        try:
            once, again = float(curve(progress)), float(curve(progress))
        except Exception:  # noqa: BLE001 - `multipliers` raises it again, and names the step
            return
        if once != again and not (math.isnan(once) and math.isnan(again)):
            raise ScheduleError(
                f"{shown(curve)} gave {once:.6g} and then {again:.6g} for a progress of "
                f"{progress:g}; expected a pure function of progress, as runs repeat their rates. "
                "Leave out random numbers and counters: progress tells how far a run has come."
            )


def multipliers(schedule: Schedule, steps: int) -> list[float]:
    """Return the multiplier of the peak rate at each of the `steps` updates of a run.

    Number s is ``schedule(s / steps)``, finite and >= 0.

    Raises:
        ScheduleError: The schedule raised, or returned something else; the message names the step.
        ArgumentError: `steps` is less than 1.

    >>> multipliers(Schedule("linear()", lambda progress: 1 - progress), 4)
    [1.0, 0.75, 0.5, 0.25]
    """
    return _tabulate(schedule, schedule.rate, steps, "multiplier >= 0 of the peak rate", math.inf)


def momenta(schedule: Schedule, steps: int) -> list[float] | None:
    """Return the momentum at each of the `steps` updates of a run; None if it is not set.

    The errors are those of `multipliers`, also for a momentum outside [0, 1).

    >>> momenta(Schedule("warm", lambda p: 1.0, lambda p: 0.8 + p / 10), 2)
    [0.8, 0.8500000000000001]
    """
    check_steps(steps)
    if schedule.momentum is None:
        return None
    return _tabulate(schedule, schedule.momentum, steps, "momentum in [0, 1)", 1.0)


def _tabulate(
    schedule: Schedule, curve: Curve, steps: int, expected: str, limit: float
) -> list[float]:
    """Return the curve at each step, or raise an error that names the schedule and the step."""
    values = []
    for step in range(check_steps(steps)):
        progress = step / steps
        where = f"schedule {schedule.text!r} at step {step} of {steps} (progress {progress:.4g})"
        try:
            value = float(curve(progress))
        except Exception as error:
            raise ScheduleError(
                f"{where} raised {type(error).__name__}: {first_line(error)}. "
                "A schedule takes one number, the progress, and returns one number. Write, for "
                "example, lambda progress: 1 - progress."
            ) from error
        if not 0 <= value < limit:
            raise ScheduleError(
                f"{where} returned {value:.6g}; expected a finite {expected}. "
                "Call the schedule at that progress to see why."
            )
        values.append(value)
    return values


def check_steps(steps: int) -> int:
    """Return the number of steps of a run, or raise `ArgumentError` if it is none."""
    with suppress(TypeError):  # numpy's whole numbers are none of Python's
        steps = operator.index(steps)
    return whole_number("steps", steps, least=1)


def check_range(interval: str, call: str, hint: str, **named: float) -> None:
    """Raise `ScheduleError` for numbers outside an interval such as ``"[0, 1)"``."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    for name, value in named.items():
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if not (above and below):
            raise ScheduleError(f"{call}({name}={value!r}): expected {hint}, in {interval}.")


def check_increasing(call: str, hint: str, at: Iterable[float]) -> None:
    """Raise `ScheduleError` unless the positions increase strictly within (0, 1)."""
    positions = (0.0, *at, 1.0)
    if not all(a < b for a, b in pairwise(positions)):
        raise ScheduleError(
            f"{call}(at={positions[1:-1]!r}): expected {hint}, increasing strictly within (0, 1)."
        )


def check_choice(call: str, options: tuple[str, ...], **named: str) -> None:
    """Raise `ScheduleError` for a word that is not one of the options."""
    for name, value in named.items():
        if value not in options:
            raise ScheduleError(f"{call}({name}={value!r}): expected one of {options}.")
