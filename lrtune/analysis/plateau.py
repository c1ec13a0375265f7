"""The phases of a loss curve: how low it is early, and where it stops falling.

Multiplying a curve by a positive number changes no step and no verdict here; levels, noise and
slopes grow with it. Adding a constant shifts levels and nothing else.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, stats

from lrtune.analysis.curves import WINDOW, Floats, leading, noise, robust_std
from lrtune.analysis.fitted import fitted

SHARE = fitted("plateau_share")
TRIMMED_SHARE = fitted("plateau_trimmed_share")
NEGLIGIBLE = fitted("plateau_negligible")
SLOW = fitted("plateau_slow")

MIN_LOSSES = 10  # by definition: eight blocks need more losses than blocks
CELLS = 48  # by convention: edges lie on a grid of so many cells, 2 % of the run each
BLOCKS = 8  # by convention: trends are fitted to block means, as noise may be correlated
T99 = float(stats.t.ppf(0.995, BLOCKS - 2))  # by convention: 99 % to call a change real
T90 = float(stats.t.ppf(0.95, BLOCKS - 2))  # by convention: 90 % to report a slope

Steps = NDArray[np.intp]
Step = int | Steps


def early_level(losses: ArrayLike, share: float = 0.25, *, steps: int | None = None) -> float:
    """The mean loss over the first part of the horizon, spikes left out.

    It is the mean of the running median of five over the first ceil(share x steps) losses; inf, the
    worst there is, where the curve ends within the part or is not finite there. `steps` is the
    horizon, if the run may have ended before it.

    >>> early_level([2.0, 1.5, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0], share=0.5)
    1.25
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share!r}. Pass 0.25 for a quarter.")
    losses = np.asarray(losses, float)
    horizon = len(losses) if steps is None else steps
    length = max(1, int(np.ceil(round(share * horizon, 6))))  # 0.07 x 100 is 7.000000000000001
    part = losses[:length]
    if len(part) < length or not np.isfinite(part).all():
        return np.inf
    return float(ndimage.median_filter(part, WINDOW, mode="nearest").mean())


@dataclass(frozen=True)
class Plateau:
    """A stretch of steps on which the loss has stopped falling."""

    onset: int  # the first step; 0 if the loss never fell
    end: int  # the step after the last; the number of finite losses if the plateau lasts
    level: float  # the mean loss, spikes bounded
    noise: float  # standard deviation of single steps around the level
    slope: float  # change of the loss per step
    slope_interval: tuple[float, float]  # 90 %; noise may be correlated over a block
    released: bool | None  # whether all that follows is lower; None if too little follows


def plateau(losses: ArrayLike, rates: ArrayLike | None = None) -> Plateau | None:
    """The first plateau of a curve: where the loss stops falling.

    A plateau is a stretch of at least a fifth of the run where no change is seen that would be
    seen if the loss came down as before. By the means of its eight blocks,

    - its trend, its first block against the rest and its last one against the rest lie within
      their 99 % intervals around none, or within 0.5 % of the whole fall; and
    - its trend, with its 90 % interval, is below a third of the slope from the start to its middle.

    Cells at its edges that lie off its level are trimmed. A slow start, before the loss falls, is
    none; a loss without trend that never fell by more than twice its noise is one from step 0. With
    the rates of each step, the plateau ends where the rate has halved, if that released it. The
    answer is None as well where noise hides the plateau, and below ten finite losses.

    >>> step = np.arange(240)
    >>> curve = np.exp(-step / 8) + 0.02 * np.cos(step**2) + np.where(step < 120, 1, 0.5)
    >>> found = plateau(curve, rates=np.where(step < 120, 0.1, 0.01))
    >>> found.onset, found.end, round(found.level, 2), found.released
    (40, 120, 1.0, True)
    """
    losses = np.asarray(losses, float)
    if rates is not None and np.size(rates) != len(losses):
        raise ValueError(f"rates must be as many as losses: {len(losses)}, got {np.size(rates)}.")
    steps = leading(np.isfinite(losses))
    if steps < MIN_LOSSES:
        return None
    curve = _read(losses[:steps])
    span = (0, steps) if _never_fell(curve) else _first(curve)
    if span is None:
        return None
    onset, end = span
    if rates is not None:
        rates = np.asarray(rates, float)[:steps]
        end = _released(curve, onset, end, rates)
    released = _fell(curve, onset, end)
    if released and rates is not None:
        released = bool(rates[end:].mean() < 0.99 * rates[onset:end].mean())
    inside = curve.losses[onset:end]
    level, spread = float(inside.mean()), float(inside.std(ddof=1))
    _, slope, error = (curve.unit * part for part in _trend(curve.sums, onset, end))
    interval = float(slope - T90 * error), float(slope + T90 * error)
    return Plateau(onset, end, level, spread, float(slope), interval, released)


