"""Read a loss curve: its outcome, its noise, where it diverged, its smoothed course.

Adding a constant to a curve, or multiplying it by a positive number, changes no answer here:
losses may be negative, and a sum serves as well as a mean.
"""

import enum
import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrtune.analysis.fitted import fitted

Floats = NDArray[np.float64]

WINDOW = 5  # by convention: a median of five ignores two spikes
FEW = 8  # by convention: fewer losses often seem calm by chance
END = 0.2  # by convention: a run ends at the mean of its last fifth
ROUNDINGS = 10  # by convention: sums in another order differ by less than so many steps of a float
LEAST_END = 3  # by convention: of three losses at least, as that of one batch is luck

LEARNED = fitted("divergence_learned")
LOST = fitted("divergence_lost")
PATIENCE = fitted("divergence_patience")
SPIKE = fitted("spike_share")


class Outcome(enum.Enum):
    """How a run ended, or that it can go on. Tables contain the name; the value explains it."""

    FINISHED = "The run finished all its steps."
    DIVERGED = "The loss rose above its start and stayed there."
    NONFINITE = "The loss became NaN or infinite."
    RETIRED = "The run was stopped early by choice."
    PAUSED = "The run was stopped before its last step, and can go on."


FAILED_OUTCOMES = (Outcome.DIVERGED.name, Outcome.NONFINITE.name)
"""The outcomes of runs whose last loss says nothing about their rate."""


def leading(usable: ArrayLike) -> int:
    """The number of entries before the first that is false.

    >>> leading([True, True, False, True])
    2
    """
    return int(np.argmin(np.append(usable, False)))


def robust_std(deviations: ArrayLike) -> float:
    """The standard deviation of normal deviations around zero, from their median size."""
    return 1.4826 * float(np.median(np.abs(deviations)))


@np.errstate(over="ignore")
def noise(losses: ArrayLike) -> float:
    """The standard deviation of the noise of the finite losses; 0 for fewer than two of them.

    >>> round(noise([0.0, 1.0, 0.0, 1.0, 0.0]), 3)
    1.048
    """
    losses = np.asarray(losses, float)
    # Successive differences hold twice the variance, and next to nothing of the trend.
    steps = np.diff(losses[np.isfinite(losses)])
    return robust_std(steps) / float(np.sqrt(2)) if len(steps) else 0.0


def least_trend(losses: ArrayLike, resolution: float = 0.0) -> float:
    """The least change of a loss that neither its noise nor the steps of its numbers explain.

    >>> round(least_trend([0.0, 1.0, 0.0, 1.0, 0.0]), 2)
    5.24
    """
    return max(LEARNED * noise(losses), ROUNDINGS * resolution)


@np.errstate(over="ignore", invalid="ignore")
def drifts(losses: ArrayLike, resolution: float = 0.0) -> bool:
    """Whether losses have a trend: their last third lies apart from the first one.

    >>> drifts(np.arange(9.0)), drifts([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    (True, False)
    """
    losses = np.asarray(losses, float)
    if not np.isfinite(losses).all():
        return False
    # Less the first loss, as the means of equal losses may differ by rounding.
    first, *_, last = np.array_split(losses - losses[:1], 3)
    change = abs(float(last.mean()) - float(first.mean()))
    return change > least_trend(losses, resolution)


