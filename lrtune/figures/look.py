"""How figures look: one place for colours, dashes, symbols, axes. Nothing here computes.

The colours are those of Okabe and Ito that stand out from white and from black alike; each of
them comes with a dash and a symbol of its own, so that colour never tells anything alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lrtune.figures.axes import View, finite

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BLUE, GREEN, VERMILLION, PURPLE = "#0072B2", "#009E73", "#D55E00", "#CC79A7"
SKY, ORANGE, GREY = "#56B4E9", "#E69F00", "#8A8A8A"

HEIGHT = 440

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "cross",
    "star",
    "hexagon",
)

LONGEST = 40
"""Characters of a name that a legend shows."""


@dataclass(frozen=True)
class Style:
    """A colour, and what says the same without colour."""

    colour: str
    dash: str
    symbol: str


UNKNOWN = Style(GREY, "solid", "circle")
VERDICTS: Mapping[str, Style] = {
    "too low": Style(BLUE, "dash", "triangle-down"),
    "good": Style(GREEN, "solid", "circle"),
    "high": Style(PURPLE, "dashdot", "triangle-up"),
    "diverged": Style(VERMILLION, "dot", "square"),
}
FAILED = Style(VERMILLION, "dot", "x")

LINES = 8
"""Lines in colour; more cannot be told apart."""

STYLES = tuple(
    Style(colour, DASHES[index % len(DASHES)], SYMBOLS[index])
    for index, colour in enumerate(
        [BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE, BLUE, VERMILLION][:LINES]
    )
)
"""For lines that have no verdict."""

Trace = dict[str, Any]
Layout = dict[str, Any]


def figure(traces: Sequence[Trace], **layout: Any) -> "Figure":
    """A plotly figure in our look."""
    from plotly.graph_objects import Figure  # noqa: PLC0415 - it takes long, and not all draw

    return Figure(data=list(traces), layout={**_BASE, **layout})


_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, sans-serif"
_AXIS = {
    "showline": True,
    "linecolor": "#6b7280",
    "linewidth": 1,
    "ticks": "outside",
    "ticklen": 5,
    "tickcolor": "#6b7280",
    "gridcolor": "#e5e7eb",
    "zeroline": False,
    "automargin": True,
    "title": {"standoff": 12},
}
_BASE: Layout = {
    "template": {
        "layout": {
            "font": {
                "family": _FONT,
                "size": 13,
                "color": "#1f2937",
            },
            "paper_bgcolor": "#ffffff",
            "plot_bgcolor": "#ffffff",
            "hoverlabel": {
                "bgcolor": "#ffffff",
                "bordercolor": "#6b7280",
                "align": "left",
                "font": {"family": _FONT, "color": "#1f2937"},
            },
            "xaxis": _AXIS,
            "yaxis": _AXIS,
        }
    },
    "height": HEIGHT,
    "margin": {"l": 64, "r": 24, "t": 32, "b": 56},
    "hovermode": "closest",
    "legend": {"groupclick": "toggleitem", "tracegroupgap": 6, "itemwidth": 40},
}


def rate_axis(title: str = "learning rate", span: tuple[float, float] | None = None) -> Layout:
    """A logarithmic axis of rates, over a span of them or over all there are."""
    axis = {
        "type": "log",
        "title": {"text": title},
        "exponentformat": "power",
        "showexponent": "all",
        "minor": {"ticks": "outside", "ticklen": 3, "tickcolor": "#6b7280"},
    }
    return axis if span is None else {**axis, "range": np.log10(span).tolist(), "autorange": False}


def value_axis(title: str, shown: View) -> Layout:
    """A linear axis that shows the view; a double click shows everything."""
    return {
        "title": {"text": title},
        "range": [shown.low, shown.high],
        "autorange": False,
        "exponentformat": "power",
    }


def logarithmic(values: ArrayLike, shown: View) -> Layout | None:
    """What a page needs to offer a logarithmic axis instead; None where a value is not positive.

    Args:
        values: All that is drawn.
        shown: What the linear axis shows.
    """
    seen = finite(values)
    if not len(seen) or seen.min() <= 0:
        return None
    low, high = np.log10(seen.min()), np.log10(shown.high)
    return {"log": [float(low - 0.03 * (high - low)), float(high)]}


def numbers(values: ArrayLike) -> list[float | None]:
    """Six digits of each, more than a screen shows; None where there is no finite number."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in np.asarray(values, float)]


def name(text: object) -> str:
    """A name as plotly shall show it: cut, and with nothing that it takes for markup or a template.

    >>> name("<b>50 %{x}" + " " * 60 + "$y$")
    '&#60;b&#62;50 %&#123;x} &#36;y&#36;'
    """
    spoken = " ".join(str(text).split())
    cut = spoken if len(spoken) <= LONGEST else spoken[: LONGEST - 1] + "…"
    return "".join(f"&#{ord(sign)};" if sign in "&<>{$" else sign for sign in cut)


def line(x: ArrayLike, y: ArrayLike, style: Style, *, width: float = 2.5, **more: Any) -> Trace:
    """A line; it is interrupted where there is no finite number."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": numbers(x),
        "y": numbers(y),
        "line": {"color": style.colour, "dash": style.dash, "width": width},
        **more,
    }


def marks(x: ArrayLike, y: ArrayLike, style: Style, *, size: float = 9, **more: Any) -> Trace:
    """Points."""
    marker = {"color": style.colour, "symbol": style.symbol, "size": size} | more.pop("marker", {})
    return {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(x),
        "y": numbers(y),
        "marker": marker,
        "cliponaxis": False,
        **more,
    }


def band(low: float, high: float, colour: str, *, axis: str = "x") -> Layout:
    """A shape: a range of rates, over the whole height, behind everything."""
    return {
        "type": "rect",
        "xref": axis,
        "yref": f"{axis.replace('x', 'y')} domain",
        "x0": low,
        "x1": high,
        "y0": 0,
        "y1": 1,
        "fillcolor": colour,
        "opacity": 0.13,
        "line": {"width": 0},
        "layer": "below",
    }


def upright(rate: float, style: Style, *, axis: str = "x") -> Layout:
    """A shape: a vertical line at a rate."""
    return {
        "type": "line",
        "xref": axis,
        "yref": f"{axis.replace('x', 'y')} domain",
        "x0": rate,
        "x1": rate,
        "y0": 0,
        "y1": 1,
        "line": {"color": style.colour, "width": 1.5, "dash": style.dash},
    }


def label(rate: float, text: str, *, axis: str = "x", **more: Any) -> Layout:
    """An annotation above the picture at a rate of a logarithmic axis."""
    return {
        "xref": axis,
        "yref": f"{axis.replace('x', 'y')} domain",
        "x": float(np.log10(rate)),
        "y": 1,
        "yanchor": "bottom",
        "text": text,
        "showarrow": False,
        **more,
    }
