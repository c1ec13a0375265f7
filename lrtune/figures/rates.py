"""The search: every rate's score, its seeds, its verdict, and the rates that are tied."""

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome
from lrtune.figures import look
from lrtune.figures.axes import View, finite, on_log_axis, view

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def score_points(frame: pd.DataFrame, scores: pd.DataFrame) -> tuple[pd.DataFrame, View]:
    """Every seed's score with its verdict and its place in the picture.

    The view holds every score that is not far above the loss of the untrained model.

    Returns:
        One row per rate and seed: `lr`, `seed`, `outcome`, `score`, `verdict`; `place`, one of
        "inside", "above" (beyond the view), "given up" and "failed" (no score). And the view.
    """
    verdicts = frame.drop_duplicates("lr").set_index("lr")["verdict"]
    points = on_log_axis(scores)[["lr", "seed", "outcome", "score"]].reset_index(drop=True)
    points["verdict"] = points["lr"].map(verdicts).astype(object).fillna("unknown")
    seen, starts = finite(points["score"]), finite(scores["start"])
    if len(seen) and len(starts):
        # A quarter above the start: a bit worse than untrained is shown, an explosion is not.
        top = max(starts.max(), seen.min()) + 0.25 * abs(starts.max() - seen.min())
        seen = seen[seen <= top]
    shown = view(seen, above=0.18)
    beyond = points["score"] > shown.high
    points["place"] = np.where(beyond, "above", "inside")
    unscored = ~np.isfinite(points["score"])
    given_up = points["outcome"] == Outcome.RETIRED.name
    points.loc[unscored, "place"] = np.where(given_up[unscored], "given up", "failed")
    return points, shown


def close_up(frame: pd.DataFrame, interval: tuple[float, float]) -> tuple[float, float] | None:
    """The span of rates around the interval that deserves a picture of its own; None if none does.

    >>> rates = pd.DataFrame({"lr": [1e-4, 1e-3, 1e-2, 0.08, 0.09, 0.1, 0.11, 1.0]})
    >>> close_up(rates, (0.09, 0.1))
    (0.05625, 0.16)
    """
    rates = on_log_axis(frame)["lr"]
    if not (len(rates) and 0 < interval[0] <= interval[1] < math.inf):
        return None
    low, high = interval[0] / 1.6, interval[1] * 1.6
    inside = int(rates.between(low, high).sum())
    whole, part = math.log(rates.max() / rates.min()), math.log(high / low)
    crowded = inside >= 4 and part < 0.5 * whole
    return (float(f"{low:.4g}"), float(f"{high:.4g}")) if crowded else None


# --- the figure


def rates_figure(
    frame: pd.DataFrame, scores: pd.DataFrame, lr: float, interval: tuple[float, float]
) -> "Figure":
    """Score over rate, on a logarithmic axis.

    Args:
        frame: Columns as in `lrtune.results.schema.RATES`.
        scores: Columns as in `lrtune.results.schema.SCORES`.
        lr: The rate that was chosen.
        interval: Where the best rate probably lies.

    Returns:
        A plotly figure. Full symbols: means over the seeds; open ones: each seed; colour and
        symbol: the verdict. Crosses at the upper edge: runs that failed; diamonds there: runs that
        were given up early; arrows there: scores beyond the picture. Green: the chosen rate, and
        where the best one probably lies. Where the rates are crowded around it, a second panel
        shows them close up.
    """
    points, shown = score_points(frame, scores)
    measured = "validation loss" if len(finite(scores["val"])) else "training loss"
    if (scores["score"] - scores["val"]).abs().gt(1e-9 * scores["val"].abs()).any():
        measured = "loss (training, validation)"
    layout = {
        "xaxis": look.rate_axis(),
        "yaxis": look.value_axis(f"{measured} of the short runs", shown),
    }
    traces, shapes = _panel(frame, points, shown), _chosen(lr, interval)
    closer, axis = close_up(frame, interval), "x"
    if closer is not None:
        detail, axis = _detail(points, closer), "x2"
        traces += [
            {**trace, "xaxis": "x2", "yaxis": "y2", "showlegend": False}
            for trace in _panel(frame, points, detail, span=closer)
        ]
        shapes += _chosen(lr, interval, axis="x2")
        layout = _side_by_side(layout, closer, detail)
    labels = [look.label(lr, f"chosen: {lr:.3g}", axis=axis)] if 0 < lr < math.inf else []
    return look.figure(traces, shapes=shapes, annotations=labels, **layout)


