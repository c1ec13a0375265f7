"""`snippet`: a schedule as Python source for a training script. Nothing here imports torch."""

import inspect
import math
import re
import textwrap
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any, cast

from lrtune.errors import ArgumentError, quantity
from lrtune.schedules import formulas
from lrtune.schedules.feedback import Feedback
from lrtune.schedules.plateaus import ReduceOnPlateau
from lrtune.schedules.schedule import Curve, as_schedule, momenta, multipliers

# What `torch_schedulers.MomentumLR` does, for a script without lrtune.
_MOMENTUM = '''class MomentumLR(LambdaLR):
    """Sets the momentum (Adam's beta1) along with the rate, as torch's OneCycleLR does."""

    def get_lr(self):
        value = momentum(self.last_epoch)
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (value, *group["betas"][1:])
            else:
                group["momentum"] = value
        return super().get_lr()
'''

# Reasons for the comment in a snippet that could have been one line of torch.
_WHY_NOT_NATIVE: dict[Callable[..., float], str] = {
    formulas.cosine: "CosineAnnealingLR climbs again after its end",
    formulas.phases: "OneCycleLR raises an error soon after its end",
    formulas.between: "CyclicLR goes on cycling after the end of the run",
}


def snippet(schedule: Curve | Feedback[Any], lr: float, steps: int, *, name: str = "") -> str:
    """Return Python source that gives `optimizer` this schedule; the script needs no lrtune.

    It reads the name `optimizer` and defines `scheduler`: one of torch's own where it equals the
    schedule (ConstantLR, StepLR, MultiStepLR, ExponentialLR, LinearLR, PolynomialLR, or a
    SequentialLR of these whose phases begin at whole steps), else a LambdaLR over a copy of the
    functions that lrtune evaluates. A function of the user's own becomes a table of its values.
    `ReduceOnPlateau(on="val")` becomes torch's ReduceLROnPlateau; a comment says when to step it.
    After the last step the rate stays; that of one of torch's own schedulers may fall further.

    Args:
        schedule: A schedule, any function of progress, or `ReduceOnPlateau(on="val")`.
        lr: Peak rate, > 0, with which the script builds its optimizer.
        steps: Length of the run in optimizer updates, >= 1.
        name: What the schedule is called, for the comment; its call when empty.

    Raises:
        ScheduleError: The schedule raises, returns something that is no multiplier, or reacts to
            the losses of batches.
        ArgumentError: `lr` or `steps` is outside its range.

    >>> from lrtune.schedules import linear
    >>> print(snippet(linear(), lr=0.1, steps=500))
    # linear(floor=0.0) over 500 steps, written by lrtune.
    # Build the optimizer with lr=0.1: its groups have their peak rates here.
    # Call scheduler.step() after every optimizer.step().
    from torch.optim.lr_scheduler import LinearLR
    <BLANKLINE>
    scheduler = LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=500)
    <BLANKLINE>
    """
    if not (math.isfinite(lr) and lr > 0):
        raise ArgumentError(f"snippet(lr={lr!r}): expected a peak rate > 0, such as 0.1.")
    if isinstance(schedule, ReduceOnPlateau):
        return _reacting(schedule, lr, steps, name)
    known = as_schedule(cast("Curve", schedule))
    # Tabulating also checks every value, before any text is written.
    rates, moments = multipliers(known, steps), momenta(known, steps)
    head = _head(known.text, lr, steps, name, "Call scheduler.step() after every optimizer.step().")
    native = None if moments else _native(known.rate, steps)  # torch's own set no momentum
    if native:
        names = ", ".join(sorted(set(re.findall(r"\b\w+LR\b", native))))
        return f"{head}from torch.optim.lr_scheduler import {names}\n\nscheduler = {native}\n"
    curves = {"multiplier": _pasteable(known.rate, rates)}
    if known.momentum and moments:
        curves["momentum"] = _pasteable(known.momentum, moments)
    reason = _WHY_NOT_NATIVE.get(curves["multiplier"].func)
    why = f"# (torch's own {reason}.)\n" if reason else ""
    return head + why + _program(curves, steps)


