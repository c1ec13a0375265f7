"""Training: cohorts, their engines, and the evaluator."""

from lrtune.training.cohort import Cohort
from lrtune.training.engine_choice import ENGINES
from lrtune.training.engines import Engine
from lrtune.training.engines.loop import Loop
from lrtune.training.engines.vmapped import Vmapped
from lrtune.training.evaluate import CheckedEvaluate, Evaluate
from lrtune.training.evaluator import Evaluator, train
from lrtune.training.given import as_evaluate, said_of
from lrtune.training.recording import Progress, step_settings
from lrtune.training.same_task import UNTRAINED, refuse_other_start, refuse_other_task, trained_task

__all__ = [
    "ENGINES",
    "UNTRAINED",
    "CheckedEvaluate",
    "Cohort",
    "Engine",
    "Evaluate",
    "Evaluator",
    "Loop",
    "Progress",
    "Vmapped",
    "as_evaluate",
    "refuse_other_start",
    "refuse_other_task",
    "said_of",
    "step_settings",
    "train",
    "trained_task",
]
