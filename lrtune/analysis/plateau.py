"""The phases of a loss curve: how fast it falls early, and where it stops falling.

Multiplying a curve by a positive number changes no step and no verdict here; levels, noise and
slopes grow with it. Adding a constant shifts the level of a plateau and nothing else; only
`early_decrease`, a share of the starting loss, depends on where zero is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, stats

from lrtune.analysis.curves import WINDOW, Floats, noise
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

LARGEST = float(np.finfo(float).max)
Steps = NDArray[np.intp]
Step = int | Steps


def early_decrease(losses: ArrayLike, share: float = 0.25, *, steps: int | None = None) -> float:
    """How far the loss lies below its start over the first part of the horizon, as a share of it.

    With s = losses[0] and m the running median of five over the first ceil(share x steps) losses:

        (s - mean(m)) / |s|,

    the area between start and smoothed loss, by the length of the part and the size of the start.
    It is negative if the loss rose. A factor > 0 changes nothing; adding b multiplies it by
    |s| / |s + b|, which changes no order among runs of one start. Runs of one seed share that
    start to the bit, so its noise cancels between them.

    Args:
        losses: One per step, the first of them before any update.
        share: The part of the horizon to look at, in (0, 1].
        steps: The horizon, if the run may have ended before it; else the number of losses.

    Returns:
        -inf, the worst there is, if the curve ends within the part or is not finite there. A
        start of 0 has no shares: then it is the area itself, in units of the loss.

    Raises:
        ValueError: The share lies outside (0, 1].

    >>> early_decrease([2.0, 1.5, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0], share=0.5)
    0.375
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share!r}. Pass 0.25 for a quarter.")
    losses = np.asarray(losses, float)
    horizon = len(losses) if steps is None else steps
    length = max(1, int(np.ceil(round(share * horizon, 6))))  # 0.07 x 100 is 7.000000000000001
    part = losses[:length]
    if len(part) < length or not np.isfinite(part).all():
        return -np.inf
    start = float(part[0])
    below = start - float(ndimage.median_filter(part, WINDOW, mode="nearest").mean())
    # Bounded: next to a start of 1e-308 no finite curve shall look like one that failed.
    return float(np.clip(below / abs(start), -LARGEST, LARGEST)) if start else below


@dataclass(frozen=True)
class Plateau:
    """A stretch of steps on which the loss has stopped falling.

    Attributes:
        onset: First step, to within a cell (1/48 of the run); 0 if the loss never fell.
        end: The step after the last, to within a cell; the number of finite losses if it lasts.
        level: Mean loss there, spikes bounded.
        noise: Standard deviation of single steps around the level.
        slope: Change of the loss per step.
        slope_interval: Its 90 % interval; noise may be correlated over an eighth of the plateau.
        released: Whether all that comes after it lies lower on average: by a rank test at 1 %, by
            more than 0.5 % of the whole fall, and, if the rates are known, at a lower rate. None
            if that, less the next cell, is below a twentieth of the run or four steps.
        because: The same in a sentence.
    """

    onset: int
    end: int
    level: float
    noise: float
    slope: float
    slope_interval: tuple[float, float]
    released: bool | None
    because: str


def plateau(losses: ArrayLike, rates: ArrayLike | None = None) -> Plateau | None:
    """The first plateau of a curve: where the loss stops falling.

    A plateau is a stretch of at least a fifth of the run where no change is seen that would be
    seen if the loss came down as before. By the means of its eight blocks,

    - its trend, its first block against the rest and its last one against the rest lie within
      their 99 % intervals around none, or within 0.5 % of the whole fall; and
    - its trend, with its 90 % interval, is below a third of the slope from the start to its middle.

    Cells at its edges that lie off its level are trimmed. A slow start, before the loss falls, is
    none; a loss without trend that never fell by more than twice its noise is one from step 0. A
    power law stands from where the rest of its fall drowns in noise, or in those 0.5 %.

    Args:
        losses: One per step, the first of them before any update. From the first loss that is
            not finite on, they are left out.
        rates: Of each step. The plateau then ends where the rate has halved, if that released it.

    Returns:
        None if there is no plateau, if noise hides whether there is, and below ten finite losses.

    Raises:
        ValueError: There are not as many rates as losses.

    >>> step = np.arange(240)
    >>> curve = np.exp(-step / 8) + 0.02 * np.cos(step**2) + np.where(step < 120, 1, 0.5)
    >>> found = plateau(curve, rates=np.where(step < 120, 0.1, 0.01))
    >>> found.onset, found.end, round(found.level, 2), found.released
    (40, 120, 1.0, True)
    """
    losses = np.asarray(losses, float)
    rates = None if rates is None else np.asarray(rates, float)
    if rates is not None and len(rates) != len(losses):
        raise ValueError(f"rates must be as many as losses: {len(losses)}, got {len(rates)}.")
    steps = int(np.argmin(np.append(np.isfinite(losses), False)))
    if steps < MIN_LOSSES:
        return None
    curve = _read(losses[:steps])
    span = (0, steps) if _never_fell(curve) else _first(curve)
    return (
        None if span is None else _describe(curve, *span, None if rates is None else rates[:steps])
    )


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
    bends = np.abs(np.diff(means, 2))  # second differences: a trend is no noise
    return float(1.4826 * np.median(bends) / np.sqrt(6) * np.sqrt(12 / len(means)))


def _trimmed(curve: _Curve, grid: Steps, first: int, last: int) -> tuple[int, int]:
    """A stretch without the cells at its edges that were just not too many to be noticed."""
    cells = np.diff(curve.sums[grid]) / np.diff(grid)
    low, high = (int(index) for index in np.searchsorted(grid, [first, last]))
    while high - low > 2:
        off = cells[low:high] - np.median(cells[low:high])
        far = max(curve.least, 2 * 1.4826 * float(np.median(np.abs(off))))
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
    """Whether all that comes after a stretch lies below it: the rank test of Mann and Whitney."""
    steps = len(curve.change)
    begin = end + steps // CELLS  # the end is known to within a cell
    if steps - begin < max(0.05 * steps, BLOCKS // 2):
        return None
    (before, _), (after, _) = _blocks(curve.sums, onset, end), _blocks(curve.sums, begin, steps, 4)
    inverted = (after[:, None] >= before).sum()  # of 8 x 4 pairs; at most two once in 120 times
    return bool(inverted <= 2 and before.mean() - after.mean() > curve.least)


def _describe(curve: _Curve, onset: int, end: int, rates: Floats | None) -> Plateau:
    """The numbers of a plateau, in units of the loss, and what they say."""
    end = end if rates is None else _released(curve, onset, end, rates)
    inside, after = curve.losses[onset:end], curve.losses[end:]
    _, slope, error = (curve.unit * part for part in _trend(curve.sums, onset, end))
    low, high = (float(slope + sign * T90 * error) for sign in (-1, 1))
    level, spread = float(inside.mean()), float(inside.std(ddof=1))
    because = f"from step {onset} to {end} the loss stays near {level:.3g}, with a noise of "
    because += f"{spread:.2g} and a trend of {slope:.1g} ({low:.1g} to {high:.1g}) a step"
    released = _fell(curve, onset, end)
    if released is not None:
        because += f"; after that it is {after.mean():.3g} on average"
    if released and rates is not None:
        released = bool(rates[end:].mean() < 0.99 * rates[onset:end].mean())
        because += f", at {'a lower' if released else 'no lower'} rate"
    return Plateau(onset, end, level, spread, float(slope), (low, high), released, because)
