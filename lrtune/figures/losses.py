"""Losses over steps: the runs of a trace, and the short runs of a search."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lrtune.analysis.curves import end_level
from lrtune.figures import theme
from lrtune.figures.axes import (
    MAX_LOSS,
    MAX_POINTS,
    AxisRange,
    axis_range,
    clipped_losses,
    drawn_indices,
    finite_values,
    rows_on_log_axis,
    running_mean,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MAX_COLOURED = len(theme.LINE_STYLES)
# They tell lines of one verdict apart; so no more than three of each verdict are in colour.
SYMBOL_VARIANTS = ("", "-open", "-open-dot")


def mean_curves(curves: pd.DataFrame, most: int = MAX_POINTS) -> pd.DataFrame:
    """The short runs of a search (`lr`, `seed`, `step`, `loss`), averaged over the seeds.

    Returns:
        One row per rate and part of the run, of which there are `most`: `lr`; `step`, its first;
        `mean` over the seeds; `smooth`, the mean of the smoothed runs; `low` and `high`, the
        extremes of the smoothed runs. `mean` and `smooth` are NaN as soon as one seed has failed:
        the mean of the others would flatter it.
    """
    curves = rows_on_log_axis(curves)
    width = max(1, math.ceil((curves["step"].max() + 1) / most)) if len(curves) else 1
    parts = curves.assign(loss=clipped_losses(curves["loss"]), step=curves["step"] // width * width)
    runs = parts.groupby(["lr", "seed", "step"])["loss"].agg(["mean", "count", "size"])
    runs = runs.reset_index()
    # `count` leaves NaN out, `size` does not: a part with a lost step has no mean.
    runs["loss"] = runs["mean"].where(runs["count"] == runs["size"])
    smooth = runs.groupby(["lr", "seed"])["loss"].transform(running_mean)
    points = runs.assign(smooth=smooth.where(runs["loss"].notna())).groupby(["lr", "step"])
    means = points.agg(
        mean=("loss", "mean"),
        smooth=("smooth", "mean"),
        low=("smooth", "min"),
        high=("smooth", "max"),
        seeds=("loss", "count"),
    ).reset_index()
    all_seeds = means["lr"].map(curves.groupby("lr")["seed"].nunique())
    # The running minimum: once a seed has failed, its rate has no mean at any later step.
    complete = means.groupby("lr")["seeds"].cummin() == all_seeds
    means[["mean", "smooth"]] = means[["mean", "smooth"]].where(complete)
    return means.drop(columns="seeds")


def highlighted_rates(frame: pd.DataFrame, most: int = MAX_COLOURED) -> list[float]:
    """The rates to draw in colour: the most informative of each verdict, by turns, up to `most`.

    >>> rates = pd.DataFrame({"lr": [1e-4, 1e-3, 0.1, 1.0], "mean": [2.3, 2.0, 0.2, math.nan],
    ...                       "verdict": ["too low", "too low", "good", "diverged"]})
    >>> highlighted_rates(rates, most=3)
    [0.0001, 0.1, 1.0]
    """
    verdicts = rows_on_log_axis(frame).groupby("verdict")
    ranked = {verdict: _most_informative_first(rows) for verdict, rows in verdicts}
    turns = [
        ranked.get(verdict, [])[turn : turn + 1]
        for turn in range(len(SYMBOL_VARIANTS))
        for verdict in theme.VERDICT_STYLES
    ]
    return sorted([lr for turn in turns for lr in turn][:most])


def _most_informative_first(rows: pd.DataFrame) -> list[float]:
    """Of the good rates first the best; of the others first the one furthest from the good ones."""
    rates = sorted(rows["lr"])
    first = [rates[-1], rates[0]]
    match rows["verdict"].iloc[0]:
        case "good":
            # No finite mean gives infinity, which no rate has.
            best = rows.loc[rows["mean"] == finite_values(rows["mean"]).min(initial=np.inf), "lr"]
            first = [*best[:1], rates[0], rates[-1]]
        case "too low":
            first = [rates[0], rates[-1]]
    return list(dict.fromkeys([*first, rates[len(rates) // 2], *rates]))


def failed_runs(curves: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of a search that diverged, or whose loss is no longer finite.

    Returns:
        One row per run: `lr`, `seed`, `step` of its end, `loss`, the last finite one there.
    """
    rows = []
    candidates = rows_on_log_axis(curves)
    candidates = candidates[candidates["lr"].isin(frame.loc[frame["failed"] > 0, "lr"])]
    for (lr, seed), run in candidates.groupby(["lr", "seed"]):
        bad = run.loc[~np.isfinite(run["loss"]), "step"]
        end = bad.min() if len(bad) else run["step"].max()
        if len(bad) or end < curves["step"].max():
            before = finite_values(run.loc[run["step"] <= end, "loss"])
            rows.append((lr, seed, end, before[-1] if len(before) else math.nan))
    columns = {"lr": float, "seed": "int64", "step": "int64", "loss": float}
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def highlighted_runs(frame: pd.DataFrame, most: int = MAX_COLOURED) -> list[str]:
    """The runs of a trace to draw in colour: evenly from the lowest final loss to the highest."""
    losses = frame.assign(loss=clipped_losses(frame["loss"]))
    ends = losses.groupby("run", sort=False)["loss"].agg(end_level)
    ranked = list(ends.sort_values(kind="stable", na_position="last").index)
    if len(ranked) > most:
        ranked = [ranked[i] for i in np.linspace(0, len(ranked) - 1, most).round().astype(int)]
    return [str(run) for run in ends.index if run in set(ranked)]


