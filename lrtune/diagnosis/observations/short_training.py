"""A short training at the best of a few rates, which trials look at."""

from dataclasses import dataclass

from lrtune.results.runs import Run
from lrtune.schedules import constant
from lrtune.task.states import TrainState
from lrtune.task.task import Task
from lrtune.training import Cohort

RATES = (1e-1, 1e-2, 1e-3, 1e-4)
"""By convention: the rates that are tried, as a coarse search tries them."""

TRIED = 10  # by convention: updates after which the best rate goes on
UPDATES = 50  # by convention: of the run that goes on
JUDGED = 5  # the last losses, whose mean decides


@dataclass(frozen=True)
class ShortTraining:
    """A run with the best of a few constant rates.

    Attributes:
        lr: Its rate.
        losses: Of its updates.
        state: A copy of the trained state.
    """

    lr: float
    losses: tuple[float, ...]
    state: TrainState


def train_shortly(task: Task) -> ShortTraining | None:
    """Train at several rates, and go on with the best; None where no rate trains."""
    rates = (1.0, *RATES) if task.adapts_rate else RATES
    try:
        cohort = Cohort(task, [Run(f"{lr:g}", lr, constant()) for lr in rates], UPDATES)
        cohort.advance(TRIED)
        best = _best(cohort)
        if best is None or not cohort.retain([best.name]).advance().live:
            return None
        state = cohort.inspect(best.name)
    except Exception:  # noqa: BLE001 - the user's model may raise anything, after some updates, too
        return None
    frame = cohort.trace.frame
    return ShortTraining(best.lr, tuple(frame.loc[frame["run"] == best.name, "loss"]), state)


def _best(cohort: Cohort) -> Run | None:
    """The live run with the lowest losses of late; None where every run has ended."""
    frame = cohort.trace.frame
    recent = frame[frame["step"] >= TRIED - JUDGED].groupby("run")["loss"].mean()
    return min(cohort.live, key=lambda run: recent[run.name], default=None)
