"""The range test: raw losses thin, smoothed bold, the rules marked, divergence shaded."""

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome
from lrtune.figures import look
from lrtune.figures.axes import View, bounded, finite, on_log_axis, thin, view

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class Suggested(Protocol):
    """What a figure wants to know of a suggestion."""

    @property
    def lr(self) -> float:
        """The rate."""

    @property
    def interval(self) -> tuple[float, float]:
        """Its lowest and highest value."""


def sweep_view(frame: pd.DataFrame, stops: pd.DataFrame) -> View:
    """The start and the fall of the loss whole, and half of that above the start."""
    edge = frame["seed"].map(stops.drop_duplicates("seed").set_index("seed")["edge"])
    start = finite(frame["untrained"])
    seen = finite(frame.loc[frame["lr"] <= edge, "loss"])
    if not len(seen):  # nothing could be read: the lower half, as the upper one may be exploding
        losses = np.sort(finite(frame["loss"]))
        return view([*start, *losses[: (len(losses) + 1) // 2]], above=0.25)
    level = float(np.median(start)) if len(start) else float(seen.max())
    roof = level + 0.5 * max(level - float(seen.min()), 0.0)
    return view([seen.min(), level, min(seen.max(), roof)], above=0.2)


def rule_points(frame: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """What each rule says, over the seeds.

    Args:
        frame: Columns `seed`, `lr`, `smooth`.
        answers: Columns `rule`, `seed`, `lr`.

    Returns:
        One row per rule, in the order of `answers`: `rule`; `lr`, the median over the seeds in
        log space; `low` and `high` over the seeds; `loss`, the median of the smoothed curves
        there, NaN where no curve reaches.
    """
    rows = []
    for rule, each in on_log_axis(answers).groupby("rule", sort=False):
        lr = 10 ** float(np.median(np.log10(each["lr"])))
        rows.append((rule, lr, each["lr"].min(), each["lr"].max(), _height(frame, lr)))
    columns = {"rule": "str", "lr": float, "low": float, "high": float, "loss": float}
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _height(frame: pd.DataFrame, lr: float) -> float:
    """The median over the seeds of the smoothed curves at a rate."""
    heights = []
    for _, sweep in on_log_axis(frame).groupby("seed"):
        drawn = sweep[np.isfinite(sweep["smooth"])]
        if len(drawn) and drawn["lr"].min() <= lr <= drawn["lr"].max():
            heights.append(np.interp(np.log10(lr), np.log10(drawn["lr"]), drawn["smooth"]))
    return float(np.median(heights)) if heights else math.nan


def rises_from(stops: pd.DataFrame) -> float:
    """The rate from which the loss rises again: the median of the edges of the seeds that failed.

    NaN where every sweep reached its end; where a curve could not be read, its end counts.

    >>> rises_from(pd.DataFrame({"outcome": ["DIVERGED"], "lr": [0.9], "edge": [0.4]}))
    0.4
    """
    failed = on_log_axis(stops[stops["outcome"] != Outcome.FINISHED.name])
    edges = failed["edge"].where((failed["edge"] > 0) & np.isfinite(failed["edge"]), failed["lr"])
    return float(10 ** np.median(np.log10(edges))) if len(edges) else math.nan


def broken_sweeps(frame: pd.DataFrame, stops: pd.DataFrame) -> pd.DataFrame:
    """Where sweeps ended before their time.

    Returns:
        One row per such sweep: `seed`, `lr`, `outcome`.
    """
    early = on_log_axis(stops[stops["outcome"] != Outcome.FINISHED.name])
    lost = frame[~np.isfinite(frame["loss"]) & ~frame["seed"].isin(early["seed"])]
    rest = on_log_axis(lost).groupby("seed")["lr"].min().reset_index()
    columns = ["seed", "lr", "outcome"]
    if rest.empty:
        return early[columns].reset_index(drop=True)
    return pd.concat(
        [early[columns], rest.assign(outcome=Outcome.NONFINITE.name)], ignore_index=True
    )


# --- the figure


def sweep_figure(
    frame: pd.DataFrame, answers: pd.DataFrame, stops: pd.DataFrame, suggestion: Suggested
) -> "Figure":
    """Loss over rate, on a logarithmic axis.

    Args:
        frame: Columns as in `lrtune.results.schema.SWEEP`.
        answers: Columns as in `lrtune.results.schema.ANSWERS`.
        stops: Columns as in `lrtune.results.schema.STOPS`.
        suggestion: The ensemble of the rules.

    Returns:
        A plotly figure. Thin lines: the raw losses; bold ones: smoothed, one per seed. Symbols:
        what each rule says, the median over the seeds, and as a whisker the span of them. Green:
        the ensemble and its interval. Red: where the loss rises again, up to the last rate.
    """
    shown, danger = sweep_view(frame, stops), rises_from(stops)
    rates = finite([*on_log_axis(frame)["lr"], *on_log_axis(stops)["lr"]])
    end = float(rates.max()) if len(rates) else math.nan
    shapes, labels = _suggested(suggestion)
    if danger < end:
        shapes.append(look.band(danger, end, look.VERMILLION))
        middle = math.sqrt(danger * end)
        labels.append(look.label(middle, "rises again", y=0, yanchor="bottom"))
    return look.figure(
        [
            *_curves(frame),
            *_rules(rule_points(frame, answers), shown),
            *_ends(broken_sweeps(frame, stops), shown),
        ],
        xaxis=look.rate_axis(),
        yaxis=look.value_axis("training loss right after the update", shown),
        shapes=shapes,
        annotations=labels,
        meta=look.logarithmic(frame["loss"], shown),
    )


def _curves(frame: pd.DataFrame) -> list[look.Trace]:
    """Per seed the raw losses, and in front of all of them the smoothed ones."""
    raw, smooth = [], []
    for index, (seed, sweep) in enumerate(on_log_axis(frame).groupby("seed")):
        losses, curve = bounded(sweep["loss"]), bounded(sweep["smooth"])
        every, drawn = thin(losses), thin(curve)
        hover = f"seed {seed}<br>rate %{{x:.3~g}}<br>%{{y:.4~g}}<extra></extra>"
        raw.append(
            look.line(
                sweep["lr"].iloc[every],
                losses.iloc[every],
                look.Style(look.BLUE, "solid", "circle"),
                width=1,
                opacity=0.45,
                name="each update",
                legendgroup="raw",
                showlegend=index == 0,
                hovertemplate=hover,
            )
        )
        smooth.append(
            look.line(
                sweep["lr"].iloc[drawn],
                curve.iloc[drawn],
                look.Style(look.BLUE, look.DASHES[index % len(look.DASHES)], "circle"),
                name=f"smoothed, seed {seed}",
                hovertemplate=hover.replace("<br>%{y", "<br>smoothed %{y"),
            )
        )
    return raw + smooth


def _rules(points: pd.DataFrame, shown: View) -> list[look.Trace]:
    """One symbol per rule, on the curve; at the lower edge where there is no curve."""
    traces = []
    for index, point in enumerate(points.itertuples()):
        height = point.loss if shown.low <= point.loss <= shown.high else shown.at(0.03)
        style = look.Style(look.ORANGE, "solid", look.SYMBOLS[1 + index % 7])
        whisker = {
            "type": "data",
            "symmetric": False,
            "array": look.numbers([point.high - point.lr]),
            "arrayminus": look.numbers([point.lr - point.low]),
            "color": look.GREY,
            "thickness": 1.5,
            "width": 4,
        }
        traces.append(
            look.marks(
                [point.lr],
                [height],
                style,
                size=12,
                marker={"line": {"color": "#1f2937", "width": 1.5}},
                name=look.name(point.rule),
                error_x=whisker,
                hovertemplate=f"{look.name(point.rule)}<br>%{{x:.3~g}}<extra></extra>",
            )
        )
    return traces


def _ends(broken: pd.DataFrame, shown: View) -> list[look.Trace]:
    if broken.empty:
        return []
    told = [
        f"seed {end.seed}: {look.name(end.outcome.lower())} at lr = {end.lr:.3g}"
        for end in broken.itertuples()
    ]
    return [
        look.marks(
            broken["lr"],
            [shown.at(0.97)] * len(broken),
            look.FAILED,
            size=11,
            name="sweep ended",
            text=told,
            hovertemplate="%{text}<extra></extra>",
        )
    ]


def _suggested(suggestion: Suggested) -> tuple[list[look.Layout], list[look.Layout]]:
    """The ensemble as a line with a label, its interval as a band."""
    if not 0 < suggestion.lr < math.inf:
        return [], []
    shapes = [look.upright(suggestion.lr, look.Style(look.GREEN, "solid", "circle"))]
    low, high = suggestion.interval
    if 0 < low < high < math.inf:
        shapes.append(look.band(low, high, look.GREEN))
    return shapes, [look.label(suggestion.lr, f"suggested: {suggestion.lr:.2g}")]
