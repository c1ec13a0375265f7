"""The engine room: the only training loop of the package."""

from lrtune._cohort.cohort import Cohort, Progress, train
from lrtune._cohort.engine import Engine
from lrtune._cohort.evaluate import Evaluate, evaluator
from lrtune._cohort.loop import Loop
from lrtune._cohort.paces import pace_of

__all__ = ["Cohort", "Engine", "Evaluate", "Loop", "Progress", "evaluator", "pace_of", "train"]