def _reacting(schedule: ReduceOnPlateau, lr: float, steps: int, name: str) -> str:
    """Return the snippet of a schedule that reacts to the validation loss."""
    settings, every = schedule.torch_settings(steps), schedule.validate_every(steps)
    arguments = "".join(f", {key}={value!r}" for key, value in settings.items())
    when = (
        f"After every {quantity(every, 'optimizer step')} call scheduler.step(val_loss), with the "
        "loss on the validation data in eval mode; and at no other time."
    )
    return (
        f"{_head(repr(schedule), lr, steps, name, when)}"
        "from torch.optim.lr_scheduler import ReduceLROnPlateau\n\n"
        f"scheduler = ReduceLROnPlateau(optimizer{arguments})\n"
    )


def _head(text: str, lr: float, steps: int, name: str, when: str) -> str:
    """Return the comment above a snippet."""
    plain, called = (" ".join(one.split()) for one in (text, name or text))
    means = f" It is {plain}." * (called != plain)
    peak = f"Build the optimizer with lr={float(lr)!r}: its groups have their peak rates here."
    what = f"{called} over {steps} steps, written by lrtune.{means}"
    return _comment(what) + _comment(peak) + _comment(when)


def _comment(text: str) -> str:
    """A comment, in lines that a terminal holds."""
    filled = textwrap.fill(text, 77, break_long_words=False, break_on_hyphens=False)
    return textwrap.indent(filled, "# ") + "\n"


def _program(curves: dict[str, partial[float]], steps: int) -> str:
    """Return the snippet that computes the curves, within a function so that no name clashes."""
    blocks = [
        f"def {name}(step):\n"
        f"    p = min(step, {steps - 1}) / {steps}  # the last value is held after the end\n"
        f"    return {_call(curve)}\n"
        for name, curve in curves.items()
    ]
    # A formula calls only those above it in `formulas`, so one pass from below finds all of them.
    for formula in reversed([each for each in vars(formulas).values() if inspect.isfunction(each)]):
        if any(re.search(rf"\b{formula.__name__}\(", block) for block in blocks):
            blocks.insert(0, inspect.getsource(formula))
    if "momentum" in curves:
        blocks.append(_MOMENTUM)
    kind = "MomentumLR" if "momentum" in curves else "LambdaLR"
    blocks.append(f"return {kind}(optimizer, multiplier)\n")
    body = textwrap.indent("\n".join(blocks), "    ")
    imports = "import math\n" if "math." in body else ""
    imports += "from collections.abc import Callable\n" if "Callable[" in body else ""
    imports += "\n" if imports else ""
    return (
        f"{imports}from torch.optim.lr_scheduler import LambdaLR\n\n\n"
        f"def make_scheduler(optimizer):\n{body}\n\nscheduler = make_scheduler(optimizer)\n"
    )


def _pasteable(curve: Any, values: list[float]) -> partial[float]:
    """Return the curve if it consists of formulas alone, else a table of its values."""
    return curve if _is_formula(curve) else partial(formulas.table, values=tuple(values))


def _is_formula(curve: Any) -> bool:
    """Return whether a curve is a partial of a function of `formulas`, its arguments too."""
    if not isinstance(curve, partial) or curve.args:
        return False
    # The same object, not the same name: a user's function may be called `cosine`, too.
    own = vars(formulas).get(getattr(curve.func, "__name__", "")) is curve.func
    given = curve.keywords.values()
    flat = [one for value in given for one in (value if isinstance(value, tuple) else (value,))]
    return own and all(_is_formula(one) for one in flat if callable(one))


def _call(curve: Any) -> str:
    keywords = "".join(f", {name}={_literal(value)}" for name, value in curve.keywords.items())
    return f"{curve.func.__name__}(p{keywords})"


