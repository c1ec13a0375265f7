"""The look of the figures: colours, dashes, symbols, axes, and the plotly objects made of them.

The colours are the palette of Okabe and Ito, which people with any kind of colour vision can tell
apart, on white and on black. Each comes with its own dash and symbol, as nothing may depend on
colour alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lrtune.figures.axes import AxisRange, finite_values

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PlotlyTrace = dict[str, Any]
"""One element of a figure's `data`, as plotly takes it."""

PlotlyLayout = dict[str, Any]
"""A part of a figure's `layout`, such as an axis, a shape or an annotation."""

BLUE, GREEN, VERMILLION, PURPLE = "#0072B2", "#009E73", "#D55E00", "#CC79A7"
SKY, ORANGE, GREY = "#56B4E9", "#E69F00", "#8A8A8A"
INK, AXIS_GREY, GRID_GREY, WHITE = "#1f2937", "#6b7280", "#e5e7eb", "#ffffff"

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "star", "hexagon",
)  # fmt: skip

HEIGHT = 440
"""Pixels of an ordinary figure."""

MAX_NAME = 40
"""Characters of a name in a legend; longer names are cut."""


@dataclass(frozen=True)
class Style:
    """A colour, with the dash and the symbol that stand for it without colour."""

    colour: str
    dash: str
    symbol: str


OTHER_STYLE = Style(GREY, "solid", "circle")
FAILED_STYLE = Style(VERMILLION, "dot", "x")
VERDICT_STYLES: Mapping[str, Style] = {
    "too low": Style(BLUE, "dash", "triangle-down"),
    "good": Style(GREEN, "solid", "circle"),
    "high": Style(PURPLE, "dashdot", "triangle-up"),
    "diverged": Style(VERMILLION, "dot", "square"),
}
LINE_STYLES = tuple(
    Style(colour, DASHES[index % len(DASHES)], SYMBOLS[index])
    for index, colour in enumerate([GREEN, BLUE, VERMILLION, PURPLE, SKY, ORANGE, GREEN, BLUE])
)
"""For lines without a verdict; more than eight cannot be told apart."""

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, sans-serif"
_AXIS = {
    "showline": True,
    "linecolor": AXIS_GREY,
    "linewidth": 1,
    "ticks": "outside",
    "ticklen": 5,
    "tickcolor": AXIS_GREY,
    "gridcolor": GRID_GREY,
    "zeroline": False,
    "automargin": True,
    "title": {"standoff": 12},
}
_TEMPLATE: PlotlyLayout = {
    "font": {"family": _FONT, "size": 13, "color": INK},
    "paper_bgcolor": WHITE,
    "plot_bgcolor": WHITE,
    "hoverlabel": {
        "bgcolor": WHITE,
        "bordercolor": AXIS_GREY,
        "align": "left",
        "font": {"family": _FONT, "color": INK},
    },
    "xaxis": _AXIS,
    "yaxis": _AXIS,
}
_LAYOUT: PlotlyLayout = {
    "template": {"layout": _TEMPLATE},
    "height": HEIGHT,
    "margin": {"l": 64, "r": 24, "t": 32, "b": 56},
    "hovermode": "closest",
    "legend": {"groupclick": "toggleitem", "tracegroupgap": 6, "itemwidth": 40},
}


def make_figure(traces: Sequence[PlotlyTrace], **layout: Any) -> "Figure":
    """A plotly figure of these traces, with the theme's layout and the given parts of it."""
    from plotly.graph_objects import Figure  # noqa: PLC0415 - it takes a second to import

    return Figure(data=list(traces), layout={**_LAYOUT, **layout})


def rate_axis(
    title: str = "learning rate", span: tuple[float, float] | None = None
) -> PlotlyLayout:
    """A logarithmic axis of rates, from the lowest to the highest, or over `span`."""
    axis = {
        "type": "log",
        "title": {"text": title},
        "exponentformat": "power",
        "showexponent": "all",
        "minor": {"ticks": "outside", "ticklen": 3, "tickcolor": AXIS_GREY},
    }
    return axis if span is None else {**axis, "range": np.log10(span).tolist(), "autorange": False}


def value_axis(title: str, shown: AxisRange) -> PlotlyLayout:
    """A linear axis over a range; a double click in the figure shows all values."""
    return {
        "title": {"text": title},
        "range": [shown.low, shown.high],
        "autorange": False,
        "exponentformat": "power",
    }


def log_axis_option(values: ArrayLike, shown: AxisRange) -> PlotlyLayout | None:
    """The range of a logarithmic axis, for the page's button; None unless all values are positive.

    Args:
        values: All values of the figure.
        shown: The range of its linear axis.
    """
    finite = finite_values(values)
    if not len(finite) or finite.min() <= 0:
        return None
    # Down to the lowest of all values, as a logarithmic axis is for the end of a run.
    low, high = np.log10(finite.min()), np.log10(shown.high)
    return {"log": [float(low - 0.03 * (high - low)), float(high)]}


