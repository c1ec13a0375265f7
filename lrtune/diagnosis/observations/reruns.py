"""Whether a run is the same when it is made again."""

from dataclasses import dataclass

from lrtune.results.runs import Run
from lrtune.task.checks import TRIAL_LR
from lrtune.task.task import Task
from lrtune.training import Cohort

UPDATES = 4  # of each run
OTHER = 100  # times the rate of the run: it should move what runs share


@dataclass(frozen=True)
class Reruns:
    """The losses of the first updates of one run.

    Attributes:
        first: As it was made first.
        again: As it was made after another run, and while another model was made.
    """

    first: tuple[float, ...]
    again: tuple[float, ...]


def run_again(task: Task) -> Reruns:
    """Make a few updates of a run, of another one, and of the first one again."""
    run, other = (Run("a", rate) for rate in (TRIAL_LR, OTHER * TRIAL_LR))
    first, _ = (_losses(_begun(task, one)) for one in (run, other))
    cohort = _begun(task, run).advance(1)
    task.new_model()
    return Reruns(first, _losses(cohort))


def _begun(task: Task, run: Run) -> Cohort:
    return Cohort(task, [run], UPDATES, stage="check")


def _losses(cohort: Cohort) -> tuple[float, ...]:
    return tuple(cohort.advance().trace.frame["loss"].tolist())
