"""A run at the step from which it is continued: trained up to there, or the user's checkpoint."""

import math
from dataclasses import dataclass

import numpy as np
from torch import nn

from lrtune.analysis.curves import Floats, end_level, end_level_stderr
from lrtune.results.runs import Run, validation_losses
from lrtune.schedules import Schedule
from lrtune.task.states import TrainState
from lrtune.training import Cohort

SURE = 3.0
"""By convention: standard errors that a loss lies below another one, to be called lower."""


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
    """

    state: TrainState | None
    lr: float
    peak: float
    step: int
    losses: Floats
    rates: Floats
    validations: tuple[tuple[int, float], ...]
    failed: bool

    def below(self, loss: float) -> bool:
        """Whether the losses of late lie below this one, by more than their noise."""
        if self.failed or not len(self.losses):
            return False
        return bool(end_level(self.losses) + SURE * end_level_stderr(self.losses) < loss)

    def above(self, loss: float) -> bool:
        """Whether they lie above it, by more than their noise."""
        if self.failed or not len(self.losses):
            return self.failed
        return bool(end_level(self.losses) - SURE * end_level_stderr(self.losses) > loss)


def moved(before: nn.Module, after: nn.Module) -> float:
    """How far trained weights have moved, as a share of their norm before."""
    pairs = [
        (one.detach(), other.detach())
        for one, other in zip(before.parameters(), after.parameters(), strict=True)
        if one.requires_grad
    ]
    apart = math.fsum(float((other - one).square().sum()) for one, other in pairs)
    norm = math.fsum(float(one.square().sum()) for one, _ in pairs)
    return math.sqrt(apart / norm) if norm else math.inf


def stall_of(cohort: Cohort, run: Run) -> Stall:
    """The present step of a run.

    Args:
        cohort: Its horizon is the length of the training that the schedule is spread over.
        run: It was not retired but for a loss that is not finite.
    """
    frame, failed = cohort.trace.frame, run not in cohort.live
    own = frame[frame["run"] == run.name]
    vals = validation_losses(cohort.trace.validations, by=("run", "step"))
    rates, reached = own["lr"].to_numpy(), len(own)
    return Stall(
        state=None if failed else cohort.inspect(run.name),
        lr=_rate_after(run, cohort.steps, reached, rates),
        peak=run.lr,
        step=reached,
        losses=np.asarray(own["loss"], float),
        rates=rates,
        validations=tuple(
            (int(step), float(vals[name, step])) for name, step in vals.index if name == run.name
        ),
        failed=failed,
    )


def _rate_after(run: Run, steps: int, step: int, rates: Floats) -> float:
    """The rate of the update after the last one; that of the last one where it is not known."""
    if isinstance(run.schedule, Schedule) and step < steps:
        return run.lr * run.schedule(step / steps)
    return float(rates[-1])
