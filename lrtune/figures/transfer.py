"""The best rate over the size of something: points with intervals, and straight lines in logs."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lrtune.figures import theme
from lrtune.figures.axes import rows_on_log_axis

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLES = {"data": "share of the training data", "width": "width", "batch_size": "batch size"}


def trend_line(rows: pd.DataFrame, slope: float) -> pd.DataFrame:
    """The straight line of this slope through the middle of the points, in logs.

    Returns:
        Two rows, `value` and `lr`, at the lowest and the highest value.
    """
    x, y = np.log(rows["value"].to_numpy()), np.log(rows["lr"].to_numpy())
    ends = np.array([x.min(), x.max()])
    return pd.DataFrame({"value": np.exp(ends), "lr": np.exp(y.mean() + slope * (ends - x.mean()))})


def transfer_figure(table: pd.DataFrame, trends: pd.DataFrame, over: str) -> "Figure":
    """The best rate of each size, one colour for each thing that is equal.

    Args:
        table: Columns `TRANSFER`.
        trends: Columns `TRENDS`.
        over: What is varied.
    """
    known = rows_on_log_axis(table)
    known = known[known["value"] > 0]
    slopes = dict(zip(trends["equal"], trends["slope"], strict=True))
    parts: list[theme.Part] = []
    for index, (equal, rows) in enumerate(known.groupby("equal", sort=False)):
        style = theme.LINE_STYLES[index % len(theme.LINE_STYLES)]
        name = theme.escaped(f"at equal {equal}")
        whiskers = {
            "type": "data", "symmetric": False, "color": style.colour, "thickness": 1.5, "width": 4,
            "array": theme.rounded(rows["high"] - rows["lr"]),
            "arrayminus": theme.rounded(rows["lr"] - rows["low"]),
        }  # fmt: skip
        parts.append(
            theme.markers(
                rows["value"],
                rows["lr"],
                style,
                name=name,
                legendgroup=name,
                error_y=whiskers,
                hovertemplate=f"{name}<br>%{{x:.3~g}}<br>rate %{{y:.3~g}}<extra></extra>",
            )
        )
        if np.isfinite(slopes.get(equal, np.nan)) and len(rows) > 1:
            line = trend_line(rows, slopes[equal])
            hover = f"{name}: slope {slopes[equal]:.2g}<extra></extra>"
            parts.append(
                theme.line(
                    line["value"],
                    line["lr"],
                    style,
                    legendgroup=name,
                    showlegend=False,
                    hovertemplate=hover,
                )
            )
    axis = {"type": "log", "title": {"text": TITLES.get(over, theme.escaped(over))}}
    return theme.make_figure(parts, xaxis=axis, yaxis=theme.rate_axis("best constant rate"))
