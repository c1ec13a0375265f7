"""How long an update and a validation take."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from lrtune.results.runs import Run
from lrtune.schedules import constant
from lrtune.task.checks import TRIAL_LR
from lrtune.task.task import Task
from lrtune.training import Cohort

TIMED = 5  # updates whose time is taken, after two that are not
SAMPLES = 512  # validation samples whose time is taken


@dataclass(frozen=True)
class Speed:
    """Seconds, on the task's device.

    Attributes:
        update: Of one update of one run.
        validation: Of one validation of one run on all validation data; NaN without them.
    """

    update: float
    validation: float


def measure_speed(task: Task) -> Speed:
    """Train some updates, and take the time of an update and of a validation."""
    cohort = Cohort(task, [Run("speed", TRIAL_LR, constant())], 2 + TIMED).advance(2)
    update = _seconds(task, cohort.advance) / TIMED
    if not task.has_validation:
        return Speed(update, math.nan)
    samples = sum(task.val_counts.values())
    asked = min(SAMPLES, task.val_counts["selection"])
    cohort = Cohort(task, [Run("speed", TRIAL_LR, constant())], 1)
    some = _seconds(task, lambda: cohort.validate(asked))
    return Speed(update, some * samples / max(1, asked))


def _seconds(task: Task, act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    if task.device.type == "cuda":
        torch.cuda.synchronize(task.device)
    return time.perf_counter() - begin