def loss_range(lines: ArrayLike, starts: ArrayLike, calm: ArrayLike) -> AxisRange:
    """The losses to show: from the lowest of all lines to the highest start.

    Above it, up to half of that span, as far as the `calm` losses reach.
    """
    losses, first = finite_values(lines), finite_values(starts)
    if not len(losses) or not len(first):
        return axis_range(losses)
    top = first.max()
    highest = max([*finite_values(calm), top])
    return axis_range([losses.min(), top, min(highest, top + 0.5 * (top - losses.min()))])


# --- the figures


def trace_figure(frame: pd.DataFrame, floor: float | None = None) -> "Figure":
    """Losses over steps, one line per run.

    The table has the columns `TRACE` of `lrtune.results.schema`. Bold: smoothed; thin behind: the
    raw losses. With more than eight runs, eight of them, from the lowest final loss to the highest,
    are in colour, the others grey. `floor` is the number below which the loss cannot fall, if it is
    known.
    """
    losses = frame["loss"]
    shown = loss_range(losses, frame.groupby("run")["loss"].first(), losses)
    runs = {
        str(run): rows.assign(loss=clipped_losses(rows["loss"]), label=theme.escaped(run))
        for run, rows in frame.groupby("run", sort=False)
    }
    coloured = highlighted_runs(frame)
    others = [rows for run, rows in runs.items() if run not in coloured]
    traces = _grey_lines([rows.iloc[drawn_indices(rows["loss"])] for rows in others], "run")
    for index, (run, style) in enumerate(zip(coloured, theme.LINE_STYLES, strict=False)):
        rows, group = runs[run], f"run {index}"
        smooth = rows.assign(loss=running_mean(rows["loss"]).where(rows["loss"].notna()))
        name = rows["label"].iloc[0]
        front = _smooth_line(smooth, style, label=name, name=name, legendgroup=group)
        traces += [_raw_line(rows, style, legendgroup=group), front]
    lost = frame[~np.isfinite(losses)].drop_duplicates("run")
    texts = [f"{theme.escaped(end.run)}<br>step {end.step}" for end in lost.itertuples()]
    crosses = _crosses(lost["step"], shown.at(0.97), texts, "loss not finite")
    return _figure([*traces, *crosses], losses, shown, floor)


def curves_figure(
    curves: pd.DataFrame, frame: pd.DataFrame, floor: float | None = None
) -> "Figure":
    """Losses of the short runs of a search over their steps.

    The tables have the columns `CURVES` and `RATES` of `lrtune.results.schema`. Bold: up to eight
    rates, each the smoothed mean over the seeds, with a band from the lowest to the highest seed
    (or the raw losses of a single seed); colour and dash: the verdict. Grey: the other rates.
    Crosses: failed runs. A line that ends early without a cross was stopped early. `floor` is the
    number below which the loss cannot fall, if it is known.
    """
    means, coloured = mean_curves(curves), highlighted_rates(frame)
    verdicts = dict(zip(frame["lr"], frame["verdict"], strict=True))
    calm = means["lr"].map(verdicts) != "diverged"  # an exploding rate must not set the axis
    starts = means.loc[means["step"] == 0, "mean"]
    shown = loss_range(means["smooth"], starts, means.loc[calm, "smooth"])
    lines = {float(lr): rows for lr, rows in means.groupby("lr")}
    others = [
        rows.assign(loss=rows["smooth"], label=f"rate {lr:.4g}")
        for lr, rows in lines.items()
        if lr not in coloured
    ]
    traces = _grey_lines(others, "rate")
    several_seeds = bool((means["high"] > means["low"]).any())
    # The good rates come last, in front of all others; `legendrank` puts the low rates first.
    for verdict in ("diverged", "high", "too low", "good"):
        rates = [lr for lr in coloured if verdicts[lr] == verdict and lr in lines]
        for nth, lr in enumerate(rates):
            traces += _coloured_rate(lr, lines[lr], verdict, nth=nth, band=several_seeds)
    failed = failed_runs(curves, frame)
    heights = failed["loss"].fillna(MAX_LOSS).clip(shown.at(0.03), shown.at(0.97))
    texts = [
        f"rate {run.lr:.4g}, seed {run.seed}<br>ended at step {run.step}"
        for run in failed.itertuples()
    ]
    crosses = _crosses(failed["step"], heights, texts, "failed run")
    return _figure([*traces, *crosses], means["low"], shown, floor)


