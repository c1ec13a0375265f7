"""`parse`: from the text of a schedule, in a result or on the command line, to the schedule."""

import ast
from typing import Any

from lrtune.errors import ArgumentError, LrtuneError
from lrtune.schedules.registry import look_up
from lrtune.schedules.schedule import FACTORIES, Schedule


def parse(text: str) -> Schedule:
    """Return the schedule that a text stands for.

    Args:
        text: A name of the registry, such as ``"one-cycle"``, or calls of factories, such as
            ``"warmup(0.05, then=cosine(floor=0.01))"``.

    Returns:
        The schedule; ``parse(schedule.text) == schedule`` for whatever a factory made. The text is
        never evaluated: only functions decorated with `factory` are called.

    Raises:
        ArgumentError: The text is neither a name nor such calls.
        ScheduleError: A number in it is outside its range.

    >>> parse("cosine"), parse("warmup(1/20, cosine(floor=0.1))")
    (cosine(floor=0.0), warmup(share=0.05, then=cosine(floor=0.1)))
    """
    if "(" not in text:
        return look_up(text)()
    try:
        made = _build(ast.parse(text.strip(), mode="eval").body)
    except LrtuneError:  # a factory refused a number, and says so better than we could
        raise
    except (SyntaxError, TypeError, ValueError, ZeroDivisionError) as error:
        reason = str(error)
    else:
        if isinstance(made, Schedule):
            return made
        reason = f"it makes {made!r}"
    raise ArgumentError(
        f"{text!r} is no schedule: {reason}. Expected a name such as cosine, or calls such as "
        "warmup(0.05, then=cosine())."
    )


def _build(node: ast.expr) -> Any:
    """Return the value of an expression of calls, tuples, and numbers or quotients of them."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in FACTORIES:
            named = {str(keyword.arg): _build(keyword.value) for keyword in keywords}
            return FACTORIES[name](*map(_build, args), **named)
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_build(item) for item in items)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return float(ast.literal_eval(left)) / float(ast.literal_eval(right))
        case _:
            return ast.literal_eval(node)
