"""The short runs of a search over their steps: too low, good, high, diverged."""

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lrtune.figures import look
from lrtune.figures.axes import HUGE, MOST, View, bounded, finite, lightly, on_log_axis, view

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ALIKE = 3
"""Lines in colour with the same verdict: there are so many variants of its symbol."""


def curve_points(curves: pd.DataFrame, most: int = MOST) -> pd.DataFrame:
    """The short runs, over the seeds; long ones in equal parts of some steps each.

    Args:
        curves: Columns `lr`, `seed`, `step`, `loss`.
        most: How many parts at most.

    Returns:
        One row per rate and part: `lr`; `step`, its first; `mean` over the seeds, NaN from where
        one of them is missing or not finite; `smooth`, the mean of the lightly smoothed losses of
        the seeds, likewise; `low` and `high`, the lowest and the highest of these.
    """
    curves = on_log_axis(curves)
    width = max(1, math.ceil((curves["step"].max() + 1) / most)) if len(curves) else 1
    parts = curves.assign(loss=bounded(curves["loss"]), step=curves["step"] // width * width)
    runs = (
        parts.groupby(["lr", "seed", "step"])["loss"].agg(["mean", "count", "size"]).reset_index()
    )
    runs["loss"] = runs["mean"].where(runs["count"] == runs["size"])
    smooth = runs.groupby(["lr", "seed"])["loss"].transform(lightly)
    points = (
        runs.assign(smooth=smooth.where(runs["loss"].notna()))
        .groupby(["lr", "step"])
        .agg(
            mean=("loss", "mean"),
            smooth=("smooth", "mean"),
            low=("smooth", "min"),
            high=("smooth", "max"),
            seeds=("loss", "count"),
        )
        .reset_index()
    )
    everyone = points["lr"].map(curves.groupby("lr")["seed"].nunique())
    complete = points.groupby("lr")["seeds"].cummin() == everyone
    points[["mean", "smooth"]] = points[["mean", "smooth"]].where(complete)
    return points.drop(columns="seeds")


def curve_view(points: pd.DataFrame, frame: pd.DataFrame) -> View:
    """From the lowest mean to the start, and some of what lies above it, unless it diverged.

    Args:
        points: What `curve_points` gave.
        frame: Columns `lr`, `verdict`.
    """
    start = finite(points[points["step"] == 0]["mean"])
    lines = finite(points["smooth"])
    if not len(start) or not len(lines):
        return view(points[["low", "high"]])
    calm = frame.loc[frame["verdict"] != "diverged", "lr"]
    highest = max([*finite(points.loc[points["lr"].isin(calm), "smooth"]), start.max()])
    roof = start.max() + 0.5 * (start.max() - lines.min())
    return view([lines.min(), start.max(), min(highest, roof)])


def highlights(frame: pd.DataFrame, most: int = look.LINES) -> list[float]:
    """The rates that tell most, those of each verdict by turns, until there are `most`.

    Of the good ones the best, the lowest, the highest; of the others the one furthest from the
    good ones, then the nearest; then those between.

    >>> rates = pd.DataFrame({"lr": [1e-4, 1e-3, 0.1, 1.0], "mean": [2.3, 2.0, 0.2, math.nan],
    ...                       "verdict": ["too low", "too low", "good", "diverged"]})
    >>> highlights(rates, most=3)
    [0.0001, 0.1, 1.0]
    """
    ranked = {verdict: _ranked(rows) for verdict, rows in on_log_axis(frame).groupby("verdict")}
    turns = [
        ranked.get(verdict, [])[turn : turn + 1]
        for turn in range(ALIKE)
        for verdict in look.VERDICTS
    ]
    return sorted([lr for turn in turns for lr in turn][:most])


def _ranked(rows: pd.DataFrame) -> list[float]:
    """Rates of one verdict, the most telling first."""
    rates = sorted(rows["lr"])
    match rows["verdict"].iloc[0]:
        case "good":
            seen = rows[np.isfinite(rows["mean"])]
            best = list(seen.loc[seen["mean"] == seen["mean"].min(), "lr"][:1])
            first = [*best, rates[0], rates[-1]]
        case "too low":
            first = [rates[0], rates[-1]]
        case _:
            first = [rates[-1], rates[0]]
    middle = rates[len(rates) // 2]
    return list(dict.fromkeys([*first, middle, *rates]))


def breaks(curves: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Runs of a search that diverged, or met a loss that is not finite; not those given up.

    Returns:
        One row per such run: `lr`, `seed`, `step` of its end, `loss`, the last finite one there.
    """
    rows = []
    longest = curves["step"].max() if len(curves) else 0
    failed = on_log_axis(curves)
    failed = failed[failed["lr"].isin(frame.loc[frame["failed"] > 0, "lr"])]
    for (lr, seed), run in failed.groupby(["lr", "seed"]):
        bad = run.loc[~np.isfinite(run["loss"]), "step"]
        end = bad.min() if len(bad) else run["step"].max()
        if len(bad) or end < longest:
            before = finite(run.loc[run["step"] <= end, "loss"])
            rows.append((lr, seed, end, before[-1] if len(before) else math.nan))
    columns = {"lr": float, "seed": "int64", "step": "int64", "loss": float}
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


# --- the figure


def curves_figure(curves: pd.DataFrame, frame: pd.DataFrame) -> "Figure":
    """Losses of the short runs over their steps.

    Args:
        curves: Columns as in `lrtune.results.schema.CURVES`.
        frame: Columns as in `lrtune.results.schema.RATES`.

    Returns:
        A plotly figure. Bold lines: the mean over the seeds, lightly smoothed, of the eight rates
        that tell most, with a band from the lowest to the highest seed (for one seed: with the
        raw losses behind); colour and dash: the verdict. Grey: the other rates. Crosses: where a
        run failed. Lines that end early without one were given up.
    """
    points = curve_points(curves)
    shown, chosen = curve_view(points, frame), highlights(frame)
    verdicts = dict(zip(frame["lr"], frame["verdict"], strict=True))
    lines = {float(lr): rows for lr, rows in points.groupby("lr")}
    traces = _others({lr: rows for lr, rows in lines.items() if lr not in chosen})
    several = bool((points["high"] > points["low"]).any())
    # What is good is drawn last, so that nothing lies over it; the legend begins at the low rates.
    for verdict in ("diverged", "high", "too low", "good"):
        rates = [lr for lr in chosen if verdicts[lr] == verdict and lr in lines]
        for nth, lr in enumerate(rates):
            traces += _highlight(lr, lines[lr], verdict, nth=nth, several=several)
    return look.figure(
        [*traces, *_crosses(breaks(curves, frame), shown)],
        xaxis={"title": {"text": "step"}},
        yaxis=look.value_axis("training loss", shown),
        meta=look.logarithmic(points["low"], shown),
    )


def _others(lines: dict[float, pd.DataFrame]) -> list[look.Trace]:
    """All the other rates as one grey trace."""
    if not lines:
        return []
    gap = pd.DataFrame({"step": [np.nan], "smooth": [np.nan], "lr": [np.nan]})
    joined = pd.concat([part for rows in lines.values() for part in (rows, gap)])
    return [
        look.line(
            joined["step"],
            joined["smooth"],
            look.UNKNOWN,
            width=1,
            opacity=0.5,
            name=f"{len(lines)} other rate{'s' if len(lines) > 1 else ''}",
            legendgroup="others",
            legendrank=2000,
            customdata=look.numbers(joined["lr"]),
            hovertemplate="rate %{customdata:.4~g}<br>step %{x}<br>%{y:.4~g}<extra></extra>",
        )
    ]


def _highlight(
    lr: float, rows: pd.DataFrame, verdict: str, *, nth: int, several: bool
) -> list[look.Trace]:
    """A rate: the band or the raw losses behind, the smoothed mean in front."""
    style = look.VERDICTS[verdict]
    symbol = style.symbol + ("", "-open", "-open-dot")[nth]
    front = look.line(
        rows["step"],
        rows["smooth"],
        style,
        width=2.5 if nth == 0 else 1.75,
        mode="lines+markers",
        marker={"symbol": symbol, "size": 8, "color": style.colour, "maxdisplayed": 6},
        name=f"{lr:.4g}",
        legendrank=100 * list(look.VERDICTS).index(verdict) + nth,
        hovertemplate=f"rate {lr:.4g} ({verdict})<br>step %{{x}}<br>%{{y:.4~g}}<extra></extra>",
    )
    if nth == 0:
        front["legendgrouptitle"] = {"text": verdict}
    behind = _band(rows, style) if several else _raw(rows, style)
    return [{**trace, "legendgroup": f"{lr:.6g}"} for trace in (behind, front)]


def _band(rows: pd.DataFrame, style: look.Style) -> look.Trace:
    """From the lowest seed to the highest; fainter where it is wide because runs diverged."""
    there = rows[rows["low"].notna()]
    return look.line(
        [*there["step"], *there["step"][::-1]],
        [*there["high"], *there["low"][::-1]],
        style,
        width=0,
        fill="toself",
        fillcolor=style.colour,
        opacity=0.08 if style is look.VERDICTS["diverged"] else 0.16,
        showlegend=False,
        hoverinfo="skip",
    )


def _raw(rows: pd.DataFrame, style: look.Style) -> look.Trace:
    plain = look.Style(style.colour, "solid", style.symbol)
    return look.line(
        rows["step"],
        rows["mean"],
        plain,
        width=1,
        opacity=0.4,
        showlegend=False,
        hoverinfo="skip",
    )


def _crosses(broken: pd.DataFrame, shown: View) -> list[look.Trace]:
    if broken.empty:
        return []
    heights = broken["loss"].fillna(HUGE).clip(shown.at(0.03), shown.at(0.97))
    texts = [
        f"rate {end.lr:.4g}, seed {end.seed}<br>ended at step {end.step}"
        for end in broken.itertuples()
    ]
    return [
        look.marks(
            broken["step"],
            heights,
            look.FAILED,
            size=10,
            name="failed run",
            legendgroup="ended",
            legendrank=2001,
            text=texts,
            hovertemplate="%{text}<extra></extra>",
        )
    ]