@dataclass(frozen=True, eq=False)
class _Curve:
    """A loss, and its change since the start in units of the largest, where nothing overflows."""

    losses: Floats  # spikes bounded
    change: Floats
    sums: Floats  # of the change, from 0
    start: float  # level of the first losses
    fall: float  # from there to the lowest eighth
    least: float  # the smallest change that counts
    unit: float


def _read(losses: Floats) -> _Curve:
    """Bound spikes of up to three steps to ten times the noise; then measure."""
    change = losses - losses[0]
    middle = ndimage.median_filter(change, 7, mode="nearest")
    most = 10 * 1.4826 * np.median(np.abs(change - middle))
    change = middle + np.clip(change - middle, -most, most)
    losses, unit = losses[0] + change, float(np.abs(change).max()) or 1.0
    change /= unit
    sums = np.concatenate([[0.0], np.cumsum(change)])
    start = float(np.median(change[:WINDOW]))
    fall = max(start - float(_blocks(sums, 0, len(change))[0].min()), 0.0)
    return _Curve(losses, change, sums, start, fall, NEGLIGIBLE * fall, unit)


def _blocks(sums: Floats, first: Step, last: Step, blocks: int = BLOCKS) -> tuple[Floats, Floats]:
    """Means and middles of the equal blocks of a stretch, or of many: stretch x block."""
    edges = np.rint(np.linspace(first, last, blocks + 1, axis=-1)).astype(np.intp)
    return np.diff(sums[edges]) / np.diff(edges), (edges[..., 1:] + edges[..., :-1]) / 2


def _trend(sums: Floats, first: Step, last: Step) -> tuple[Floats, Floats, Floats]:
    """Block means, the slope per step of a line through them, and its standard error."""
    means, at = _blocks(sums, first, last)
    at = at - at.mean(axis=-1, keepdims=True)
    off = means - means.mean(axis=-1, keepdims=True)
    spread = (at**2).sum(axis=-1)
    slope = (at * off).sum(axis=-1) / spread
    off = off - slope[..., None] * at
    return means, slope, np.sqrt((off**2).sum(axis=-1) / (BLOCKS - 2) / spread)


def _never_fell(curve: _Curve) -> bool:
    """Whether the run shows no trend, no fall by more than twice its noise, and no large move."""
    means, slope, error = _trend(curve.sums, 0, len(curve.change))
    within = [block.std() for block in np.array_split(curve.change, BLOCKS)]
    single = max(float(np.median(within)), noise(curve.change))  # blocks may be of one step
    still = abs(slope) <= T99 * error and np.ptp(means) <= 4 * single
    return bool(still and curve.fall <= 2 * single)