def _coloured_rate(
    lr: float, rows: pd.DataFrame, verdict: str, *, nth: int, band: bool
) -> list[theme.Part]:
    style, group = theme.VERDICT_STYLES[verdict], f"{lr:.6g}"
    front = _smooth_line(
        rows.assign(loss=rows["smooth"]),
        theme.Style(style.colour, style.dash, style.symbol + SYMBOL_VARIANTS[nth]),
        label=f"rate {lr:.4g} ({verdict})",
        width=2.5 if nth == 0 else 1.75,
        name=f"{lr:.4g}",
        legendgroup=group,
        legendrank=100 * list(theme.VERDICT_STYLES).index(verdict) + nth,
    )
    if nth == 0:
        front["legendgrouptitle"] = {"text": verdict}
    if not band:
        return [_raw_line(rows.assign(loss=rows["mean"]), style, legendgroup=group), front]
    rows = rows[rows["low"].notna()]
    # There along the upper edge and back along the lower one: plotly fills what the line encloses.
    behind = theme.line(
        [*rows["step"], *rows["step"][::-1]],
        [*rows["high"], *rows["low"][::-1]],
        style,
        width=0,
        fill="toself",
        fillcolor=style.colour,
        opacity=0.08 if verdict == "diverged" else 0.16,  # there the seeds lie far apart
        showlegend=False,
        hoverinfo="skip",
        legendgroup=group,
    )
    return [behind, front]


def _smooth_line(rows: pd.DataFrame, style: theme.Style, *, label: str, **more: Any) -> theme.Part:
    """A bold line, with a few symbols on it that tell it apart without colour."""
    marker = {"symbol": style.symbol, "size": 8, "color": style.colour, "maxdisplayed": 6}
    more |= {"mode": "lines+markers", "marker": marker}
    more["hovertemplate"] = f"{label}<br>step %{{x}}<br>%{{y:.4~g}}<extra></extra>"
    return theme.long_line(rows["step"], rows["loss"], style, **more)


def _raw_line(rows: pd.DataFrame, style: theme.Style, **more: Any) -> theme.Part:
    """A thin solid line behind a bold one, without its own entry in the legend."""
    solid = theme.Style(style.colour, "solid", style.symbol)
    more |= {"width": 1, "opacity": 0.4, "showlegend": False, "hoverinfo": "skip"}
    return theme.long_line(rows["step"], rows["loss"], solid, **more)


def _grey_lines(lines: Sequence[pd.DataFrame], noun: str) -> list[theme.Part]:
    """The remaining lines (`step`, `loss`, `label`) as a single grey trace with gaps."""
    if not lines:
        return []
    # One trace with gaps: a legend of a hundred grey lines helps nobody, and drawing them is slow.
    gap = pd.DataFrame({"step": [np.nan], "loss": [np.nan], "label": [""]})
    joined = pd.concat([part for rows in lines for part in (rows[list(gap)], gap)])
    return [
        theme.line(
            joined["step"],
            joined["loss"],
            theme.OTHER_STYLE,
            width=1,
            opacity=0.5,
            name=f"{len(lines)} other {noun}{'s' if len(lines) > 1 else ''}",
            legendgroup="others",
            legendrank=2000,
            text=joined["label"].tolist(),
            hovertemplate="%{text}<br>step %{x}<br>%{y:.4~g}<extra></extra>",
        )
    ]


def _crosses(
    steps: ArrayLike, heights: ArrayLike, texts: Sequence[str], name: str
) -> list[theme.Part]:
    return theme.labelled_markers(steps, heights, theme.FAILED_STYLE, texts, name, legendrank=2001)


def _figure(
    traces: Sequence[theme.Part], losses: ArrayLike, shown: AxisRange, floor: float | None
) -> "Figure":
    return theme.make_figure(
        traces,
        xaxis={"title": {"text": "step"}},
        yaxis=theme.value_axis("training loss", shown),
        meta=theme.log_axis_option(losses, shown, floor),
    )