def _detail(points: pd.DataFrame, span: tuple[float, float]) -> View:
    near = points[points["lr"].between(*span) & (points["place"] == "inside")]
    return view(near["score"], above=0.18)


def _side_by_side(
    layout: dict[str, look.Layout], span: tuple[float, float], detail: View
) -> dict[str, look.Layout]:
    """Room for a second panel, which shows the span close up."""
    return {
        "xaxis": layout["xaxis"] | {"domain": [0.0, 0.53]},
        "yaxis": layout["yaxis"] | {"anchor": "x"},
        "xaxis2": look.rate_axis("learning rate, close up", span)
        | {"domain": [0.61, 1.0], "anchor": "y2"},
        "yaxis2": look.value_axis("", detail) | {"anchor": "x2"},
    }


def _panel(
    frame: pd.DataFrame,
    points: pd.DataFrame,
    shown: View,
    span: tuple[float, float] = (0.0, math.inf),
) -> list[look.Trace]:
    means = on_log_axis(frame).sort_values("lr")
    means = means[means["lr"].between(*span)]
    points = points[points["lr"].between(*span)]
    connected = look.line(
        means["lr"],
        means["mean"],
        look.UNKNOWN,
        width=1,
        hoverinfo="skip",
        showlegend=False,
        connectgaps=False,
    )
    return [connected, *_seeds(points), *_means(means), *_edge(points, shown)]


def _seeds(points: pd.DataFrame) -> list[look.Trace]:
    """Every finite score, as a small open symbol."""
    drawn = points[np.isfinite(points["score"])]
    if drawn.empty or drawn["seed"].nunique() < 2:
        return []
    styles = [look.VERDICTS.get(verdict, look.UNKNOWN) for verdict in drawn["verdict"]]
    return [
        look.marks(
            drawn["lr"],
            drawn["score"],
            look.UNKNOWN,
            size=6,
            marker={
                "color": [style.colour for style in styles],
                "symbol": [f"{style.symbol}-open" for style in styles],
                "line": {"width": 1.2},
            },
            opacity=0.75,
            cliponaxis=True,
            name="each seed",
            legendgroup="each seed",
            customdata=drawn["seed"].tolist(),
            hovertemplate="rate %{x:.4~g}<br>seed %{customdata}<br>%{y:.4~g}<extra></extra>",
        )
    ]


def _means(means: pd.DataFrame) -> list[look.Trace]:
    """One trace per verdict, in the order of the lecture."""
    order = list(look.VERDICTS)
    found = sorted(means["verdict"].unique(), key=lambda v: order.index(v) if v in order else 9)
    traces = []
    for verdict in found:
        rows = means[(means["verdict"] == verdict) & np.isfinite(means["mean"])]
        traces.append(
            look.marks(
                rows["lr"],
                rows["mean"],
                look.VERDICTS.get(verdict, look.UNKNOWN),
                size=10,
                cliponaxis=True,
                name=look.name(verdict),
                legendgroup=look.name(verdict),
                hovertemplate=(
                    f"rate %{{x:.4~g}}<br>mean %{{y:.4~g}}<br>{look.name(verdict)}<extra></extra>"
                ),
            )
        )
    return traces


def _edge(points: pd.DataFrame, shown: View) -> list[look.Trace]:
    """What has no place in the picture: crosses and arrows at its upper edge."""
    kinds = [
        ("given up", "given up early", look.Style(look.GREY, "dot", "diamond-open")),
        ("failed", "failed run", look.FAILED),
        ("above", "beyond the picture", look.Style(look.VERMILLION, "dot", "arrow-up-open")),
    ]
    traces = []
    for place, told, style in kinds:
        rows = points[points["place"] == place]
        if len(rows):
            texts = [
                f"rate {row.lr:.4g}<br>seed {row.seed}<br>"
                + (f"{row.score:.4g}" if place == "above" else look.name(row.outcome).lower())
                for row in rows.itertuples()
            ]
            traces.append(
                look.marks(
                    rows["lr"],
                    [shown.at(0.97)] * len(rows),
                    style,
                    size=11,
                    name=told,
                    legendgroup=told,
                    text=texts,
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    return traces


def _chosen(lr: float, interval: tuple[float, float], axis: str = "x") -> list[look.Layout]:
    """The chosen rate as a line, those that it is tied with as a band."""
    shapes = []
    low, high = interval
    if 0 < low < high < math.inf:
        shapes.append(look.band(low, high, look.GREEN, axis=axis))
    if 0 < lr < math.inf:
        shapes.append(look.upright(lr, look.VERDICTS["good"], axis=axis))
    return shapes
