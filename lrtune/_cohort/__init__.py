"""The engine room: the only training loop of the package."""

from lrtune._cohort.cohort import Cohort, Progress
from lrtune._cohort.engine import Engine
from lrtune._cohort.loop import Loop
from lrtune._cohort.paces import pace_of
from lrtune._cohort.stacked import Stacked
from lrtune._cohort.training import ENGINES, Evaluate, Evaluator, train

__all__ = [
    "ENGINES",
    "Cohort",
    "Engine",
    "Evaluate",
    "Evaluator",
    "Loop",
    "Progress",
    "Stacked",
    "pace_of",
    "train",
]
