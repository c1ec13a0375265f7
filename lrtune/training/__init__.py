"""Training: cohorts, their engines, and the evaluator."""

from lrtune.training.cohort import Cohort
from lrtune.training.engine_choice import ENGINES
from lrtune.training.engines import Engine
from lrtune.training.engines.loop import Loop
from lrtune.training.engines.varied import Variation, Variations, VariedLoop
from lrtune.training.engines.vmapped import Vmapped
from lrtune.training.evaluate import CheckedEvaluate, Evaluate
from lrtune.training.evaluator import Evaluator
from lrtune.training.evaluators import as_evaluate, evaluate_like, said_of, train
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
    "Variation",
    "Variations",
    "VariedLoop",
    "Vmapped",
    "as_evaluate",
    "evaluate_like",
    "refuse_other_start",
    "refuse_other_task",
    "said_of",
    "step_settings",
    "train",
    "trained_task",
]
