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

from lrtune.analysis.scores import digits_that_differ
from lrtune.figures.axes import AxisRange, drawn_indices, finite_values

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Part = dict[str, Any]
"""A part of a figure as plotly takes it: a trace, an axis, a shape, an annotation."""

BLUE, GREEN, VERMILLION, PURPLE = "#0072B2", "#009E73", "#D55E00", "#CC79A7"
SKY, ORANGE, GREY = "#56B4E9", "#E69F00", "#8A8A8A"
INK, AXIS_GREY, GRID_GREY, WHITE = "#1f2937", "#6b7280", "#e5e7eb", "#ffffff"

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "star", "hexagon",
)  # fmt: skip

HEIGHT = 440  # pixels of an ordinary figure
MAX_NAME = 40  # characters of a name in a legend; longer names are cut


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
_LAYOUT: Part = {
    "template": {
        "layout": {
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
    },
    "height": HEIGHT,
    "margin": {"l": 64, "r": 24, "t": 32, "b": 56},
    "hovermode": "closest",
    # A click hides one line instead of its group; and the items are wide enough to show the dashes.
    "legend": {"groupclick": "toggleitem", "tracegroupgap": 6, "itemwidth": 40},
}


def make_figure(traces: Sequence[Part], **layout: Any) -> "Figure":
    """A plotly figure of these traces, with the given parts of the layout and else the theme's."""
    from plotly.graph_objects import Figure  # noqa: PLC0415 - it takes a second to import

    return Figure(data=list(traces), layout={**_LAYOUT, **layout})


def rate_axis(title: str = "learning rate", span: tuple[float, float] | None = None) -> Part:
    """A logarithmic axis of rates, from the lowest to the highest, or over `span`."""
    axis = {
        "type": "log",
        "title": {"text": title},
        "exponentformat": "power",
        "showexponent": "all",
        "minor": {"ticks": "outside", "ticklen": 3, "tickcolor": AXIS_GREY},
    }
    return axis if span is None else {**axis, "range": np.log10(span).tolist(), "autorange": False}


def value_axis(title: str, shown: AxisRange) -> Part:
    """A linear axis over a range; a double click in the figure shows all values."""
    return {
        "title": {"text": title},
        "range": [shown.low, shown.high],
        "autorange": False,
        "exponentformat": "power",
    }


def log_axis_option(values: ArrayLike, shown: AxisRange, floor: float | None) -> Part | None:
    """The range of a logarithmic axis, for the page's button.

    None where a value is not positive, or the floor of the values is not known to be 0: then a
    constant that is added to all of them would change the picture.
    """
    finite = finite_values(values)
    if floor != 0 or not len(finite) or finite.min() <= 0:
        return None
    # Down to the lowest of all values, as a logarithmic axis is for the end of a run.
    low, high = np.log10(finite.min()), np.log10(shown.high)
    return {"log": [float(low - 0.03 * (high - low)), float(high)]}


def rounded(values: ArrayLike) -> list[float | None]:
    """The values to six digits of their span, more than a screen shows; None if not finite."""
    values = np.asarray(values, float)
    # A single value has no span: it may be the symbol of a curve far from zero.
    digits = digits_that_differ(values, least=6 if len(values) > 1 else 12)
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in values]


def escaped(text: object) -> str:
    """A name for plotly: cut to `MAX_NAME`, and free of markup and template syntax.

    >>> escaped("<b>50 %{x}" + " " * 60 + "$y$")
    '&#60;b&#62;50 %&#123;x} &#36;y&#36;'
    """
    words = " ".join(str(text).split())
    cut = words if len(words) <= MAX_NAME else words[: MAX_NAME - 1] + "…"
    return "".join(f"&#{ord(sign)};" if sign in "&<>{$" else sign for sign in cut)


def line(x: ArrayLike, y: ArrayLike, style: Style, *, width: float = 2.5, **more: Any) -> Part:
    """A line, with a gap where a value is not finite."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": rounded(x),
        "y": rounded(y),
        "line": {"color": style.colour, "dash": style.dash, "width": width},
        **more,
    }


def long_line(x: pd.Series, y: pd.Series, style: Style, **more: Any) -> Part:
    """A line of its ends and extremes, where it has more points than a screen shows."""
    drawn = drawn_indices(y)
    return line(x.iloc[drawn], y.iloc[drawn], style, **more)


def markers(x: ArrayLike, y: ArrayLike, style: Style, *, size: float = 9, **more: Any) -> Part:
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
) -> list[Part]:
    """Points that show a text under the mouse, `y` one height for all or each; [] if none."""
    if not texts:
        return []
    more |= {"text": texts, "hovertemplate": "%{text}<extra></extra>", "legendgroup": name}
    return [markers(x, np.broadcast_to(y, len(texts)), style, size=11, name=name, **more)]


def vertical_band(low: float, high: float, colour: str, *, axis: str = "x") -> Part:
    """A shape: the whole height between two rates, behind everything else."""
    fill = {"fillcolor": colour, "opacity": 0.13, "line": {"width": 0}, "layer": "below"}
    return {"type": "rect", **_vertical(low, high, axis), **fill}


def chosen_rate(lr: float, interval: tuple[float, float], *, axis: str = "x") -> list[Part]:
    """Shapes: the interval of the chosen rate as a band, and in front the rate as a line."""
    shapes, (low, high) = [], interval
    if 0 < low < high < np.inf:
        shapes.append(vertical_band(low, high, GREEN, axis=axis))
    if 0 < lr < np.inf:
        style = VERDICT_STYLES["good"]
        line = {"color": style.colour, "width": 1.5, "dash": style.dash}
        shapes.append({"type": "line", **_vertical(lr, lr, axis), "line": line})
    return shapes


def _vertical(low: float, high: float, axis: str) -> Part:
    domain = f"{axis.replace('x', 'y')} domain"
    return {"xref": axis, "yref": domain, "x0": low, "x1": high, "y0": 0, "y1": 1}


def label(x: float | str, text: str, *, axis: str = "x", **more: Any) -> Part:
    """An annotation above the picture; on a logarithmic axis plotly takes the exponent as `x`."""
    place = {"xref": axis, "x": x, "yref": f"{axis.replace('x', 'y')} domain", "y": 1}
    return {**place, "yanchor": "bottom", "text": text, "showarrow": False, **more}
