"""The registry: every schedule that a comparison may rank, simplest first; their names.

Its entries pass every test of schedules. To add a schedule of your own::

    SCHEDULES["mine"] = ScheduleEntry("mine", "What it does.", "its source", make=mine)
"""

import difflib
from collections.abc import Iterator
from typing import Any

from lrtune.errors import ArgumentError, shown
from lrtune.schedules import cycles, shapes
from lrtune.schedules.combinators import scale, warmup
from lrtune.schedules.cycles import triangular
from lrtune.schedules.entry import Choice, FloatRange, IntRange, ScheduleEntry
from lrtune.schedules.feedback import Feedback
from lrtune.schedules.plateaus import FEEDBACK
from lrtune.schedules.schedule import Schedule

_PLAYBOOK = "Google's Tuning Playbook: a tenth of the run at most; AlgoPerf: 0.02, 0.05, 0.1"
_SMITH = "Smith 2017, arXiv:1506.01186, sections 3.2, 3.3: three cycles or more, base 1/3 or 1/4"
# Ranges that several schedules share. Lengths are shares of the run, never step counts, so that a
# value found at one horizon means the same at another.
_FLOORS = {"0": 0.0, "0.001": 0.001, "0.01": 0.01}
_FACTORS = {"0.1": 0.1, "0.2": 0.2, "0.5": 0.5}
_STAIRS = {"1/2": 1 / 2, "1/3": 1 / 3, "1/4": 1 / 4, "1/5": 1 / 5}
_MILESTONES = {"50/75": (0.5, 0.75), "30/60/80": (0.3, 0.6, 0.8), "33/67/89": (1 / 3, 2 / 3, 8 / 9)}
_RISE = FloatRange(0.05, low=0.01, high=0.1, log=True)
_TAU = FloatRange(0.05, low=0.005, high=0.1, log=True)
_WSD = {"share": _RISE, "decay": FloatRange(0.2, low=0.05, high=0.4)}
_WSD_SOURCE = "arXiv:2405.18392: cooldowns of 5 to 40 %, 10 to 20 % suffice"
_WAVES: dict[str, FloatRange | IntRange | Choice] = {
    "cycles": IntRange(4, low=3, high=8),
    "base": FloatRange(0.25, low=0.1, high=1 / 3),
}
_END = {"end": FloatRange(0.1, low=0.01, high=0.5, log=True)}
_ONE_CYCLE_START = FloatRange(0.04, low=0.01, high=0.1, log=True)


def _decay_cyclic(cycles: int, base: float) -> Schedule:
    return scale(triangular(cycles, base), by=shapes.linear())


