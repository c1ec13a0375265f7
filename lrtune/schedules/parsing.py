"""A schedule from its text, as it stands in results and on the command line."""

import ast
from collections.abc import Callable
from typing import Any

from lrtune.errors import ArgumentError, LrtuneError
from lrtune.schedules import combinators, cycles, shapes
from lrtune.schedules.registry import look_up
from lrtune.schedules.schedule import Schedule

_FACTORIES: dict[str, Callable[..., Schedule]] = {
    make.__name__: make
    for make in (
        combinators.cycle,
        combinators.join,
        combinators.scale,
        combinators.warmup,
        cycles.cosine_restarts,
        cycles.exp_range,
        cycles.one_cycle,
        cycles.one_cycle_three_phase,
        cycles.triangular,
        cycles.triangular2,
        shapes.constant,
        shapes.cosine,
        shapes.exponential,
        shapes.growth,
        shapes.inverse_sqrt,
        shapes.linear,
        shapes.multistep,
        shapes.polynomial,
        shapes.rex,
        shapes.stable_decay,
        shapes.step,
    )
}


def parse(text: str) -> Schedule:
    """The schedule that a text stands for: a name of the registry, or calls of our factories.

    Args:
        text: Such as ``"one-cycle"`` or ``"warmup(0.05, then=cosine(floor=0.01))"``.

    Returns:
        The schedule. Nothing but our factories is called, and
        ``parse(schedule.text) == schedule`` for all that our factories make.

    Raises:
        ArgumentError: The text is no such thing.
        ScheduleError: A number in it is out of its range.

    >>> parse("cosine"), parse("warmup(1/20, cosine(floor=0.1))")
    (cosine(floor=0.0), warmup(share=0.05, then=cosine(floor=0.1)))
    """
    if "(" not in text:
        return look_up(text)()
    try:
        made = _build(ast.parse(text.strip(), mode="eval").body)
    except LrtuneError:
        raise
    except (SyntaxError, TypeError, ValueError, ZeroDivisionError) as error:
        raise _unreadable(text, str(error)) from error
    if not isinstance(made, Schedule):
        raise _unreadable(text, f"it makes {made!r}, which is no schedule")
    return made


def _unreadable(text: str, reason: str) -> ArgumentError:
    return ArgumentError(
        f"{text!r} is no schedule: {reason}. Expected a name such as cosine, or calls such as "
        "warmup(0.05, then=cosine())."
    )


def _build(node: ast.expr) -> Any:
    """The value of an expression of calls, tuples, and numbers or quotients of them."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in _FACTORIES:
            named = {str(keyword.arg): _build(keyword.value) for keyword in keywords}
            return _FACTORIES[name](*map(_build, args), **named)
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_build(item) for item in items)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return float(ast.literal_eval(left)) / float(ast.literal_eval(right))
        case _:
            return ast.literal_eval(node)
