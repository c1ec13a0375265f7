"""What every figure needs to know about numbers: what to show of an axis, and of a long line.

Nothing is dropped for being ugly: what has no place on an axis (a NaN, an infinity, a value far
above the rest) is drawn as a mark at the edge of the picture.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

MOST = 300
"""Points per line: more cannot be seen apart."""

HUGE = 1e300
"""Losses beyond it are drawn as if they were it: their differences would overflow."""


@dataclass(frozen=True)
class View:
    """The part of an axis that is shown; what lies beyond it stays in the data.

    Attributes:
        low: Its lower end.
        high: Its upper end.
    """

    low: float
    high: float

    def at(self, share: float) -> float:
        """The value at a share of the height.

        >>> View(1.0, 3.0).at(0.25)
        1.5
        """
        return self.low + share * (self.high - self.low)


def view(values: ArrayLike, *, below: float = 0.06, above: float = 0.1) -> View:
    """A view that holds all finite values.

    Args:
        values: Any; without a finite one the view is 0 ... 1.
        below: Air under them, as a share of their span.
        above: Air over them, likewise.

    >>> view([1.0, float("nan"), 2.0], below=0.0, above=0.5)
    View(low=1.0, high=2.5)
    """
    inside = finite(values)
    if not len(inside):
        return View(0.0, 1.0)
    low, high = float(inside.min()), float(inside.max())
    span, size = high - low, max(abs(low), abs(high))
    if span <= 1e-9 * size:
        span = max(size, 1e-300) if size else 1.0
    return View(low - below * span, high + above * span)


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """Those of the values that are finite, as an array of floats, none of them huge."""
    flat: NDArray[np.float64] = np.asarray(values, float).ravel()
    return flat[np.isfinite(flat)].clip(-HUGE, HUGE)


def bounded(losses: pd.Series) -> pd.Series:
    """The losses with NaN for what is not finite, none of them huge."""
    return losses.where(np.isfinite(losses)).clip(-HUGE, HUGE)


def on_log_axis(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose rate has a place on a logarithmic axis."""
    return frame[np.isfinite(frame["lr"]) & (frame["lr"] > 0)]


def thin(values: ArrayLike, most: int = MOST) -> NDArray[np.int64]:
    """Which points of a line to draw: the ends, and the extremes of equal parts, so no spike goes.

    >>> thin([0, 0, 9, 0, 0, 0, -9, 0], most=4).tolist()
    [0, 2, 4, 6, 7]
    """
    line = np.asarray(values, float)
    if len(line) <= most:
        return np.arange(len(line), dtype=np.int64)
    kept = {0, len(line) - 1}
    for part in np.array_split(np.arange(len(line)), max(1, most // 2)):
        lows = np.where(np.isnan(line[part]), np.inf, line[part])
        highs = np.where(np.isnan(line[part]), -np.inf, line[part])
        kept |= {int(part[lows.argmin()]), int(part[highs.argmax()])}
        kept |= set(part[np.isnan(line[part])][:1].tolist())  # a gap is seen as well
    return np.array(sorted(kept), dtype=np.int64)


def lightly(values: pd.Series) -> pd.Series:
    """A centred running mean over a twentieth of the line; the line itself when it is short.

    >>> lightly(pd.Series([0.0] * 30 + [3.0] * 30)).iloc[[28, 29, 30, 31]].tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    width = 2 * (len(values) // 40) + 1
    return values.rolling(width, center=True, min_periods=1).mean()
