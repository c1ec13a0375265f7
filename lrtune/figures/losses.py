"""Losses over steps: the runs of a trace, and those of a search."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lrtune.analysis.curves import FAILED_OUTCOMES, end_level
from lrtune.figures import theme
from lrtune.figures.axes import (
    MAX_LOSS,
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


def joined_curves(curves: pd.DataFrame, runs: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The losses of all runs of a search, with what each run is.

    Returns:
        One row per run and step, in the order of the runs: `run`, `step`, `loss`; `lr`, `seed`,
        `outcome` of the run; `verdict` of its rate; `short`, whether it is a short run of the
        coarse stage.
    """
    known = rows_on_log_axis(runs).drop_duplicates("run")
    known = known.loc[known["stage"] != "before", ["run", "stage", "lr", "seed", "outcome"]]
    verdicts = frame.drop_duplicates("lr").set_index("lr")["verdict"]
    known["verdict"] = known["lr"].map(verdicts).astype(object).fillna("unknown")
    known["short"] = known["stage"] == "coarse"
    return known.drop(columns="stage").merge(curves, on="run")[
        ["run", "step", "loss", "lr", "seed", "outcome", "verdict", "short"]
    ]


def coloured_runs(lines: pd.DataFrame, most: int = MAX_COLOURED) -> list[str]:
    """The runs to draw in colour: the most informative of each verdict, by turns, up to `most`.

    Of the good rates the runs that end lowest; of the others those furthest from the good ones.

    >>> lines = pd.DataFrame({"run": ["a", "b", "c"], "step": 0, "lr": [1e-4, 0.1, 0.1],
    ...                       "loss": [2.3, 0.3, 0.2], "verdict": ["too low", "good", "good"]})
    >>> coloured_runs(lines, most=2)
    ['a', 'c']
    """
    ends = lines.groupby("run", sort=False).agg(
        lr=("lr", "first"), verdict=("verdict", "first"), loss=("loss", end_level)
    )
    order = {"good": ends["loss"], "too low": ends["lr"]}
    ranked = {
        verdict: list(
            order.get(verdict, -ends["lr"])[ends["verdict"] == verdict].sort_values().index
        )
        for verdict in theme.VERDICT_STYLES
    }
    turns = [
        run
        for turn in range(len(SYMBOL_VARIANTS))
        for verdict in theme.VERDICT_STYLES
        for run in ranked[verdict][turn : turn + 1]
    ]
    return [str(run) for run in ends.index if run in turns[:most]]


def failed_ends(lines: pd.DataFrame) -> pd.DataFrame:
    """Where the runs ended that diverged, or whose loss was no longer finite.

    Returns:
        One row per run: `run`, `lr`, `seed`, `short`; `step` of its end; `loss`, the last finite
        one, or NaN.
    """
    failed = lines[lines["outcome"].isin(FAILED_OUTCOMES)]
    ends = failed.groupby("run", sort=False).last()  # of `loss` the last one that is no NaN
    ends["loss"] = clipped_losses(failed.set_index("run")["loss"]).groupby(level=0).last()
    return ends[["lr", "seed", "short", "step", "loss"]].reset_index()


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
    curves: pd.DataFrame, runs: pd.DataFrame, frame: pd.DataFrame, floor: float | None = None
) -> "Figure":
    """Training losses of all runs of a search over their steps.

    The tables have the columns `CURVES`, `TRIED` and `RATES` of `lrtune.results.schema`. The short
    runs of the coarse stage have a panel of their own. Bold: the smoothed losses of up to eight
    runs in each panel, thin behind them each step; colour and dash: the verdict on their rate.
    Grey: the other runs. Crosses: failed runs. `floor` is the number below which the loss cannot
    fall, if it is known.
    """
    lines = joined_curves(curves, runs, frame)
    lines["loss"] = clipped_losses(lines["loss"])
    calm = lines["verdict"] != "diverged"  # an exploding rate must not set the axis
    starts = lines.loc[lines["step"] == 0, "loss"]
    shown = loss_range(lines["loss"], starts, lines.loc[calm, "loss"])
    panels = [rows for _, rows in lines.groupby("short", sort=True)][::-1]  # the short ones first
    traces: list[theme.Part] = []
    for panel, axis in zip(panels, ("x", "x2"), strict=False):
        traces += [{**trace, "xaxis": axis} for trace in _panel(panel, shown)]
    layout: dict[str, theme.Part] = {
        name: {"title": {"text": _steps(panel)}}
        for name, panel in zip(("xaxis", "xaxis2"), panels, strict=False)
    }
    if len(panels) == 2:  # both stand on one axis of losses
        layout["xaxis"]["domain"], layout["xaxis2"]["domain"] = [0.0, 0.4], [0.46, 1.0]
        layout["xaxis2"]["anchor"] = "y"
    return _figure(traces, lines["loss"], shown, floor, **layout)