_ENTRIES = (
    ScheduleEntry("constant", "The peak rate throughout.", "the baseline", shapes.constant),
    ScheduleEntry(
        "linear",
        "A straight line down.",
        "arXiv:1905.04753, section 3; arXiv:2310.07831",
        shapes.linear,
        {"floor": Choice("0", _FLOORS)},
        "AlgoPerf (arXiv:2306.07179): end_factor 0, 1e-3, 1e-2",
    ),
    ScheduleEntry(
        "cosine",
        "Half a cosine down.",
        "arXiv:1608.03983, section 3",
        shapes.cosine,
        {"floor": FloatRange(0.0, low=0.0, high=0.1)},
        "end ratios of published recipes: 0 to 0.1",
    ),
    ScheduleEntry("rex", "Falls slowly, then steeply.", "arXiv:2107.04197", shapes.rex),
    ScheduleEntry(
        "exponential",
        "Falls by the same factor at each step.",
        "torch's ExponentialLR",
        shapes.exponential,
        {"end": FloatRange(0.01, low=1e-3, high=0.1, log=True)},
        "two decades, the ends of published step recipes",
    ),
    ScheduleEntry(
        "polynomial",
        "A power of the remaining share of the run.",
        "arXiv:1606.00915, section 4.1; arXiv:1708.03888",
        shapes.polynomial,
        {"power": FloatRange(2.0, low=0.5, high=4.0, log=True)},
        "0.9 in DeepLab, 2 in LARS, and a factor of two around them",
    ),
    ScheduleEntry(
        "inverse-sqrt",
        "Falls with one over the square root of time.",
        "arXiv:1706.03762, section 5.3; arXiv:2106.04560, section 3.5",
        shapes.inverse_sqrt,
        {"tau": _TAU},
        "warmups of transformers as a share of their runs",
    ),
    ScheduleEntry(
        "step",
        "Divided by ten after each third of the run.",
        "arXiv:1512.03385, section 3.4; torchvision's reference recipe",
        shapes.step,
        {"every": Choice("1/3", _STAIRS), "factor": Choice("0.1", _FACTORS)},
        "30 of 90 epochs; factors of arXiv:1512.03385 (0.1) and arXiv:1605.07146 (0.2)",
    ),
    ScheduleEntry(
        "multistep",
        "Divided by ten at 50 % and 75 % of the run.",
        "arXiv:1512.03385, section 4.2",
        shapes.multistep,
        {"at": Choice("50/75", _MILESTONES), "factor": Choice("0.1", _FACTORS)},
        "arXiv:1512.03385 (50/75), arXiv:1605.07146 (30/60/80), arXiv:1706.02677 (33/67/89)",
    ),
    ScheduleEntry(
        "warmup-linear",
        "A short rise, then a straight line down.",
        "arXiv:1706.02677, section 2.2; arXiv:2310.07831",
        lambda share, floor: warmup(share, then=shapes.linear(floor)),
        {"share": _RISE, "floor": Choice("0", _FLOORS)},
        _PLAYBOOK,
    ),
    ScheduleEntry(
        "warmup-cosine",
        "A short rise, then half a cosine down.",
        "arXiv:1706.02677, section 2.2; arXiv:1608.03983",
        lambda share, floor: warmup(share, then=shapes.cosine(floor)),
        {"share": _RISE, "floor": FloatRange(0.0, low=0.0, high=0.1)},
        _PLAYBOOK,
    ),
    ScheduleEntry(
        "warmup-inverse-sqrt",
        "A short rise, then one over the square root of time.",
        "arXiv:1706.03762, section 5.3",
        lambda share, tau: warmup(share, then=shapes.inverse_sqrt(tau)),
        {"share": _RISE, "tau": _TAU},
        _PLAYBOOK,
    ),
    ScheduleEntry(
        "wsd",
        "A short rise, a long constant peak, a straight cooldown (WSD).",
        "arXiv:2404.06395; arXiv:2405.18392",
        lambda share, decay: warmup(share, then=shapes.stable_decay(decay)),
        _WSD,
        _WSD_SOURCE,
    ),
    ScheduleEntry(
        "wsd-sqrt",
        "A short rise, a long constant peak, a cooldown as 1 - sqrt.",
        "arXiv:2405.18392",
        lambda share, decay: warmup(share, then=shapes.stable_decay(decay, "1-sqrt")),
        _WSD,
        _WSD_SOURCE,
    ),
    ScheduleEntry(
        "trapezoid",
        "A long rise, a constant peak, a long straight cooldown.",
        "arXiv:2405.18392 (the shape); arXiv:2110.04369 (why the rise)",
        lambda share, decay: warmup(share, then=shapes.stable_decay(decay)),
        {"share": FloatRange(0.25, low=0.1, high=0.4), "decay": FloatRange(0.4, low=0.2, high=0.6)},
        "docs/decisions/0010: around the best values on small tasks",
    ),
    ScheduleEntry(
        "cosine-restarts",
        "Several cosines, each twice as long as the one before (SGDR).",
        "arXiv:1608.03983, section 3",
        cycles.cosine_restarts,
        {
            "cycles": IntRange(3, low=2, high=5),
            "stretch": Choice("2", {"1": 1.0, "2": 2.0}),
            "decay": FloatRange(1.0, low=0.5, high=1.0),
        },
        "T_mult 1 and 2 of arXiv:1608.03983; timm's cycle_decay",
    ),
    *(
        ScheduleEntry(name, summary, "arXiv:1506.01186, section 3.1", make, _WAVES | more, _SMITH)
        for name, summary, make, more in (
            ("triangular", "Up and down in equal cycles.", cycles.triangular, {}),
            ("triangular2", "Up and down in cycles, each half as high.", cycles.triangular2, {}),
            ("exp-range", "Up and down in cycles under an exponential.", cycles.exp_range, _END),
            (
                "decay-cyclic",
                "Up and down in cycles under a straight line to 0.",
                _decay_cyclic,
                {},
            ),
        )
    ),
    ScheduleEntry(
        "one-cycle",
        "Up to the peak, then down to almost 0; the momentum mirrors it.",
        "arXiv:1708.07120; torch's OneCycleLR",
        cycles.one_cycle,
        {"share": FloatRange(0.3, low=0.1, high=0.4), "start": _ONE_CYCLE_START},
        "pct_start and div_factor of torch and fastai, and around them",
    ),
    ScheduleEntry(
        "one-cycle-three-phase",
        "Up to the peak, down as long, then a short fall to almost 0.",
        "arXiv:1803.09820, section 4; arXiv:1708.07120",
        cycles.one_cycle_three_phase,
        {"share": FloatRange(0.45, low=0.3, high=0.475), "start": _ONE_CYCLE_START},
        "a last phase of 5 to 40 % of the run; a tenth in arXiv:1803.09820",
    ),
)

