"""The LR range test: loss over rate, the answer of each rule, and where the loss rises again."""

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome
from lrtune.analysis.sweep_rules import Suggestion
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


def sweep_range(frame: pd.DataFrame, stops: pd.DataFrame) -> AxisRange:
    """The losses to show: all until they rise again, and half their drop above the start."""
    edge = frame["seed"].map(stops.drop_duplicates("seed").set_index("seed")["edge"])
    start = finite_values(frame["untrained"])
    falling = finite_values(frame.loc[frame["lr"] <= edge, "loss"])
    if not len(falling):  # no curve is readable: show the lower half, as the upper one may explode
        losses = np.sort(finite_values(frame["loss"]))
        return axis_range([*start, *losses[: (len(losses) + 1) // 2]], above=0.25)
    level = float(np.median(start)) if len(start) else float(falling.max())
    ceiling = level + 0.5 * max(level - float(falling.min()), 0.0)
    return axis_range([falling.min(), level, min(falling.max(), ceiling)], above=0.2)


def rule_medians(frame: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """The answer of each rule, over the seeds.

    Returns:
        One row per rule, in the order of `answers`: `rule`; `lr`, the geometric median; `low` and
        `high`, the extremes; `loss`, the median height of the smoothed curves there, or NaN.
    """
    rates = rows_on_log_axis(answers).groupby("rule", sort=False)["lr"]
    medians = rates.agg(lr=lambda each: 10 ** np.median(np.log10(each)), low="min", high="max")
    heights = [_curve_height(frame, lr) for lr in medians["lr"]]
    return medians.assign(loss=heights).astype(float).reset_index()


def _curve_height(frame: pd.DataFrame, lr: float) -> float:
    heights = []
    for _, sweep in rows_on_log_axis(frame).groupby("seed"):
        curve = sweep[np.isfinite(sweep["smooth"])]
        if len(curve) and curve["lr"].min() <= lr <= curve["lr"].max():
            heights.append(np.interp(np.log10(lr), np.log10(curve["lr"]), curve["smooth"]))
    return float(np.median(heights)) if heights else math.nan


def rise_rate(stops: pd.DataFrame) -> float:
    """The rate from which the loss rises again: the median over the seeds that failed.

    NaN if every sweep reached its last rate. A sweep without a readable edge counts with its end.

    >>> rise_rate(pd.DataFrame({"outcome": ["DIVERGED"], "lr": [0.9], "edge": [0.4]}))
    0.4
    """
    failed = rows_on_log_axis(stops[stops["outcome"] != Outcome.FINISHED.name])
    edges = failed["edge"].where((failed["edge"] > 0) & np.isfinite(failed["edge"]), failed["lr"])
    return float(10 ** np.median(np.log10(edges))) if len(edges) else math.nan


def early_stops(frame: pd.DataFrame, stops: pd.DataFrame) -> pd.DataFrame:
    """The sweeps that ended before their last rate: one row each, `seed`, `lr`, `outcome`."""
    early = rows_on_log_axis(stops[stops["outcome"] != Outcome.FINISHED.name])
    # Results of other code may list no stop for a sweep whose loss is not finite.
    lost = frame[~np.isfinite(frame["loss"]) & ~frame["seed"].isin(early["seed"])]
    rest = rows_on_log_axis(lost).groupby("seed")["lr"].min().reset_index()
    rest["outcome"] = Outcome.NONFINITE.name
    return pd.concat([early[["seed", "lr", "outcome"]], rest], ignore_index=True)


# --- the figure


def sweep_figure(
    frame: pd.DataFrame,
    answers: pd.DataFrame,
    stops: pd.DataFrame,
    suggestion: Suggestion | None,
    floor: float | None = None,
) -> "Figure":
    """Loss over rate, on a logarithmic axis.

    The tables have the columns `SWEEP`, `ANSWERS` and `STOPS` of `lrtune.results.schema`. Thin
    lines: the raw losses; bold lines: smoothed, one per seed. Symbols: the answer of each rule, the
    median over the seeds, with a whisker from the lowest to the highest. Green: the suggested rate
    and its interval, if there is one. Red: where the loss rises again. `floor` is the number below
    which the loss cannot fall, if it is known.
    """
    shown, danger = sweep_range(frame, stops), rise_rate(stops)
    rates = finite_values([*rows_on_log_axis(frame)["lr"], *rows_on_log_axis(stops)["lr"]])
    last = float(rates.max()) if len(rates) else math.nan
    lr = math.nan if suggestion is None else suggestion.lr
    shapes = [] if suggestion is None else theme.chosen_rate(lr, suggestion.interval)
    labels = [theme.label(math.log10(lr), f"suggested: {lr:.2g}")] if 0 < lr < math.inf else []
    if danger < last:
        shapes.append(theme.vertical_band(danger, last, theme.VERMILLION))
        middle = float(np.log10(danger * last)) / 2  # of the band, in decades
        labels.append(theme.label(middle, "rises again", y=0))
    return theme.make_figure(
        [
            *_curves(frame),
            *_rules(rule_medians(frame, answers), shown),
            *_ends(early_stops(frame, stops), shown),
        ],
        xaxis=theme.rate_axis(),
        yaxis=theme.value_axis("training loss right after the update", shown),
        shapes=shapes,
        annotations=labels,
        meta=theme.log_axis_option(frame["loss"], shown, floor),
    )


def _curves(frame: pd.DataFrame) -> list[theme.Part]:
    """The raw losses of each seed, and in front of all of them the smoothed ones."""
    raw, smooth = [], []
    for index, (seed, sweep) in enumerate(rows_on_log_axis(frame).groupby("seed")):
        hover = f"seed {seed}<br>rate %{{x:.3~g}}<br>{{}}%{{y:.4~g}}<extra></extra>"
        raw.append(
            theme.long_line(
                sweep["lr"],
                clipped_losses(sweep["loss"]),
                theme.Style(theme.BLUE, "solid", "circle"),
                width=1,
                opacity=0.45,
                name="each update",
                legendgroup="raw",
                showlegend=index == 0,
                hovertemplate=hover.replace("{}", ""),
            )
        )
        smooth.append(
            theme.long_line(
                sweep["lr"],
                clipped_losses(sweep["smooth"]),
                theme.Style(theme.BLUE, theme.DASHES[index % len(theme.DASHES)], "circle"),
                name=f"smoothed, seed {seed}",
                hovertemplate=hover.replace("{}", "smoothed "),
            )
        )
    return raw + smooth  # plotly draws later traces in front


def _rules(medians: pd.DataFrame, shown: AxisRange) -> list[theme.Part]:
    """One symbol per rule, on the curve, or at the lower edge where there is no curve."""
    traces = []
    for index, point in enumerate(medians.itertuples()):
        height = point.loss if shown.low <= point.loss <= shown.high else shown.at(0.03)
        whisker = {
            "type": "data",
            "symmetric": False,
            "array": theme.rounded([point.high - point.lr]),
            "arrayminus": theme.rounded([point.lr - point.low]),
            "color": theme.GREY,
            "thickness": 1.5,
            "width": 4,
        }
        name = theme.escaped(point.rule)
        traces.append(
            theme.markers(
                [point.lr],
                [height],
                # The circle is left to the curves; seven other symbols repeat.
                theme.Style(theme.ORANGE, "solid", theme.SYMBOLS[1 + index % 7]),
                size=12,
                marker={"line": {"color": theme.INK, "width": 1.5}},
                name=name,
                error_x=whisker,
                hovertemplate=f"{name}<br>%{{x:.3~g}}<extra></extra>",
            )
        )
    return traces


def _ends(stops: pd.DataFrame, shown: AxisRange) -> list[theme.Part]:
    texts = [
        f"seed {stop.seed}: {theme.escaped(stop.outcome.lower())} at lr = {stop.lr:.3g}"
        for stop in stops.itertuples()
    ]
    edge = shown.at(0.97)
    return theme.labelled_markers(stops["lr"], edge, theme.FAILED_STYLE, texts, "sweep ended")
