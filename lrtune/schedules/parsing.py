"""`parse`: a schedule from its name, or from the text of the calls that make it."""

import ast
from collections.abc import Callable
from typing import Any

from lrtune.errors import ArgumentError, LrtuneError, shown
from lrtune.schedules.feedback import Feedback
from lrtune.schedules.plateaus import FEEDBACK
from lrtune.schedules.recipes import PREFIX, look_up_recipe
from lrtune.schedules.registry import look_up
from lrtune.schedules.schedule import FACTORIES, Schedule


def parse(text: str) -> Schedule | Feedback[Any]:
    """Return the schedule that a text stands for: a name of a registry, or calls of factories.

    `recipe:NAME` stands for the schedule of a published recipe (`lrtune.schedules.RECIPES`).

    ``parse(schedule.text) == schedule`` for whatever a factory made, and ``parse(repr(schedule))``
    for one that reacts to the loss. The text is never evaluated: only functions decorated with
    `factory` are called, and those in `FEEDBACK`.

    Raises:
        ArgumentError: The text is neither a name nor such calls.
        ScheduleError: A number in it is outside its range.

    >>> parse("cosine"), parse("warmup(1/20, cosine(floor=0.1))")
    (cosine(floor=0.0), warmup(share=0.05, then=cosine(floor=0.1)))
    >>> parse("reduce-on-plateau(on='val', every=50)")
    ReduceOnPlateau(on='val', every=50, factor=0.1, patience=0.1, threshold=0.0)
    """
    if text.strip().lower().startswith(PREFIX):
        return look_up_recipe(text).schedule()
    name, call, rest = text.strip().partition("(")
    feedback = _feedback(name)
    if not call:
        return feedback() if feedback else look_up(text)()
    try:
        node = ast.parse(f"f({rest}" if feedback else text.strip(), mode="eval").body
        made: Any = _call(feedback, node) if feedback else _build(node)
    except LrtuneError:  # a factory refused a number, and says so better than we could
        raise
    except (SyntaxError, TypeError, ValueError, ZeroDivisionError) as error:
        reason = str(error).partition(" on line")[0]
    else:
        if feedback or isinstance(made, Schedule):
            return made  # type: ignore[no-any-return]
        reason = f"it makes {shown(made)}"
    raise ArgumentError(
        f"{shown(text)} is no schedule: {reason}. Expected a name such as cosine, or calls such as "
        "warmup(0.05, then=cosine())."
    )


def _feedback(name: str) -> Callable[..., Feedback[Any]] | None:
    """Return what makes a schedule that reacts to the loss, by its name or that of its class."""
    plain = name.strip().lower().replace("_", "-")
    named = {getattr(make, "__name__", "").lower(): make for make in FEEDBACK.values()}
    return FEEDBACK.get(plain) or named.get(plain)


def _call(make: Callable[..., Any], node: ast.expr) -> Any:
    """Return what a function makes of the arguments of a call."""
    if not isinstance(node, ast.Call):
        raise TypeError("it goes on after its arguments")
    named = {str(keyword.arg): _build(keyword.value) for keyword in node.keywords}
    return make(*map(_build, node.args), **named)


def _build(node: ast.expr) -> Any:
    """Return the value of an expression of calls, tuples, and numbers or quotients of them."""
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in FACTORIES:
            return _call(FACTORIES[name], node)
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(_build(item) for item in items)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return float(ast.literal_eval(left)) / float(ast.literal_eval(right))
        case _:  # numbers, texts and None; a name or an attribute raises an error
            return ast.literal_eval(node)