SCHEDULES: dict[str, ScheduleEntry] = {entry.name: entry for entry in _ENTRIES}
"""Every schedule by name, simplest first: between ties a comparison prefers the earlier one."""


def look_up(name: str) -> ScheduleEntry:
    """Return the registry's entry of that name; underscores may stand for hyphens.

    Raises:
        ArgumentError: No schedule has that name; the message lists the closest ones.

    >>> look_up("one_cycle").summary
    'Up to the peak, then down to almost 0; the momentum mirrors it.'
    """
    plain = name.strip().lower().replace("_", "-")
    if plain in SCHEDULES:
        return SCHEDULES[plain]
    close = difflib.get_close_matches(plain, SCHEDULES, n=3)
    which = f"There are {', '.join(SCHEDULES)}"
    if close:
        which = f"Closest: {', '.join(close)}; `lrtune schedules` lists all"
    raise ArgumentError(f"no schedule is called {shown(name)}. {which}.")


def schedule_text(schedule: object) -> str:
    """Return a schedule as text that `parse` reads: its name, or the call that makes it.

    >>> schedule_text(SCHEDULES["trapezoid"]()), schedule_text(shapes.cosine(floor=0.1))
    ('trapezoid', 'cosine(floor=0.1)')
    >>> schedule_text(FEEDBACK["reduce-on-plateau"]())
    'reduce-on-plateau'
    """
    return next((name for name, one in _defaults() if one == schedule), repr(schedule))


def _defaults() -> Iterator[tuple[str, Schedule | Feedback[Any]]]:
    """Every schedule with its default arguments, by name."""
    yield from ((name, make()) for name, make in SCHEDULES.items())
    yield from ((name, make()) for name, make in FEEDBACK.items())


def registered_name(schedule: object) -> str:
    """Return the name of a schedule in `SCHEDULES` or `FEEDBACK`; empty for any other.

    A schedule that equals an entry's default counts as made by that entry.

    >>> registered_name(SCHEDULES["wsd"](decay=0.3)), registered_name(shapes.cosine())
    ('wsd', 'cosine')
    """
    made = schedule.name if isinstance(schedule, Schedule) else ""
    return made or next((name for name, one in _defaults() if one == schedule), "")
