"""The comparison: how schedules stand against the recommended one, their rates and losses."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lrtune.errors import LrtuneError
from lrtune.figures import theme
from lrtune.figures.axes import MAX_POINTS, axis_range, finite_values, running_mean
from lrtune.schedules import Schedule, parse

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MAX_COLOURED = 6  # schedules; with more of them, lines without symbols would share a dash
VERDICTS = {
    "recommended": theme.VERDICT_STYLES["good"],
    "ahead": theme.Style(theme.SKY, "solid", "star"),
    "tied": theme.Style(theme.BLUE, "dash", "diamond"),
    "behind": theme.VERDICT_STYLES["high"],
    "not trained": theme.OTHER_STYLE,
}
PRIOR = theme.Style(theme.AXIS_GREY, "dot", "circle-open")


def placed_estimates(table: pd.DataFrame) -> pd.DataFrame:
    """Where each schedule is drawn: `schedule`, `verdict`, `x`, `low`, `high`, `place`.

    A `place` is "inside"; "failed" where a whole training diverged; "unknown" where nothing is.

    >>> table = pd.DataFrame({"schedule": ["a", "b", "c"], "verdict": "tied", "failed": [0, 1, 0],
    ...     "estimate": [0.1, np.inf, np.nan], "low": 0.0, "high": 0.2})
    >>> placed_estimates(table)["place"].tolist()
    ['inside', 'failed', 'unknown']
    """
    points = table[["schedule", "verdict", "low", "high"]].assign(x=table["estimate"])
    finite = np.isfinite(points["x"])
    points["place"] = np.where(finite, "inside", "unknown")
    lost = ~finite & ((table["failed"] > 0) | np.isinf(table["estimate"]))
    points.loc[lost, "place"] = "failed"
    return points


def mean_losses(
    curves: pd.DataFrame, runs: pd.DataFrame, table: pd.DataFrame, steps: int
) -> pd.DataFrame:
    """The smoothed mean loss of whole trainings: columns `schedule`, `step`, `value`."""
    whole = runs[(runs["steps"] == steps) & (runs["stage"] != "samples")]
    names = dict(zip(table["call"], table["schedule"], strict=True))
    owners = whole.set_index("run")["schedule"].map(names).dropna()
    tidy = curves[curves["run"].isin(owners.index)]
    tidy = tidy.assign(schedule=tidy["run"].map(owners), value=tidy["loss"])
    tidy["value"] = tidy["value"].where(np.isfinite(tidy["value"]))
    means = tidy.groupby(["schedule", "step"], sort=False)["value"].mean().reset_index()
    means["value"] = means.groupby("schedule", sort=False)["value"].transform(running_mean)
    return means


def schedule_rates(table: pd.DataFrame, steps: int) -> pd.DataFrame:
    """The rate of each schedule whose code is known: columns `schedule`, `step`, `value`."""
    at = range(0, steps, -(-steps // MAX_POINTS))
    rows: list[tuple[str, int, float]] = []
    for row in table.itertuples():
        try:
            schedule = parse(row.call)
        except LrtuneError:  # the user's own
            continue
        if not isinstance(schedule, Schedule):  # it reacts to the loss
            continue
        rows += [(row.schedule, step, row.lr * schedule(step / steps)) for step in at]
    return pd.DataFrame(rows, columns=["schedule", "step", "value"])


# --- the figures


def ranking_figure(table: pd.DataFrame) -> "Figure":
    """The difference of each schedule's final score to the recommended one's, with its interval.

    The table has the columns `RANKING` of `lrtune.results.schema`. Colour and symbol: the verdict.
    Open circles: what was known before. Crosses at the right edge: a whole training diverged.
    """
    points = placed_estimates(table)
    shown = axis_range([0.0, *finite_values(table[["estimate", "low", "high", "prior"]])])
    prior = table[np.isfinite(table["prior"])]
    traces = (
        [_marks(prior, prior["prior"], PRIOR, "known before, from other tasks")]
        if len(prior)
        else []
    )
    for verdict, style in VERDICTS.items():
        rows = points[(points["verdict"] == verdict) & (points["place"] == "inside")]
        if len(rows):
            bars = {
                "type": "data",
                "array": theme.rounded((rows["high"] - rows["x"]).to_numpy()),
                "arrayminus": theme.rounded((rows["x"] - rows["low"]).to_numpy()),
            }
            traces.append(_marks(rows, rows["x"], style, verdict, error_x=bars))
    failed = points[points["place"] == "failed"]
    if len(failed):
        edge = pd.Series(shown.at(0.98), index=failed.index)
        traces.append(_marks(failed, edge, theme.FAILED_STYLE, "diverged"))
    order = [theme.escaped(name) for name in table["schedule"]][::-1]  # plotly counts from below
    zero = {"type": "line", "xref": "x", "yref": "y domain", "x0": 0, "x1": 0, "y0": 0, "y1": 1}
    return theme.make_figure(
        traces,
        shapes=[{**zero, "line": {"color": theme.AXIS_GREY, "width": 1}}],
        xaxis=theme.value_axis("final score less that of the recommended schedule", shown),
        yaxis={"categoryorder": "array", "categoryarray": order, "showgrid": False},
        height=max(theme.HEIGHT, 120 + 28 * len(table)),  # pixels, 28 for the name of a schedule
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )


def _marks(
    rows: pd.DataFrame, x: pd.Series, style: theme.Style, name: str, **more: Any
) -> theme.Part:
    hover = f"%{{y}}<br>{name}<br>difference %{{x:.3~g}}<extra></extra>"
    marks = theme.markers(x, [], style, size=10, name=name, hovertemplate=hover, **more)
    return {**marks, "y": [theme.escaped(schedule) for schedule in rows["schedule"]]}


def schedules_figure(table: pd.DataFrame, steps: int) -> "Figure":
    """The rate of every schedule over the steps, at its own peak."""
    rates = schedule_rates(table, steps)
    return _lines(rates, table, "learning rate", axis_range(rates["value"], above=0.06))


def losses_figure(
    curves: pd.DataFrame, runs: pd.DataFrame, table: pd.DataFrame, steps: int
) -> "Figure":
    """The training loss over the steps, as the mean of each schedule's whole trainings.

    The tables have the columns `CURVES`, `TRIED` and `RANKING` of `lrtune.results.schema`.
    """
    means = mean_losses(curves, runs, table, steps)
    values = means["value"]
    if len(values):
        start = means.groupby("schedule", sort=False)["value"].first().max()
        # A schedule that explodes leaves the picture instead of flattening all others.
        values = values[values <= start + 0.25 * abs(start - values.min())]
    return _lines(means, table, "training loss", axis_range(values, above=0.06))


def _lines(paths: pd.DataFrame, table: pd.DataFrame, title: str, shown: Any) -> "Figure":
    """One line per schedule; the first six of the table are in colour."""
    traces = []
    places = [row for row in table.itertuples() if (paths["schedule"] == row.schedule).any()]
    for place, row in reversed(list(enumerate(places))):  # the best one in front
        path = paths[paths["schedule"] == row.schedule]
        name = f"{theme.escaped(row.schedule)} at {row.lr:.3g}"
        hover = f"{name}<br>step %{{x}}<br>%{{y:.4~g}}<extra></extra>"
        style: dict[str, Any] = {"style": theme.OTHER_STYLE, "width": 1}
        if place < MAX_COLOURED:
            style = {"style": theme.LINE_STYLES[place]}
        more = {"name": name, "hovertemplate": hover, "legendrank": place + 1}
        traces.append(theme.long_line(path["step"], path["value"], **style, **more))
    axis = {"title": {"text": "step"}}
    return theme.make_figure(traces, xaxis=axis, yaxis=theme.value_axis(title, shown))