def rounded(values: ArrayLike) -> list[float | None]:
    """The values to six digits, more than a screen shows; None for what is not finite."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in np.asarray(values, float)]


def escaped(text: object) -> str:
    """A name for plotly: cut to `MAX_NAME`, and free of markup and template syntax.

    >>> escaped("<b>50 %{x}" + " " * 60 + "$y$")
    '&#60;b&#62;50 %&#123;x} &#36;y&#36;'
    """
    words = " ".join(str(text).split())
    cut = words if len(words) <= MAX_NAME else words[: MAX_NAME - 1] + "…"
    return "".join(f"&#{ord(sign)};" if sign in "&<>{$" else sign for sign in cut)


def line(
    x: ArrayLike, y: ArrayLike, style: Style, *, width: float = 2.5, **more: Any
) -> PlotlyTrace:
    """A line, with a gap where a value is not finite."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": rounded(x),
        "y": rounded(y),
        "line": {"color": style.colour, "dash": style.dash, "width": width},
        **more,
    }


def smooth_line(
    steps: ArrayLike, losses: ArrayLike, style: Style, *, label: str, **more: Any
) -> PlotlyTrace:
    """A bold line, with a few symbols on it that tell it apart without colour."""
    marker = {"symbol": style.symbol, "size": 8, "color": style.colour, "maxdisplayed": 6}
    hover = f"{label}<br>step %{{x}}<br>%{{y:.4~g}}<extra></extra>"
    return line(
        steps, losses, style, mode="lines+markers", marker=marker, hovertemplate=hover, **more
    )


def raw_line(steps: ArrayLike, losses: ArrayLike, style: Style) -> PlotlyTrace:
    """A thin solid line behind a bold one, without its own entry in the legend."""
    solid = Style(style.colour, "solid", style.symbol)
    return line(steps, losses, solid, width=1, opacity=0.4, showlegend=False, hoverinfo="skip")


def grey_lines(lines: Sequence[pd.DataFrame], noun: str) -> list[PlotlyTrace]:
    """The remaining lines (`step`, `loss`, `label`) as a single grey trace with gaps."""
    if not lines:
        return []
    # One trace with gaps: a legend of a hundred grey lines helps nobody, and drawing them is slow.
    gap = pd.DataFrame({"step": [np.nan], "loss": [np.nan], "label": [""]})
    joined = pd.concat([part for rows in lines for part in (rows[list(gap)], gap)])
    return [
        line(
            joined["step"],
            joined["loss"],
            OTHER_STYLE,
            width=1,
            opacity=0.5,
            name=f"{len(lines)} other {noun}{'s' if len(lines) > 1 else ''}",
            legendgroup="others",
            legendrank=2000,
            text=joined["label"].tolist(),
            hovertemplate="%{text}<br>step %{x}<br>%{y:.4~g}<extra></extra>",
        )
    ]


def markers(
    x: ArrayLike, y: ArrayLike, style: Style, *, size: float = 9, **more: Any
) -> PlotlyTrace:
    """Separate points."""
    marker = {"color": style.colour, "symbol": style.symbol, "size": size} | more.pop("marker", {})
    return {
        "type": "scatter",
        "mode": "markers",
        "x": rounded(x),
        "y": rounded(y),
        "marker": marker,
        "cliponaxis": False,  # a symbol at the edge stays whole
        **more,
    }


def labelled_markers(
    x: ArrayLike, y: ArrayLike, style: Style, texts: Sequence[str], name: str, **more: Any
) -> list[PlotlyTrace]:
    """Points that show a text under the mouse; an empty list if there are none."""
    if not len(texts):
        return []
    hover = {"text": list(texts), "hovertemplate": "%{text}<extra></extra>"}
    return [markers(x, y, style, size=11, name=name, legendgroup=name, **hover, **more)]


def vertical_band(low: float, high: float, colour: str, *, axis: str = "x") -> PlotlyLayout:
    """A shape: the whole height between two rates, behind everything else."""
    return {
        **_vertical(low, high, axis),
        "type": "rect",
        "fillcolor": colour,
        "opacity": 0.13,
        "line": {"width": 0},
        "layer": "below",
    }


def vertical_line(rate: float, style: Style, *, axis: str = "x") -> PlotlyLayout:
    """A shape: a line over the whole height at a rate."""
    line = {"color": style.colour, "width": 1.5, "dash": style.dash}
    return {**_vertical(rate, rate, axis), "type": "line", "line": line}


def _vertical(low: float, high: float, axis: str) -> PlotlyLayout:
    domain = f"{axis.replace('x', 'y')} domain"
    return {"xref": axis, "yref": domain, "x0": low, "x1": high, "y0": 0, "y1": 1}


def label(x: float | str, text: str, *, axis: str = "x", **more: Any) -> PlotlyLayout:
    """An annotation above the picture; on a logarithmic axis plotly takes the exponent as `x`."""
    place = {"xref": axis, "x": x, "yref": f"{axis.replace('x', 'y')} domain", "y": 1}
    return {**place, "yanchor": "bottom", "text": text, "showarrow": False, **more}