def _steps(panel: pd.DataFrame) -> str:
    return "step of the short runs" if panel["short"].any() else "step"


def _panel(lines: pd.DataFrame, shown: AxisRange) -> list[theme.Part]:
    """The lines and crosses of one panel."""
    several = len(set(lines["seed"])) > 1
    # Older pandas groups by the text before a NUL, so the names are compared one by one.
    by_run = {run: lines[lines["run"] == run] for run in dict.fromkeys(map(str, lines["run"]))}
    labels = {run: _label(rows.iloc[0], seed=several) for run, rows in by_run.items()}
    coloured = coloured_runs(lines)
    others = [
        rows.assign(label=f"lr {labels[run]}").iloc[drawn_indices(rows["loss"])]
        for run, rows in by_run.items()
        if run not in coloured
    ]
    traces = _grey_lines(others, "run")
    # The good rates come last, in front of all others; `legendrank` puts the low rates first.
    for verdict in ("diverged", "high", "too low", "good"):
        same = [run for run in coloured if by_run[run]["verdict"].iloc[0] == verdict]
        for nth, run in enumerate(same):
            traces += _coloured_run(by_run[run], labels[run], nth)
    failed = failed_ends(lines)
    heights = failed["loss"].fillna(MAX_LOSS).clip(shown.at(0.03), shown.at(0.97))
    texts = [f"lr {labels[end.run]}<br>ended at step {end.step}" for end in failed.itertuples()]
    return traces + _crosses(failed["step"], heights, texts, "failed run")


def _label(run: pd.Series, *, seed: bool) -> str:
    return f"{run['lr']:.4g}" + f", seed {run['seed']}" * seed


def _coloured_run(rows: pd.DataFrame, label: str, nth: int) -> list[theme.Part]:
    """The smoothed line of a run, with its losses behind it; `nth` of its verdict."""
    verdict, short = rows["verdict"].iloc[0], bool(rows["short"].iloc[0])
    style, group = theme.VERDICT_STYLES[verdict], f"{label} {short}"
    front = _smooth_line(
        rows.assign(loss=running_mean(rows["loss"]).where(rows["loss"].notna())),
        theme.Style(style.colour, style.dash, style.symbol + SYMBOL_VARIANTS[nth]),
        label=f"lr {label} ({verdict})",
        width=2.5 if nth == 0 else 1.75,
        name=label,
        legendgroup=group,
        legendrank=100 * list(theme.VERDICT_STYLES).index(verdict) + nth + 500 * (not short),
    )
    if nth == 0:
        front["legendgrouptitle"] = {"text": f"{'short, ' * short}{verdict}"}
    return [_raw_line(rows, style, legendgroup=group), front]


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
    traces: Sequence[theme.Part],
    losses: ArrayLike,
    shown: AxisRange,
    floor: float | None,
    **layout: theme.Part,
) -> "Figure":
    axes = {
        "xaxis": {"title": {"text": "step"}},
        "yaxis": theme.value_axis("training loss", shown),
        "meta": theme.log_axis_option(losses, shown, floor),
    }
    return theme.make_figure(traces, **(axes | layout))
