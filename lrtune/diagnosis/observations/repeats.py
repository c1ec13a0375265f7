"""Whether a run is the same when it is made again, alone or beside another one."""

from dataclasses import dataclass

from lrtune.results.runs import Run
from lrtune.task.checks import TRIAL_LR
from lrtune.task.task import Task
from lrtune.training import Cohort

UPDATES = 4  # of each run
NEIGHBOUR = 100  # times the rate of the run: it should move what they share


@dataclass(frozen=True)
class Repeats:
    """The losses of the first updates of one run.

    Attributes:
        alone: As it was made first.
        again: As it was made once more.
        beside: As it was made beside another run of the same seed.
    """

    alone: tuple[float, ...]
    again: tuple[float, ...]
    beside: tuple[float, ...]


def repeated(task: Task) -> Repeats:
    """Make a few updates of the same run, three times."""
    run, other = Run("a", TRIAL_LR), Run("b", NEIGHBOUR * TRIAL_LR)
    return Repeats(_losses(task, [run]), _losses(task, [run]), _losses(task, [run, other]))


def _losses(task: Task, runs: list[Run]) -> tuple[float, ...]:
    frame = Cohort(task, runs, UPDATES).advance().trace.frame
    return tuple(frame.loc[frame["run"] == "a", "loss"].tolist())
