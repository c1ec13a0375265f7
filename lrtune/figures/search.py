"""The search: the score of every rate and seed, the verdicts, and where the best rate lies."""

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome
from lrtune.figures import theme
from lrtune.figures.axes import AxisRange, axis_range, finite_values, rows_on_log_axis

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def placed_scores(frame: pd.DataFrame, scores: pd.DataFrame) -> tuple[pd.DataFrame, AxisRange]:
    """The score of every rate and seed, where it is drawn, and the range of the axis.

    The range contains every score that is not far above the loss of the untrained model. A `place`
    is "inside", "above" (beyond the range), or without a score "retired" or "failed".
    """
    verdicts = frame.drop_duplicates("lr").set_index("lr")["verdict"]
    points = rows_on_log_axis(scores)[["lr", "seed", "outcome", "score"]].reset_index(drop=True)
    points["verdict"] = points["lr"].map(verdicts).astype(object).fillna("unknown")
    finite, starts = finite_values(points["score"]), finite_values(scores["start"])
    if len(finite) and len(starts):
        # A quarter above the start: this shows a run that got slightly worse, but no explosion.
        ceiling = max(starts.max(), finite.min()) + 0.25 * abs(starts.max() - finite.min())
        finite = finite[finite <= ceiling]
    shown = axis_range(finite, above=0.18)
    points["place"] = np.where(points["score"] > shown.high, "above", "inside")
    unscored = ~np.isfinite(points["score"])
    retired = points["outcome"] == Outcome.RETIRED.name
    points.loc[unscored, "place"] = np.where(retired[unscored], "retired", "failed")
    return points, shown


def close_up_span(frame: pd.DataFrame, interval: tuple[float, float]) -> tuple[float, float] | None:
    """The rates around the interval, if they are crowded enough for a panel of their own.

    >>> rates = pd.DataFrame({"lr": [1e-4, 1e-3, 1e-2, 0.08, 0.09, 0.1, 0.11, 1.0]})
    >>> close_up_span(rates, (0.09, 0.1))
    (0.05625, 0.16)
    """
    rates = rows_on_log_axis(frame)["lr"]
    if not (len(rates) and 0 < interval[0] <= interval[1] < math.inf):
        return None
    low, high = interval[0] / 1.6, interval[1] * 1.6
    inside = int(rates.between(low, high).sum())
    whole, part = math.log(rates.max() / rates.min()), math.log(high / low)
    # A panel that repeats most of the picture would show nothing new.
    crowded = inside >= 4 and part < 0.5 * whole
    return (float(f"{low:.4g}"), float(f"{high:.4g}")) if crowded else None


# --- the figure


def rates_figure(
    frame: pd.DataFrame, scores: pd.DataFrame, lr: float, interval: tuple[float, float]
) -> "Figure":
    """Score over rate, on a logarithmic axis; `lr` is the chosen rate, `interval` the best one's.

    The tables have the columns `RATES` and `SCORES` of `lrtune.results.schema`. Full symbols: means
    over the seeds; open symbols: each seed; colour and symbol: the verdict. At the upper edge,
    crosses: failed runs; diamonds: runs that were stopped early; arrows: scores above the picture.
    Green: the chosen rate and the interval. A second panel magnifies rates that are crowded around
    it.
    """
    points, shown = placed_scores(frame, scores)
    measured = theme.value_axis(f"{_measured(scores)} of the short runs", shown)
    layout = {"xaxis": theme.rate_axis(), "yaxis": measured}
    traces, shapes = _panel(frame, points, shown), theme.chosen_rate(lr, interval)
    span, axis = close_up_span(frame, interval), "x"
    if span is not None:
        near = points[points["lr"].between(*span) & (points["place"] == "inside")]
        detail, axis = axis_range(near["score"], above=0.18), "x2"
        second = {"xaxis": "x2", "yaxis": "y2", "showlegend": False}
        traces += [{**trace, **second} for trace in _panel(frame, points, detail, span=span)]
        shapes += theme.chosen_rate(lr, interval, axis="x2")
        layout["xaxis"]["domain"], layout["yaxis"]["anchor"] = [0.0, 0.53], "x"
        close_up = theme.rate_axis("learning rate, close up", span)
        layout["xaxis2"] = close_up | {"domain": [0.61, 1.0], "anchor": "y2"}
        layout["yaxis2"] = theme.value_axis("", detail) | {"anchor": "x2"}
    text = f"chosen: {lr:.3g}"
    labels = [theme.label(math.log10(lr), text, axis=axis)] if 0 < lr < math.inf else []
    return theme.make_figure(traces, shapes=shapes, annotations=labels, **layout)


