"""Range tests with other settings: the sweeps of all values of a setting in one chart."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lrtune.figures import theme
from lrtune.figures.axes import AxisRange, axis_range, clipped_losses, finite_values

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def mean_curves(sweeps: pd.DataFrame) -> pd.DataFrame:
    """The smoothed loss of each value over the rate, a mean over its seeds.

    Returns:
        One row per value and rate that all of its seeds have reached: `value`, `lr`, `loss`.
    """
    usable = sweeps[np.isfinite(sweeps["smooth"]) & (sweeps["lr"] > 0)]
    seeds = sweeps.groupby("value")["seed"].nunique()
    grouped = usable.groupby(["value", "lr"])["smooth"].agg(["mean", "size"]).reset_index()
    whole = grouped[grouped["size"] == grouped["value"].map(seeds)]
    return whole.rename(columns={"mean": "loss"})[["value", "lr", "loss"]].reset_index(drop=True)


def varied_range(curves: pd.DataFrame, sweeps: pd.DataFrame) -> AxisRange:
    """The losses to show: from the lowest curve to half of its drop above the start."""
    start, losses = finite_values(sweeps["untrained"]), finite_values(curves["loss"])
    if not len(losses):
        return axis_range(start)
    level = float(np.median(start)) if len(start) else float(losses.max())
    drop = max(level - float(losses.min()), 0.0)
    return axis_range([losses.min(), level, min(float(losses.max()), level + 0.5 * drop)])


def varied_figure(
    table: pd.DataFrame, sweeps: pd.DataFrame, floor: float | None = None
) -> "Figure":
    """Loss over rate for all values of one setting, and the rate that each suggests.

    Args:
        table: The rows of the setting: columns `VARIED`.
        sweeps: Its sweeps: columns `VARIED_SWEEPS`.
        floor: The number below which the losses cannot fall, if it is known.
    """
    curves = mean_curves(sweeps)
    shown = varied_range(curves, sweeps)
    parts = [
        part
        for index, row in enumerate(table.itertuples())
        for part in _value(row, curves[curves["value"] == row.value], index)
    ]
    return theme.make_figure(
        parts,
        xaxis=theme.rate_axis(),
        yaxis=theme.value_axis("smoothed training loss right after the update", shown),
        meta=theme.log_axis_option(curves["loss"], shown, floor),
    )


def _value(row: Any, curve: pd.DataFrame, index: int) -> list[theme.Part]:
    """The curve of one value, and a symbol on it at the suggested rate."""
    style = theme.LINE_STYLES[index % len(theme.LINE_STYLES)]
    name = theme.escaped(f"{row.setting} {row.value:g}" + " (own)" * bool(row.own))
    shared: theme.Part = {"name": name, "legendgroup": name}
    hover = f"{name}<br>{{}} %{{x:.3~g}}<br>%{{y:.4~g}}<extra></extra>"
    losses, height = clipped_losses(curve["loss"]), _height(curve, row.lr)
    shared["hovertemplate"] = hover.replace("{}", "rate")
    parts = [theme.long_line(curve["lr"], losses, style, **shared)]
    if math.isfinite(height):
        shared |= {"hovertemplate": hover.replace("{}", "suggested"), "showlegend": False}
        outline = {"line": {"color": theme.INK, "width": 1.5}}
        parts.append(theme.markers([row.lr], [height], style, size=12, marker=outline, **shared))
    return parts


def _height(curve: pd.DataFrame, lr: float) -> float:
    """The height of a curve at a rate; NaN outside."""
    if not len(curve) or not curve["lr"].min() <= lr <= curve["lr"].max():
        return math.nan
    return float(np.interp(math.log10(lr), np.log10(curve["lr"]), curve["loss"]))
