"""Training: cohorts, their engines, and the evaluator."""

from lrtune.training.cohort import Cohort
from lrtune.training.engine_choice import ENGINES
from lrtune.training.engines import Engine
from lrtune.training.engines.loop import Loop
from lrtune.training.engines.varied import Variation, Variations, VariedLoop
from lrtune.training.engines.vmapped import Vmapped
from lrtune.training.evaluate import CheckedEvaluate, Evaluate
from lrtune.training.evaluator import Evaluator
from lrtune.training.evaluators import as_evaluate, evaluate_like, train
from lrtune.training.recording import Progress, step_settings

__all__ = [
    "ENGINES",
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
    "step_settings",
    "train",
]
