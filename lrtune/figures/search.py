"""The search: the losses of every run over its rate, and where the best peak lies."""

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lrtune.analysis.curves import FAILED_OUTCOMES
from lrtune.figures import theme
from lrtune.figures.axes import (
    AxisRange,
    axis_range,
    clipped_losses,
    finite_values,
    rows_on_log_axis,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# What a loss is of, and the kind of symbol that stands for it.
SHORT, SHORTER = "training loss", "training loss, fewer steps"
WHOLE, STATED, COMPRESSED, OTHER = "chosen by", "stated", "compressed run", "another schedule"
SYMBOLS = {
    SHORT: "", SHORTER: "-open", WHOLE: "", STATED: "-open", COMPRESSED: "-open-dot", OTHER: "-dot",
}  # fmt: skip
SIZES = {SHORT: 10, SHORTER: 7, WHOLE: 10, STATED: 10, COMPRESSED: 8, OTHER: 10}


def drawn_losses(frame: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The losses of all runs of a search, as a chart needs them.

    Returns:
        One row per run and loss: `run`, `lr`, `seed`, `until`, `outcome`, `start`; `verdict` of its
        rate; `short`, whether it is a short run of the coarse stage; `part`, what the loss is of;
        `loss`, NaN where the run failed. A whole training has two rows, if its loss was stated on
        data that did not choose it.
    """
    runs = rows_on_log_axis(runs)
    runs = runs[runs["stage"] != "before"].reset_index(drop=True)
    verdicts = frame.drop_duplicates("lr").set_index("lr")["verdict"]
    short, compressed = runs["stage"] == "coarse", runs["stage"] == "horizons"
    fewer = short & (runs["until"] < runs.loc[short, "until"].max())
    # The user's present setting may be that of another schedule than the one that is searched.
    searched = runs.loc[runs["stage"] == "fine", "schedule"]
    other = (runs["stage"] == "current") & ~runs["schedule"].isin(searched)
    losses = runs["loss"].where(~short & runs["loss"].notna(), runs["train"])
    points = runs[["run", "lr", "seed", "until", "outcome", "start"]].assign(
        verdict=runs["lr"].map(verdicts).astype(object).fillna("unknown"),
        short=short,
        part=np.select(
            [fewer, short, compressed, other], [SHORTER, SHORT, COMPRESSED, OTHER], WHOLE
        ),
        loss=losses,
    )
    stated = points.assign(part=STATED, loss=runs["test"])[~short & ~other & runs["test"].notna()]
    points = pd.concat([points, stated], ignore_index=True)
    failed = points["outcome"].isin(FAILED_OUTCOMES)
    points["loss"] = clipped_losses(points["loss"].where(~failed))
    return points


def panel_range(points: pd.DataFrame) -> AxisRange:
    """The losses that a panel shows: all that are not far above the loss before training."""
    finite, starts = finite_values(points["loss"]), finite_values(points["start"])
    if len(finite) and len(starts):
        # A quarter above the start: this shows a run that got slightly worse, but no explosion.
        ceiling = max(starts.max(), finite.min()) + 0.25 * abs(starts.max() - finite.min())
        finite = finite[finite <= ceiling]
    return axis_range(finite, above=0.18)


def best_training(points: pd.DataFrame) -> pd.DataFrame:
    """The row of the whole training with the lowest loss of those that choose; none without one."""
    whole = points[(points["part"] == WHOLE) & points["loss"].notna()]
    return whole.nsmallest(1, "loss")


# --- the figure


def rates_figure(
    frame: pd.DataFrame, runs: pd.DataFrame, lr: float, interval: tuple[float, float]
) -> "Figure":
    """Loss over rate, on a logarithmic axis; `lr` is the chosen peak, `interval` the best one's.

    The tables have the columns `RATES` and `TRIED` of `lrtune.results.schema`. The short runs of
    the coarse stage, which keep their rate constant, have a panel of their own, with their training
    losses. In the other one every whole training has its own seed: full symbols are the losses
    that chose, open ones those that are stated, dotted ones those of compressed runs or of another
    schedule. Colour and symbol: the verdict on the rate. Crosses at the upper edge: failed runs;
    arrows: losses above the picture. Green: the chosen peak and its interval.
    """
    points = drawn_losses(frame, runs)
    panels = [rows for _, rows in points.groupby("short")][::-1] or [points]  # the short ones first
    traces: list[theme.Part] = []
    layout: dict[str, theme.Part] = {}
    for rows, number in zip(panels, ("", "2"), strict=False):
        shown = panel_range(rows)
        where = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
        traces += [{**trace, **where} for trace in _panel(rows, shown)]
        short = bool(rows["short"].any())
        kept = short or set(runs.loc[runs["stage"] == "fine", "schedule"]) == {"constant"}
        layout[f"xaxis{number}"] = theme.rate_axis("constant rate" if kept else "peak rate")
        layout[f"yaxis{number}"] = theme.value_axis(_title(rows), shown)
    if len(panels) == 2:
        layout["xaxis"] |= {"domain": [0.0, 0.45], "anchor": "y"}
        layout["xaxis2"] |= {"domain": [0.57, 1.0], "anchor": "y2"}
        layout["yaxis"] |= {"anchor": "x"}
        layout["yaxis2"] |= {"anchor": "x2"}
    axis = f"x{number}"  # of the last panel, which has the whole trainings
    marks = theme.chosen_rate(lr, interval, axis=axis)
    labels = []
    if 0 < lr < math.inf:
        labels = [theme.label(math.log10(lr), f"lr {lr:.3g}", axis=axis)]
    return theme.make_figure(_one_legend(traces), shapes=marks, annotations=labels, **layout)


def _title(rows: pd.DataFrame) -> str:
    if rows["short"].any():
        return f"training loss after {rows['until'].max()} steps"
    return "loss of whole trainings"


def _one_legend(traces: list[theme.Part]) -> list[theme.Part]:
    """Name every group in the legend once, though both panels have it."""
    seen: set[str] = set()
    for trace in traces:
        name = trace.get("name", "")
        trace["showlegend"] = bool(name) and name not in seen
        seen.add(name)
    return traces


def _panel(points: pd.DataFrame, shown: AxisRange) -> list[theme.Part]:
    means = points[points["part"].isin([SHORT, WHOLE])].groupby("lr")["loss"].mean().dropna()
    connection = theme.line(means.index, means, theme.OTHER_STYLE, width=1, hoverinfo="skip")
    return [connection, *_ring(points), *_losses(points), *_upper_edge(points, shown)]


def _ring(points: pd.DataFrame) -> list[theme.Part]:
    best = best_training(points)
    style = theme.Style(theme.ORANGE, "solid", "circle-open")
    texts = [f"the best training: lr {row.lr:.4g}, seed {row.seed}" for row in best.itertuples()]
    marker = {"size": 18, "line": {"width": 2}}
    name = "best training"
    return theme.labelled_markers(best["lr"], best["loss"], style, texts, name, marker=marker)


def _losses(points: pd.DataFrame) -> list[theme.Part]:
    """One trace per verdict and part, from too low to diverged."""
    traces = []
    for verdict in dict.fromkeys([*theme.VERDICT_STYLES, *points["verdict"]]):
        style, name = theme.VERDICT_STYLES.get(verdict, theme.OTHER_STYLE), theme.escaped(verdict)
        for part, kind in SYMBOLS.items():
            alike = (points["verdict"] == verdict) & (points["part"] == part)
            rows = points[alike & points["loss"].notna()]
            if rows.empty:
                continue
            symbol = theme.Style(style.colour, style.dash, style.symbol + kind)
            texts = [
                f"lr {row.lr:.4g}, seed {row.seed}<br>{row.loss:.4g} after {row.until} steps<br>"
                f"{part}; {name}"
                for row in rows.itertuples()
            ]
            marker = {"size": SIZES[part], "line": {"width": 1.4}}
            traces += theme.labelled_markers(
                rows["lr"], rows["loss"], symbol, texts, name, marker=marker, cliponaxis=True
            )
    return traces


def _upper_edge(points: pd.DataFrame, shown: AxisRange) -> list[theme.Part]:
    """The runs without a place in the picture: symbols at its upper edge."""
    failed = points[points["loss"].isna() & (points["part"] != STATED)]
    above = points[points["loss"] > shown.high]
    kinds = [
        (failed, "failed run", theme.FAILED_STYLE),
        (above, "above the picture", theme.Style(theme.VERMILLION, "dot", "arrow-up-open")),
    ]
    traces = []
    for rows, name, style in kinds:
        texts = [
            f"lr {row.lr:.4g}, seed {row.seed}<br>"
            + (theme.escaped(row.outcome).lower() if math.isnan(row.loss) else f"{row.loss:.4g}")
            for row in rows.itertuples()
        ]
        traces += theme.labelled_markers(rows["lr"], shown.at(0.97), style, texts, name)
    return traces
