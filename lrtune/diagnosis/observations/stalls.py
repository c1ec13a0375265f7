"""A run at the step from which it is continued: trained up to there, or the user's checkpoint."""

from dataclasses import dataclass

from lrtune.analysis.curves import Floats
from lrtune.diagnosis.observations.continuations import FORWARD, nonfinite
from lrtune.results.runs import Run, validation_losses
from lrtune.schedules import Schedule
from lrtune.task.states import TrainState
from lrtune.task.task import Task
from lrtune.training import Cohort

LOOKS = 12  # by convention: so often a run is validated


@dataclass(frozen=True, eq=False)
class Stall:
    """A run at the step from which it is continued.

    Attributes:
        state: Its model, loss and optimizer; None where it has failed.
        lr: The rate of its next update.
        peak: Its peak rate; that of the next update where it is not known.
        step: The updates so far; 0 where they are not known, as of a checkpoint.
        losses: The training losses so far; empty where they are not known.
        rates: Their rates.
        validations: Steps, and the mean validation losses there.
        failed: Whether its loss became non-finite.
        cost: What was spent, in updates.
    """

    state: TrainState | None
    lr: float
    peak: float
    step: int
    losses: Floats
    rates: Floats
    validations: tuple[tuple[int, float], ...]
    failed: bool
    cost: float


def train_until(task: Task, run: Run, steps: int, until: int, samples: int) -> Stall:
    """Train a run up to a step.

    Args:
        task: What is trained.
        run: Peak rate, schedule, seed.
        steps: The length of the training that the schedule is spread over.
        until: Up to this step, or where it fails.
        samples: On how many validation samples it is measured on the way; 0 for none.
    """
    cohort = Cohort(task, [run], steps, retire=nonfinite, stage="to the plateau")
    for look in sorted({max(1, round(until * part / LOOKS)) for part in range(1, LOOKS + 1)}):
        cohort.advance(look)
        if samples and cohort.live:
            cohort.validate(samples)
    frame, failed = cohort.trace.frame, not cohort.live
    vals = validation_losses(cohort.trace.validations, by=("run", "step"))
    rates, reached = frame["lr"].to_numpy(), len(frame)
    measured = FORWARD * cohort.val_samples[run.name] / task.batch_examples
    return Stall(
        state=None if failed else cohort.inspect(run.name),
        lr=_rate_after(run, steps, reached, rates),
        peak=run.lr,
        step=reached,
        losses=frame["loss"].to_numpy(),
        rates=rates,
        validations=tuple((int(step), float(vals[name, step])) for name, step in vals.index),
        failed=failed,
        cost=cohort.updates[run.name] + measured,
    )


def _rate_after(run: Run, steps: int, step: int, rates: Floats) -> float:
    """The rate of the update after the last one; that of the last one where it is not known."""
    if isinstance(run.schedule, Schedule) and step < steps:
        return run.lr * run.schedule(step / steps)
    return float(rates[-1])
