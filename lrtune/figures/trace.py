"""A trace: the losses of the runs over their steps."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lrtune.analysis.curves import end_level
from lrtune.figures import look
from lrtune.figures.axes import View, bounded, finite, lightly, thin, view

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def outstanding(frame: pd.DataFrame, most: int = look.LINES) -> list[str]:
    """Runs to draw in colour: all when there are few, else evenly from the lowest end to the worst.

    Args:
        frame: Columns `run`, `loss`, in the order of the steps.
        most: How many.

    Returns:
        Names, in the order of the frame.
    """
    ends = (
        frame.assign(loss=bounded(frame["loss"])).groupby("run", sort=False)["loss"].agg(end_level)
    )
    ranked = list(ends.sort_values(kind="stable", na_position="last").index)
    if len(ranked) > most:
        ranked = [ranked[i] for i in np.linspace(0, len(ranked) - 1, most).round().astype(int)]
    return [str(run) for run in ends.index if run in set(ranked)]


def trace_view(frame: pd.DataFrame) -> View:
    """From the lowest loss to the start of the runs, and half of that above it."""
    losses = finite(frame["loss"])
    start = finite(frame.groupby("run")["loss"].first())
    if not len(start):
        return view(losses)
    roof = start.max() + 0.5 * (start.max() - losses.min())
    return view([losses.min(), start.max(), min(losses.max(), roof)])


# --- the figure


def trace_figure(frame: pd.DataFrame) -> "Figure":
    """Losses over steps, one line per run.

    Args:
        frame: Columns as in `lrtune.results.schema.TRACE`.

    Returns:
        A plotly figure. Bold: lightly smoothed; thin behind: the raw losses. With more than eight
        runs, eight of them, from the lowest end to the highest, are in colour, the others grey.
    """
    chosen, shown = outstanding(frame), trace_view(frame)
    runs = {str(run): rows for run, rows in frame.groupby("run", sort=False)}
    traces = _others({run: rows for run, rows in runs.items() if run not in chosen})
    for index, run in enumerate(chosen):
        traces += [
            {**trace, "legendgroup": f"run {index}"}
            for trace in _run(run, runs[run], look.STYLES[index])
        ]
    return look.figure(
        [*traces, *_crosses(frame, shown)],
        xaxis={"title": {"text": "step"}},
        yaxis=look.value_axis("training loss", shown),
        meta=look.logarithmic(frame["loss"], shown),
    )


def _others(runs: dict[str, pd.DataFrame]) -> list[look.Trace]:
    """All the other runs as one grey trace."""
    if not runs:
        return []
    gap = pd.DataFrame({"step": [np.nan], "loss": [np.nan], "run": [""]})
    drawn = [rows.iloc[thin(bounded(rows["loss"]))] for rows in runs.values()]
    joined = pd.concat([part for rows in drawn for part in (rows[["step", "loss", "run"]], gap)])
    return [
        look.line(
            joined["step"],
            bounded(joined["loss"]),
            look.UNKNOWN,
            width=1,
            opacity=0.5,
            name=f"{len(runs)} other run{'s' if len(runs) > 1 else ''}",
            legendgroup="others",
            legendrank=2000,
            text=[look.name(run) for run in joined["run"]],
            hovertemplate="%{text}<br>step %{x}<br>%{y:.4~g}<extra></extra>",
        )
    ]


def _run(run: str, rows: pd.DataFrame, style: look.Style) -> list[look.Trace]:
    losses = bounded(rows["loss"])
    smooth = lightly(losses).where(losses.notna())
    thick, raw = thin(smooth), thin(losses)
    behind = look.line(
        rows["step"].iloc[raw],
        losses.iloc[raw],
        look.Style(style.colour, "solid", style.symbol),
        width=1,
        opacity=0.35,
        showlegend=False,
        hoverinfo="skip",
    )
    front = look.line(
        rows["step"].iloc[thick],
        smooth.iloc[thick],
        style,
        mode="lines+markers",
        marker={"symbol": style.symbol, "size": 8, "color": style.colour, "maxdisplayed": 6},
        name=look.name(run),
        hovertemplate=f"{look.name(run)}<br>step %{{x}}<br>%{{y:.4~g}}<extra></extra>",
    )
    return [behind, front]


def _crosses(frame: pd.DataFrame, shown: View) -> list[look.Trace]:
    """Where a run met a loss that is not finite."""
    lost = frame[~np.isfinite(frame["loss"])].drop_duplicates("run")
    if lost.empty:
        return []
    return [
        look.marks(
            lost["step"],
            [shown.at(0.97)] * len(lost),
            look.FAILED,
            size=10,
            name="loss not finite",
            legendgroup="lost",
            legendrank=2001,
            text=[f"{look.name(end.run)}<br>step {end.step}" for end in lost.itertuples()],
            hovertemplate="%{text}<extra></extra>",
        )
    ]
