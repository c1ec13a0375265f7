"""The numbers that a verdict on a loss curve rests on.

Adding a constant to a curve shifts its start and its end, and nothing else; a positive factor
scales every number but steps and `pace`.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lrtune.analysis.curves import (
    SPIKE,
    WINDOW,
    Floats,
    diverged_at,
    end_count,
    leading,
    noise,
    robust_std,
)
from lrtune.analysis.plateau import plateau

EIGHTHS = 8  # by convention: levels of a curve are means of its eighths
BEGIN = 0.1  # by convention: how far a curve rises at once is read from its first tenth
STANDS_OUT = 6  # by convention: a spike stands out by so many standard deviations


@dataclass(frozen=True, eq=False)
class Curve:
    """The losses of one run.

    Attributes:
        steps: Where they were measured; they increase.
        losses: May end with NaN or infinity.
        lr: The peak rate; NaN where it is not known.
        decays: Whether the rate at the end is less than a tenth of the peak.
    """

    steps: Floats
    losses: Floats
    lr: float = math.nan
    decays: bool = False

    def until(self, step: float) -> "Curve":
        """The part up to a step, which is included."""
        count = int(np.searchsorted(self.steps, step, side="right"))
        return Curve(self.steps[:count], self.losses[:count], self.lr, self.decays)


@dataclass(frozen=True)
class Reading:
    """What is read from one curve.

    Attributes:
        start: The first loss.
        end: The mean of the last fifth of the losses, spikes left out.
        error: The standard error of `end`.
        fall: From the start to the lowest eighth.
        slope: Change of the loss per step, over the second half.
        pace: That slope, as a multiple of the mean slope since the start: 1 is a straight line. NaN
            where the curve does not end below its start.
        noise: Standard deviation of single losses around the curve, at the end.
        spikes: How many losses stand out of the curve, upwards.
        stalls: The step from which the loss stands, up to the end; NaN where it does not.
        rise: How far a loss of the first tenth lies above the start.
        back: How far the end lies above the lowest eighth.
        failed: The step at which it diverged or became non-finite; NaN where it did not.
    """

    start: float
    end: float
    error: float
    fall: float
    slope: float
    pace: float
    noise: float
    spikes: int
    stalls: float
    rise: float
    back: float
    failed: float


def read_curve(curve: Curve) -> Reading:
    """Read a curve of at least one finite loss, which comes first.

    >>> line = read_curve(Curve(np.arange(100.0), 2 - 0.01 * np.arange(100)))
    >>> round(line.start, 2), round(line.end, 2), round(line.slope, 3), round(line.pace, 1)
    (2.0, 1.1, -0.01, 1.1)
    """
    failed = failed_at(curve)
    usable = leading(np.isfinite(curve.losses))
    losses, steps = curve.losses[:usable], curve.steps[:usable]
    calm = _calm(losses)
    eighths = [float(part.mean()) for part in np.array_split(calm, min(EIGHTHS, usable))]
    last, start = end_count(usable), float(losses[0])
    single, end = noise(losses[-2 * last :]), float(calm[-last:].mean())
    slope, mean = _slope(steps, calm), _ratio(eighths[-1] - start, float(steps[-1] - steps[0]))
    return Reading(
        start=start,
        end=end,
        error=single / math.sqrt(last),
        fall=max(start - min(eighths), 0.0),
        slope=slope,
        pace=slope / mean if mean < 0 else math.nan,
        noise=single,
        spikes=_spikes(losses, calm),
        stalls=_stalls(steps, losses),
        rise=float(losses[: max(WINDOW, round(BEGIN * usable))].max()) - start,
        back=end - min(eighths),
        failed=failed,
    )


def failed_at(curve: Curve) -> float:
    """The step at which a curve diverged or became non-finite; NaN where it did not."""
    usable, diverged = leading(np.isfinite(curve.losses)), diverged_at(curve.losses)
    if diverged is not None:
        return float(curve.steps[diverged])
    return math.nan if usable == len(curve.losses) else float(curve.steps[usable])


def ends_apart(one: Curve, other: Curve) -> tuple[float, float]:
    """How far a curve ends above another, and the standard error of that.

    Where they were measured at the same steps, they may have seen the same batches, and then their
    noise cancels.
    """
    shared, mine, theirs = np.intersect1d(one.steps, other.steps, return_indices=True)
    if 2 * len(shared) < max(len(one.steps), len(other.steps)):
        first, second = read_curve(one), read_curve(other)
        return first.end - second.end, math.hypot(first.error, second.error)
    apart = ndimage.median_filter(one.losses[mine] - other.losses[theirs], 3, mode="nearest")
    last = end_count(len(apart))
    return float(apart[-last:].mean()), noise(apart[-2 * last :]) / math.sqrt(last)


def early_moves(curves: dict[str, Curve]) -> dict[str, float]:
    """How far each curve moves from its start in its first tenth, up or down.

    What the stillest curve does at the same steps is noise that all may share, and is taken off.
    """
    early = {}
    for name, curve in curves.items():
        count = max(WINDOW, round(BEGIN * len(curve.losses)))
        early[name] = curve.steps[:count], curve.losses[:count] - curve.losses[0]
    still = min(early, key=lambda name: float(np.abs(early[name][1]).mean()))
    moves = {}
    for name, (steps, change) in early.items():
        _, mine, theirs = np.intersect1d(steps, early[still][0], return_indices=True)
        net = change[mine] - early[still][1][theirs] if len(mine) > 1 else change
        moves[name] = float(np.abs(ndimage.median_filter(net, 3, mode="nearest")).max())
    return moves


def _calm(losses: Floats) -> Floats:
    """The running median of five, which ignores two spikes; of three where losses are few."""
    size = WINDOW if len(losses) >= 4 * WINDOW else 3
    calm: Floats = ndimage.median_filter(losses, size, mode="nearest")
    return calm


def _slope(steps: Floats, calm: Floats) -> float:
    """Change per step from the third quarter to the last one."""
    half = len(calm) // 2
    middle = half + (len(calm) - half) // 2
    change = float(calm[middle:].mean() - calm[half:middle].mean())
    return _ratio(change, float(steps[middle:].mean() - steps[half:middle].mean()))


def _ratio(change: float, span: float) -> float:
    return change / span if span > 0 else 0.0


def _spikes(losses: Floats, calm: Floats) -> int:
    above = losses - calm
    least = max(STANDS_OUT * robust_std(above), SPIKE * float(np.ptp(calm)))
    return int((above > least).sum()) if least > 0 else 0


def _stalls(steps: Floats, losses: Floats) -> float:
    """The step from which the loss stands, up to the end; NaN where it does not."""
    found = plateau(losses)
    if found is None or found.end < len(losses) - max(1, len(losses) // 48):  # known to a cell
        return math.nan
    return float(steps[found.onset])
