"""Schedules: pure functions of progress, made by factories, listed in one registry."""

from lrtune.schedules.combinators import cycle, join, scale, warmup
from lrtune.schedules.cycles import (
    cosine_restarts,
    exp_range,
    one_cycle,
    one_cycle_three_phase,
    triangular,
    triangular2,
)
from lrtune.schedules.entry import Choice, FloatRange, IntRange, ScheduleEntry
from lrtune.schedules.feedback import (
    FEEDBACK,
    Feedback,
    GrowUntilPlateau,
    ReduceOnPlateau,
    equivalent_growth,
    replay,
)
from lrtune.schedules.parsing import parse
from lrtune.schedules.registry import SCHEDULES, look_up
from lrtune.schedules.schedule import (
    Curve,
    Schedule,
    as_schedule,
    factory,
    momenta,
    multipliers,
)
from lrtune.schedules.shapes import (
    constant,
    cosine,
    exponential,
    growth,
    inverse_sqrt,
    linear,
    multistep,
    polynomial,
    rex,
    stable_decay,
    step,
)

__all__ = [
    "FEEDBACK",
    "SCHEDULES",
    "Choice",
    "Curve",
    "Feedback",
    "FloatRange",
    "GrowUntilPlateau",
    "IntRange",
    "ReduceOnPlateau",
    "Schedule",
    "ScheduleEntry",
    "as_schedule",
    "constant",
    "cosine",
    "cosine_restarts",
    "cycle",
    "equivalent_growth",
    "exp_range",
    "exponential",
    "factory",
    "growth",
    "inverse_sqrt",
    "join",
    "linear",
    "look_up",
    "momenta",
    "multipliers",
    "multistep",
    "one_cycle",
    "one_cycle_three_phase",
    "parse",
    "polynomial",
    "replay",
    "rex",
    "scale",
    "stable_decay",
    "step",
    "triangular",
    "triangular2",
    "warmup",
]
