"""A wider twin of a model: the same training, and how far below it ends."""

import math
from dataclasses import dataclass

import numpy as np

from lrtune.analysis.continued import Difference
from lrtune.analysis.curves import noise
from lrtune.analysis.paired import NORMAL
from lrtune.diagnosis.observations.stalls import Stall
from lrtune.results.runs import Run
from lrtune.task.task import Task
from lrtune.training import Cohort

FACTOR = 2
"""By convention: a twin is twice as wide; narrower ones may be too small as well."""

COST = 2.0
"""By convention: an update of a model that is twice as wide costs as much as two."""


@dataclass(frozen=True, eq=False)
class Twin:
    """The training of a wider model.

    Attributes:
        task: With the wider model.
        usual: The width of the model itself.
        run: Its rate, schedule and seed, which are those of the run.
        steps: The length that its schedule is spread over.
        until: How far it is trained.
    """

    task: Task
    usual: int
    run: Run
    steps: int
    until: int


@dataclass(frozen=True)
class Wider:
    """How far a wider model gets by the same training.

    Attributes:
        width: Its width.
        usual: That of the model itself.
        steps: How far it was trained.
        gain: By how much it ends below the run.
        cost: What was spent, in updates of the model itself.
    """

    width: int
    usual: int
    steps: int
    gain: Difference
    cost: float


def train_wider(stall: Stall, twin: Twin, level: float) -> Wider:
    """Train a wider model, and compare the last quarter of its losses.

    With the losses of the run at the same steps, where it was trained as far; else with its level.

    Args:
        stall: The run.
        twin: How the wider model is trained.
        level: The present loss of the run.
    """
    cohort = Cohort(twin.task, [twin.run], twin.steps, stage="a wider twin").advance(twin.until)
    losses = cohort.trace.frame["loss"].to_numpy()
    cost = COST * cohort.updates[twin.run.name]
    gain = Difference(-math.inf, 0.0)
    if cohort.live:
        last = max(1, len(losses) // 4)
        own = stall.losses[len(losses) - last : len(losses)]
        own = own if len(stall.losses) == len(losses) else np.full(last, level)
        apart = own - losses[-last:]
        gain = Difference(float(apart.mean()), NORMAL * noise(apart) / math.sqrt(last))
    return Wider(FACTOR * twin.usual, twin.usual, len(losses), gain, cost)
