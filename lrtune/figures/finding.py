"""The small chart of a finding: a few lines over one quantity."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lrtune.figures import theme
from lrtune.figures.axes import axis_range

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def finding_figure(
    x: str, y: str, lines: Mapping[str, Sequence[tuple[float, float]]], log: str = ""
) -> "Figure":
    """Lines with their points, each with a style of its own.

    Args:
        x: The title of the horizontal axis.
        y: That of the vertical axis.
        lines: Names to points.
        log: The logarithmic axes: `x`, `y`, `xy` or none. Points without a place there are left
            out.
    """
    drawn = {name: [p for p in points if _has_place(p, log)] for name, points in lines.items()}
    traces = []
    for (name, points), style in zip(drawn.items(), theme.LINE_STYLES * len(drawn), strict=False):
        across, up = zip(*points, strict=True) if points else ((), ())
        label = theme.escaped(name)
        few = len(points) <= len(theme.LINE_STYLES) * 3
        traces.append(theme.line(across, up, style, name=label, legendgroup=label))
        if few:
            traces.append(
                theme.markers(
                    across, up, style, size=7, showlegend=False, name=label, legendgroup=label
                )
            )
    heights = [height for points in drawn.values() for _, height in points]
    vertical = theme.value_axis(y, axis_range(heights))
    if "y" in log:
        vertical = theme.rate_axis(y)
    horizontal = theme.rate_axis(x) if "x" in log else {"title": {"text": x}}
    return theme.make_figure(traces, height=300, xaxis=horizontal, yaxis=vertical)


def _has_place(point: tuple[float, float], log: str) -> bool:
    return all(value > 0 for value, axis in zip(point, "xy", strict=True) if axis in log)