def _measured(scores: pd.DataFrame) -> str:
    # With a budget the score is the mean of training and validation loss.
    if (scores["score"] - scores["val"]).abs().gt(0).any():
        return "loss (training, validation)"
    return "validation loss" if len(finite_values(scores["val"])) else "training loss"


def _panel(
    frame: pd.DataFrame,
    points: pd.DataFrame,
    shown: AxisRange,
    span: tuple[float, float] = (0.0, math.inf),
) -> list[theme.Part]:
    means = rows_on_log_axis(frame).sort_values("lr")
    means = means[means["lr"].between(*span)]
    points = points[points["lr"].between(*span)]
    connection = theme.line(
        means["lr"], means["mean"], theme.OTHER_STYLE, width=1, hoverinfo="skip", showlegend=False
    )
    return [connection, *_seeds(points), *_means(means), *_upper_edge(points, shown)]


def _seeds(points: pd.DataFrame) -> list[theme.Part]:
    """Every finite score as a small open symbol, if there are several seeds."""
    drawn = points[np.isfinite(points["score"])]
    if drawn.empty or drawn["seed"].nunique() < 2:  # one seed is its own mean
        return []
    styles = [theme.VERDICT_STYLES.get(name, theme.OTHER_STYLE) for name in drawn["verdict"]]
    marker = {
        "color": [style.colour for style in styles],
        "symbol": [f"{style.symbol}-open" for style in styles],
        "line": {"width": 1.2},
    }
    return [
        theme.markers(
            drawn["lr"],
            drawn["score"],
            theme.OTHER_STYLE,
            size=6,
            marker=marker,
            opacity=0.75,
            cliponaxis=True,
            name="each seed",
            legendgroup="each seed",
            customdata=drawn["seed"].tolist(),
            hovertemplate="rate %{x:.4~g}<br>seed %{customdata}<br>%{y:.4~g}<extra></extra>",
        )
    ]


def _means(means: pd.DataFrame) -> list[theme.Part]:
    """One trace per verdict, from too low to diverged."""
    means = means[np.isfinite(means["mean"])]  # the others were stopped early, or failed
    verdicts = [*theme.VERDICT_STYLES, *means["verdict"]]  # whose order is that of the legend
    traces = []
    for verdict in dict.fromkeys(verdicts):
        rows = means[means["verdict"] == verdict]
        if rows.empty:
            continue
        name = theme.escaped(verdict)
        traces.append(
            theme.markers(
                rows["lr"],
                rows["mean"],
                theme.VERDICT_STYLES.get(verdict, theme.OTHER_STYLE),
                size=10,
                cliponaxis=True,
                name=name,
                legendgroup=name,
                hovertemplate=f"rate %{{x:.4~g}}<br>mean %{{y:.4~g}}<br>{name}<extra></extra>",
            )
        )
    return traces


def _upper_edge(points: pd.DataFrame, shown: AxisRange) -> list[theme.Part]:
    """The runs without a place in the picture: symbols at its upper edge."""
    kinds = [
        ("retired", "stopped early", theme.Style(theme.GREY, "dot", "diamond-open")),
        ("failed", "failed run", theme.FAILED_STYLE),
        ("above", "above the picture", theme.Style(theme.VERMILLION, "dot", "arrow-up-open")),
    ]
    traces = []
    for place, name, style in kinds:
        rows = points[points["place"] == place]
        texts = [
            f"rate {row.lr:.4g}<br>seed {row.seed}<br>"
            + (f"{row.score:.4g}" if place == "above" else theme.escaped(row.outcome).lower())
            for row in rows.itertuples()
        ]
        traces += theme.labelled_markers(rows["lr"], shown.at(0.97), style, texts, name)
    return traces
