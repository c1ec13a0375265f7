"""Learning-rate schedules: pure functions of progress, made by factories, listed in a registry."""

from lrtune.schedules import combinators, cycles, shapes
from lrtune.schedules.combinators import *
from lrtune.schedules.cycles import *
from lrtune.schedules.entry import Choice, FloatRange, IntRange, ScheduleEntry
from lrtune.schedules.feedback import Feedback, ValidatedFeedback, replay
from lrtune.schedules.parsing import parse
from lrtune.schedules.plateaus import (
    FEEDBACK,
    GrowUntilPlateau,
    ReduceOnPlateau,
    equivalent_growth,
)
from lrtune.schedules.recipes import RECIPES, Recipe, look_up_recipe
from lrtune.schedules.registry import SCHEDULES, look_up
from lrtune.schedules.schedule import Curve, Schedule, as_schedule, factory, momenta, multipliers
from lrtune.schedules.shapes import *
from lrtune.schedules.snippets import snippet

__all__ = [
    "FEEDBACK",
    "RECIPES",
    "SCHEDULES",
    "Choice",
    "Curve",
    "Feedback",
    "FloatRange",
    "GrowUntilPlateau",
    "IntRange",
    "Recipe",
    "ReduceOnPlateau",
    "Schedule",
    "ScheduleEntry",
    "ValidatedFeedback",
    "as_schedule",
    "equivalent_growth",
    "factory",
    "look_up",
    "look_up_recipe",
    "momenta",
    "multipliers",
    "parse",
    "replay",
    "snippet",
]
# The modules of factories list their own names, so that a new schedule needs no line here.
__all__ += combinators.__all__
__all__ += cycles.__all__
__all__ += shapes.__all__