def _first(curve: _Curve) -> tuple[int, int] | None:
    """The first of the longest stretches in which the loss stands."""
    steps = len(curve.change)
    grid = np.rint(np.linspace(0, steps, min(CELLS, steps) + 1)).astype(np.intp)
    one, two = np.triu_indices(len(grid), 1)
    long = grid[two] - grid[one] >= max(SHARE * steps, BLOCKS)
    first, last = grid[one[long]], grid[two[long]]
    stands = _stands(curve, first, last)
    found = []
    while stands.any():
        longest = int(np.where(stands, last - first, 0).argmax())
        span = _trimmed(curve, grid, int(first[longest]), int(last[longest]))
        if span[1] - span[0] >= max(TRIMMED_SHARE * steps, BLOCKS):
            found.append(span)
        stands[longest] = False
        stands &= (last <= span[0]) | (first >= span[1])
    return min(found, default=None)


def _stands(curve: _Curve, first: Steps, last: Steps) -> NDArray[np.bool_]:
    """Which stretches show no change, though they would if the loss came down as before."""
    length = last - first
    means, slope, error = _trend(curve.sums, first, last)
    shift, error = np.abs(slope) * length, error * length
    flat = shift <= np.maximum(curve.least, T99 * error)
    for edge in (0, -1):
        rest = np.delete(means, edge, axis=1)
        off = np.abs(means[:, edge] - rest.mean(axis=1))
        spread = rest.std(axis=1, ddof=1) * np.sqrt(1 + 1 / (BLOCKS - 1))
        flat &= off <= np.maximum(curve.least, T99 * spread)
    # Among so many stretches some look calmer than they are: no error is below the run's own.
    own = max(_wobble(curve, CELLS), _wobble(curve, CELLS // 4))
    error = np.maximum(error, own * np.sqrt(len(curve.change) / length))
    level = (curve.sums[last] - curve.sums[first]) / length
    # The start is a median of five, off by 0.56 times their noise: that is no fall.
    speed = (curve.start - 0.56 * noise(curve.change) - level) / ((first + last) / 2)
    slow = shift + T90 * error <= SLOW * speed * length
    return np.asarray(flat & slow & (speed > 0))


def _wobble(curve: _Curve, blocks: int) -> float:
    """Standard error of a trend over the whole run, from the noise of its block means."""
    steps = len(curve.change)
    means, _ = _blocks(curve.sums, 0, steps, min(blocks, steps))
    bends = np.diff(means, 2)  # second differences: a trend is no noise
    return robust_std(bends) / float(np.sqrt(6)) * float(np.sqrt(12 / len(means)))


def _trimmed(curve: _Curve, grid: Steps, first: int, last: int) -> tuple[int, int]:
    """A stretch without the cells at its edges that were just not too many to be noticed."""
    cells = np.diff(curve.sums[grid]) / np.diff(grid)
    low, high = (int(index) for index in np.searchsorted(grid, [first, last]))
    while high - low > 2:
        off = cells[low:high] - np.median(cells[low:high])
        far = max(curve.least, 2 * robust_std(off))
        if off[0] > far:
            low += 1
        elif abs(off[-1]) > far:
            high -= 1
        else:
            break
    return int(grid[low]), int(grid[high])


def _released(curve: _Curve, onset: int, end: int, rates: Floats) -> int:
    """Where within a plateau its rate has halved, if the loss fell from there on; else its end."""
    inside = rates[onset:end]
    low = onset + np.flatnonzero(inside <= np.maximum.accumulate(inside) / 2)
    late = len(low) and low[0] - onset >= max(TRIMMED_SHARE * len(rates), BLOCKS)
    return int(low[0]) if late and _fell(curve, onset, int(low[0])) else end


def _fell(curve: _Curve, onset: int, end: int) -> bool | None:
    """Whether all that follows a stretch lies below it, by the rank test of Mann and Whitney."""
    steps = len(curve.change)
    begin = end + steps // CELLS  # the end is known to within a cell
    if steps - begin < max(0.05 * steps, BLOCKS // 2):
        return None
    (before, _), (after, _) = _blocks(curve.sums, onset, end), _blocks(curve.sums, begin, steps, 4)
    inverted = (
        after[:, None] >= before
    ).sum()  # of 8 x 4 pairs; two or fewer by chance once in 120
    return bool(inverted <= 2 and before.mean() - after.mean() > curve.least)
