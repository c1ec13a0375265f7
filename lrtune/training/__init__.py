"""Training: cohorts, their engines, and the evaluator."""

from lrtune.training.cohort import Cohort, Progress
from lrtune.training.engine_choice import ENGINES
from lrtune.training.engines import Engine
from lrtune.training.engines.loop import Loop
from lrtune.training.engines.vmapped import Vmapped
from lrtune.training.evaluate import CheckedEvaluate, Evaluate
from lrtune.training.evaluator import Evaluator, as_evaluate, train
from lrtune.training.recording import step_settings

__all__ = [
    "ENGINES",
    "CheckedEvaluate",
    "Cohort",
    "Engine",
    "Evaluate",
    "Evaluator",
    "Loop",
    "Progress",
    "Vmapped",
    "as_evaluate",
    "step_settings",
    "train",
]
