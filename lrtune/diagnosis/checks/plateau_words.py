"""What the checks of a run that stands share: when it stands, differences in words, charts.

Differences count that lie outside their 90 % interval over the orders of the batches, and that are
a share of the fall from the start to the lowest level seen.
"""

import itertools
import math

import numpy as np

from lrtune.analysis.continued import Difference
from lrtune.diagnosis.observations.continuations import (
    AGAIN,
    AVERAGED,
    HIGHER,
    LOWER,
    REST,
    Continuation,
)
from lrtune.diagnosis.observations.plateau import Plateau
from lrtune.results.diagnosis import Chart

GAIN = 0.015
"""By convention: the share of the fall that a continuation has to gain. On noisy digits, where the
floor is real, each gains 2.6 % and more; where a run has learned all, less than 0.2 %."""

LARGE = 0.05
"""By convention: the share of the fall that tells a rate that is too high (8 % and more at six
times the best rate) or too low (8 % and more at a tenth of it)."""

BESIDE = 0.1
"""By convention: or of what the loss still lies above its floor, if that is known, and if the run
has not come down to it."""

SHARE = 0.5
"""By convention: a run stands that falls, in a quarter of its length, by less than this share of
what a continuation gains at once. At the best constant rates of ten tasks that share was 0.56 and
more where a lower rate gained anything, at rates six times as high 0.41 and less."""

POINTS = 16
"""Of a line in a chart."""


def worthwhile(seen: Plateau) -> float:
    """The least that a continuation has to gain to be worth a word."""
    least, floor = GAIN * seen.scale, seen.task.loss_kind.floor
    if floor is None or seen.solved:
        return least
    return min(least, BESIDE * (seen.level - floor))


def stands(seen: Plateau, gain: float) -> bool:
    """Whether a run falls by little, beside what a continuation gains at once."""
    fell, falls = seen.fell, seen.falls
    if fell.mean >= SHARE * gain or fell.mean + fell.reach >= gain:  # False, where they are NaN
        return False
    return not (falls.mean >= SHARE * gain and falls.mean > falls.reach)


def place(seen: Plateau) -> str:
    """The step from which a run is continued."""
    return f"step {seen.stall.step:,}" if seen.stall.step else "the checkpoint"


def where(seen: Plateau) -> str:
    """Where a run stands, and how it was continued: the beginning of a sentence."""
    return (
        f"From {place(seen)} on, where the training loss is {seen.level:.4g} ({seen.steps} "
        f"batches, in {len(seen.seeds)} orders),"
    )


def text_of(value: Difference) -> str:
    """A difference and its 90 % interval.

    >>> text_of(Difference(0.1234, 0.02))
    '0.12 (90 % interval 0.1 to 0.14)'
    """
    low, high = value.mean - value.reach, value.mean + value.reach
    return f"{value.mean:.2g} (90 % interval {low:.2g} to {high:.2g})"


def lower_rate(lr: float) -> str:
    """What to do against a rate that is too high."""
    return f"Train at {lr / 10:.2g} to {lr / 3:.2g}, or let lrtune.search find the rate."


def continuations_chart(seen: Plateau, *more: Continuation) -> Chart:
    """The continuations: means over the orders, without what makes single batches hard."""
    edges = np.unique(np.linspace(0, seen.steps, POINTS + 1).astype(int))
    lines = {}
    for way in (AGAIN, LOWER, HIGHER, AVERAGED, *more):
        net = np.minimum(seen.losses(way), seen.highest) - seen.losses(REST) + seen.level
        course = net.mean(axis=0)
        points = [
            ((a + b) / 2, float(course[a:b].mean())) for a, b in itertools.pairwise(edges.tolist())
        ]
        lines[way.name] = tuple((x, y) for x, y in points if math.isfinite(y))
    return Chart("updates from there on", "training loss", lines)


def validation_chart(seen: Plateau) -> Chart:
    """Validation and training losses of a run."""
    vals = tuple((float(step), loss) for step, loss in seen.stall.validations)
    train = tuple((step, seen.trained_at(step)) for step, _ in vals)
    return Chart("updates", "loss", {"validation": vals, "training": train})