@np.errstate(over="ignore")
def diverged_at(losses: ArrayLike, resolution: float = 0.0) -> int | None:
    """The first step at which the curve has diverged, or None; later losses do not change it.

    With m the median of the last `WINDOW` losses, s the first loss, b the least m so far and n
    the `noise` so far, at least the `resolution` of the losses, that is where

    - s - b > 5 n (it had learned) and m > s + 3 n: all that it had learned is lost; or
    - s - b <= 5 n (it never learned) and m > s + 20 n. Fewer than 8 losses often seem calm by
      chance: there n is at least what the upper quartile of their differences tells.

    Losses from the first that is not finite on are left out: that is an outcome of its own.

    >>> diverged_at([2.0, 1.0, 0.5, 0.4, 0.3, 0.3, 9.0, 9.0, 9.0, 9.0])
    8
    >>> diverged_at([2.0, 1.0, 0.5, 0.4, 0.3, 0.3, 9.0, 0.3, 0.3, 0.3]) is None
    True
    """
    losses = np.asarray(losses, float)
    losses = losses[: leading(np.isfinite(losses))]
    if len(losses) < WINDOW:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(losses, WINDOW)
    level = np.sort(windows, axis=1)[:, WINDOW // 2]
    gained = losses[0] - np.minimum.accumulate(level)
    noise_of_first = functools.cache(lambda count: noise(losses[:count]))
    for index in np.flatnonzero(level > losses[0]):
        seen = int(index) + WINDOW
        # The noise of the first 8, 16, 32 ... losses: that of every prefix would be too slow.
        unit = noise_of_first(seen if seen < FEW else 1 << (seen.bit_length() - 1))
        unit = max(unit, resolution)  # losses in coarse steps mostly repeat, and seem to be calm
        if gained[index] > LEARNED * unit:
            limit = LOST * unit
        else:
            limit = PATIENCE * (unit if seen >= FEW else max(unit, _upper(losses[:seen])))
        if level[index] > losses[0] + limit:
            return seen - 1
    return None


def _upper(losses: Floats) -> float:
    """The noise by the upper quartile of the differences, which is seldom small by chance.

    Three of four normal numbers are smaller than 1.15 standard deviations.
    """
    quartile = float(np.quantile(np.abs(np.diff(losses)), 0.75))
    return quartile / (1.15 * float(np.sqrt(2)))


@dataclass(frozen=True, eq=False)
class Smoothed:
    """A curve without its noise: its value and its slope at each x, and how far points scatter."""

    value: Floats
    slope: Floats
    noise: float


@np.errstate(over="ignore")
def smooth(x: ArrayLike, y: ArrayLike, width: float, control: ArrayLike | None = None) -> Smoothed:
    """Smooth a curve without lag: local straight lines, robust against spikes.

    At each point a line is fitted to the neighbours within `width` (at least seven), weighted by
    distance (tricube) and, in two further rounds, by how far they lie from the curve (bisquare). A
    `control` takes out noise that it shares with the curve, as a third term of the fit: the losses
    of the untrained model on the same batches tell which batches were hard.

    >>> smooth(range(7), [0, 2, 4, 66, 8, 10, 12], width=4).value.round(2).tolist()
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]

    Source: Cleveland 1979, Journal of the American Statistical Association 74 (LOWESS).
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 3:
        return Smoothed(y.copy(), np.zeros(len(x)), 0.0)
    distance = np.abs(x[:, None] - x[None, :])
    seventh = np.sort(distance, axis=1)[:, min(7, len(x)) - 1]
    reach = np.maximum(width, seventh * 1.001)[:, None]
    near = np.clip(1 - (distance / reach) ** 3, 0, None) ** 3
    middle, trust, shared = float(np.median(y)), np.ones(len(x)), None
    if control is not None:  # its level and scale do not matter, nor do those of y
        shared = np.asarray(control, float)
        shared = shared - shared.mean()
        shared = shared / (np.abs(shared).max() or 1.0)
    for _ in range(3):
        value, slope, residual = _local_lines(x, y - middle, near * trust, shared)
        # Bisquare weights reach to six median deviations (Cleveland 1979). A curve without noise is
        # bent, so that a line misses its points: hence the floor.
        spread = max(6 * float(np.median(np.abs(residual))), SPIKE * float(np.ptp(value)))
        if spread <= 0:
            break
        trust = np.clip(1 - (residual / spread) ** 2, 1e-6, None) ** 2
    return Smoothed(value + middle, slope, robust_std(residual))


def _local_lines(
    x: Floats, y: Floats, weights: Floats, shared: Floats | None
) -> tuple[Floats, Floats, Floats]:
    """Value, slope and residual of a weighted least-squares fit around each x."""
    terms = [np.ones_like(weights), x[None, :] - x[:, None]]
    nearby = np.zeros_like(x)
    if shared is not None:
        nearby = weights @ shared / weights.sum(axis=1)
        terms.append(shared[None, :] - nearby[:, None])
    design = np.stack(terms, axis=-1)  # point x neighbour x term
    gram = np.einsum("ij,ijp,ijq->ipq", weights, design, design)
    scale = np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(len(terms))
    right = np.einsum("ij,ijp,j->ip", weights, design, y)
    # The ridge keeps the fit solvable where the control is constant.
    fit = np.linalg.solve(gram + 1e-9 * scale, right[..., None])[..., 0]
    at_point = np.einsum("iip,ip->i", design, fit)
    value = fit[:, 0] - fit[:, -1] * nearby  # where batches are as hard as they are on average
    return value, fit[:, 1], y - at_point


@np.errstate(over="ignore", invalid="ignore")
def end_count(count: int, share: float = END) -> int:
    """How many losses are the end of a run: a share, at least three, but half of very few.

    >>> [end_count(count) for count in (1, 4, 10, 100)]
    [1, 2, 3, 20]
    """
    return max(1, min(LEAST_END, count // 2), round(share * count))


@np.errstate(over="ignore", invalid="ignore")
def end_level(losses: ArrayLike, share: float = END) -> float:
    """Mean of the last `share` of the losses, `end_count` of them; NaN without losses.

    >>> end_level([3.0, 2.0, 1.0, 1.0, 2.0], share=0.4)
    1.5
    """
    losses = np.asarray(losses, float)
    return float(losses[-end_count(len(losses), share) :].mean()) if len(losses) else np.nan


def end_level_stderr(losses: ArrayLike) -> float:
    """Standard error of `end_level`: the noise over the root of the number of losses in the mean.

    >>> round(end_level_stderr([0.0, 1.0] * 10), 3)
    0.524
    """
    return noise(losses) / float(np.sqrt(end_count(np.size(losses))))
