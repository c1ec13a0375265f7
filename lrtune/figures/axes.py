"""Ranges of axes, and the points of a line that are worth drawing.

A value without a place on an axis (NaN, infinite, or far above the others) is never dropped: the
figures mark it at their upper edge.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

MAX_POINTS = 300  # per line; on a screen more of them cannot be told apart
MAX_LOSS = 1e300  # larger losses are drawn here, as differences between them would overflow


@dataclass(frozen=True)
class AxisRange:
    """The part of an axis that a figure shows first; values beyond it stay in the figure's data."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """The value at a share of the height, from 0 (bottom) to 1 (top)."""
        return self.low + share * (self.high - self.low)


def axis_range(values: ArrayLike, *, below: float = 0.06, above: float = 0.1) -> AxisRange:
    """A range that contains all finite values, with space as a share of their span around them.

    >>> axis_range([1.0, float("nan"), 2.0], below=0.0, above=0.5)
    AxisRange(low=1.0, high=2.5)
    """
    finite = finite_values(values)
    if not len(finite):
        return AxisRange(0.0, 1.0)
    low, high = float(finite.min()), float(finite.max())
    span, size = high - low, max(abs(low), abs(high))
    if span <= 1e-9 * size:  # equal values still need an axis with a height
        span = max(size, 1e-300) if size else 1.0
    return AxisRange(low - below * span, high + above * span)


def finite_values(values: ArrayLike) -> NDArray[np.float64]:
    """The finite values, as a flat array, each at most `MAX_LOSS`."""
    flat: NDArray[np.float64] = np.asarray(values, float).ravel()
    return flat[np.isfinite(flat)].clip(-MAX_LOSS, MAX_LOSS)


def clipped_losses(losses: pd.Series) -> pd.Series:
    """The losses, each at most `MAX_LOSS`, with NaN instead of infinities."""
    return losses.where(np.isfinite(losses)).clip(-MAX_LOSS, MAX_LOSS)


def rows_on_log_axis(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose rate `lr` is finite and positive."""
    return frame[np.isfinite(frame["lr"]) & (frame["lr"] > 0)]


def drawn_indices(values: ArrayLike, most: int = MAX_POINTS) -> NDArray[np.int64]:
    """The points of a line to draw: both ends, and the extremes of equal parts.

    So a long line keeps every spike, and a gap (NaN) stays visible.

    >>> drawn_indices([0, 0, 9, 0, 0, 0, -9, 0], most=4).tolist()
    [0, 2, 4, 6, 7]
    """
    line = np.asarray(values, float)
    if len(line) <= most:
        return np.arange(len(line), dtype=np.int64)
    kept = {0, len(line) - 1}
    # Two points of each part, its extremes: every second point would drop half of the spikes.
    for part in np.array_split(np.arange(len(line)), max(1, most // 2)):
        lows = np.where(np.isnan(line[part]), np.inf, line[part])
        highs = np.where(np.isnan(line[part]), -np.inf, line[part])
        kept |= {int(part[lows.argmin()]), int(part[highs.argmax()])}
        kept |= set(part[np.isnan(line[part])][:1].tolist())  # one NaN is enough for a gap
    return np.array(sorted(kept), dtype=np.int64)


def running_mean(values: pd.Series) -> pd.Series:
    """A centred mean over a twentieth of the line; lines below 40 points stay as they are."""
    width = 2 * (len(values) // 40) + 1
    return values.rolling(width, center=True, min_periods=1).mean()
