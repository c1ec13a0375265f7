"""The engine room: the only training loop of the package."""

from lrtune.training.cohort import Cohort, Progress
from lrtune.training.engines import Engine
from lrtune.training.engines.loop import Loop
from lrtune.training.engines.vmapped import Stacked
from lrtune.training.evaluator import ENGINES, Evaluate, Evaluator, train
from lrtune.training.run_state import step_settings

__all__ = [
    "ENGINES",
    "Cohort",
    "Engine",
    "Evaluate",
    "Evaluator",
    "Loop",
    "Progress",
    "Stacked",
    "step_settings",
    "train",
]