def _literal(value: object) -> str:
    if isinstance(value, partial):
        return f"lambda p: {_call(value)}"
    if not isinstance(value, tuple):
        return repr(value)
    items = ", ".join(map(_literal, value))
    if len(value) <= 8:
        return f"({items},)" if len(value) == 1 else f"({items})"
    return "(\n" + textwrap.indent(textwrap.fill(items, 88), " " * 8) + "\n    )"


# --- torch's own schedulers

Phase = tuple[str, int]
"""The code of one of torch's own schedulers, and for how many steps it is used."""


def _native(curve: Any, steps: int) -> str | None:
    """Return the code of torch's own scheduler for this curve, or None if there is none."""
    phases = _phases(curve, steps)
    if phases is None or len(phases) == 1:
        return phases[0][0] if phases else None
    borders = [*accumulate(length for _, length in phases[:-1])]
    parts = "".join(f"        {code},\n" for code, _ in phases)
    return f"SequentialLR(\n    optimizer,\n    [\n{parts}    ],\n    milestones={borders},\n)"


def _phases(curve: Any, steps: int) -> list[Phase] | None:
    write = _NATIVE.get(curve.func) if _is_formula(curve) else None
    written = write(steps, **curve.keywords) if write else None
    return [(written, steps)] if isinstance(written, str) else written


def _border(place: float, steps: int) -> int | None:
    """Return the step at which a phase begins, or None if it begins between two steps."""
    border = round(place * steps)
    return border if abs(border - place * steps) < 1e-9 and 0 < border < steps else None


def _linear(steps: int, floor: float) -> str:
    return f"LinearLR(optimizer, start_factor=1.0, end_factor={floor!r}, total_iters={steps})"


def _stairs(steps: int, every: float, factor: float) -> str:
    # The steps at which the rate drops, one entry per drop: StepLR if they are evenly spaced.
    drops = [int(step / steps / every + 1e-9) for step in range(steps)]
    at = [step for step in range(1, steps) for _ in range(drops[step] - drops[step - 1])]
    size = max(round(every * steps), 1)
    if at == list(range(size, steps, size)):
        return f"StepLR(optimizer, step_size={size}, gamma={factor!r})"
    return f"MultiStepLR(optimizer, milestones={at}, gamma={factor!r})"


def _milestones(steps: int, at: tuple[float, ...], factor: float) -> str:
    reached = [math.ceil((border - 1e-9) * steps) for border in at]
    return f"MultiStepLR(optimizer, milestones={reached}, gamma={factor!r})"


def _warmup(steps: int, share: float, then: Curve) -> list[Phase] | None:
    # LinearLR rises to 1 only, so the schedule after the warmup has to start there.
    rise = _border(share, steps)
    rest = _phases(then, steps - rise) if rise and then(0.0) == 1 else None
    if rise is None or rest is None:
        return None
    return [(f"LinearLR(optimizer, start_factor=0.01, total_iters={rise})", rise), *rest]


def _stable(steps: int, decay: float, cooldown: str) -> str | list[Phase] | None:
    if cooldown == "linear" and decay == 1:
        return _linear(steps, floor=0.0)
    hold = _border(1 - decay, steps)
    if cooldown != "linear" or hold is None:
        return None
    down = steps - hold
    return [("ConstantLR(optimizer, factor=1.0)", hold), (_linear(down, floor=0.0), down)]


_NATIVE: dict[Callable[..., float], Callable[..., str | list[Phase] | None]] = {
    formulas.constant: lambda _steps, value: (
        "ConstantLR(optimizer, factor=1.0)" if value == 1 else None
    ),
    formulas.linear: _linear,
    formulas.polynomial: lambda steps, power, floor: (
        f"PolynomialLR(optimizer, total_iters={steps}, power={power!r})" if floor == 0 else None
    ),
    formulas.exponential: lambda steps, end: (
        f"ExponentialLR(optimizer, gamma={end!r} ** (1 / {steps}))"
    ),
    formulas.stairs: _stairs,
    formulas.milestones: _milestones,
    formulas.stable: _stable,
    formulas.warmup: _warmup,
}
