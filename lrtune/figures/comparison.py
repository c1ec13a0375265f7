"""The comparison: final losses with intervals, paths of rates and losses, scores, ranks."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lrtune.figures import theme
from lrtune.figures.axes import axis_range, finite_values, rows_on_log_axis, running_mean

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MAX_COLOURED = 6  # schedules; with more of them, lines without symbols would share a dash


def mean_paths(paths: pd.DataFrame, column: str) -> pd.DataFrame:
    """The mean of a column over the seeds: one row per `schedule` and `step`, with `value`.

    Losses are smoothed, rates are not.
    """
    tidy = paths.assign(value=paths[column].where(np.isfinite(paths[column])))
    means = tidy.groupby(["schedule", "step"], sort=False)["value"].mean().reset_index()
    if column == "loss":
        means["value"] = means.groupby("schedule", sort=False)["value"].transform(running_mean)
    return means


def score_matrix(candidates: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The best score at the shortest horizon: schedules as rows, half decades of rates as columns.

    The rows have the order of the table; NaN where no candidate was trained or all failed.

    >>> candidates = pd.DataFrame(
    ...     {"horizon": 5, "schedule": "a", "lr": [0.1, 0.11, 0.3], "score": [2.0, 1.0, 3.0]}
    ... )
    >>> score_matrix(candidates, pd.DataFrame({"schedule": ["a"]})).values.tolist()
    [[1.0, 3.0]]
    """
    first = rows_on_log_axis(candidates[candidates["horizon"] == candidates["horizon"].min()])
    rates = 10 ** (np.round(np.log10(first["lr"]) * 2) / 2)
    # Two levels, as the numbers sort the columns and the texts name them.
    cells = first.assign(rate=rates.map("{:.3g}".format), place=rates).pivot_table(
        index="schedule", columns=["place", "rate"], values="score", aggfunc="min", dropna=False
    )
    cells.columns = [rate for _, rate in cells.columns]
    return cells.dropna(axis=1, how="all").reindex(table["schedule"])


def ranks_by_horizon(candidates: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The rank of each schedule's best candidate: schedules as rows, horizons as columns.

    The last column, "fresh seeds", is the rank in the table.

    >>> candidates = pd.DataFrame(
    ...     {"horizon": [5, 5, 9, 9], "schedule": ["a", "b"] * 2, "score": [1.0, 2.0, 4.0, 3.0]}
    ... )
    >>> ranks = ranks_by_horizon(candidates, pd.DataFrame({"schedule": ["b", "a"], "rank": [1, 2]}))
    >>> ranks.columns.tolist(), ranks.to_numpy().tolist()
    (['5', '9', 'fresh seeds'], [[2.0, 1.0, 1.0], [1.0, 2.0, 2.0]])
    """
    best = candidates.assign(score=candidates["score"].fillna(np.inf)).pivot_table(
        "score", "schedule", "horizon", aggfunc="min"
    )
    ranks = best.rank(method="first").reindex(table["schedule"])
    return ranks.rename(columns=str).assign(**{"fresh seeds": table["rank"].to_numpy()})


# --- the figures


def ranking_figure(table: pd.DataFrame) -> "Figure":
    """The difference of each schedule's final loss to the best one, with its interval.

    The table has the columns `RANKING` of `lrtune.results.schema`. Green circles: tied with the
    best; purple triangles: worse; crosses at the right edge: diverged with some fresh seed.
    """
    values = finite_values(table[["difference", "low", "high"]])
    shown = axis_range([0.0, *values], below=0.04, above=0.08)
    finished = np.isfinite(table["difference"])
    kinds = [
        ("tied with the best", finished & table["tied"], theme.VERDICT_STYLES["good"]),
        ("worse than the best", finished & ~table["tied"], theme.VERDICT_STYLES["high"]),
        ("diverged", ~finished, theme.FAILED_STYLE),
    ]
    traces = []
    for name, chosen, style in kinds:
        rows, failed = table[chosen], name == "diverged"
        if rows.empty:
            continue
        reach = theme.rounded((rows["high"] - rows["difference"]).to_numpy())
        texts = [f"{theme.escaped(r.call)}<br>peak rate {r.lr:.3g}" for r in rows.itertuples()]
        marks = theme.markers(
            [shown.at(0.98)] * len(rows) if failed else rows["difference"],
            [],  # the axis has names instead of numbers
            style,
            size=10,
            name=name,
            text=texts,
            hovertemplate="%{text}<br>difference %{x:.3~g}<extra></extra>",
            error_x={"type": "data", "array": reach, "visible": not failed},
        )
        traces.append({**marks, "y": [theme.escaped(name) for name in rows["schedule"]]})
    order = [theme.escaped(name) for name in table["schedule"]][::-1]  # plotly counts from below
    return theme.make_figure(
        traces,
        xaxis=theme.value_axis("difference in final loss to the best schedule", shown),
        yaxis={"categoryorder": "array", "categoryarray": order, "showgrid": False},
        height=_height(table),
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )


def _height(table: pd.DataFrame) -> int:
    return max(theme.HEIGHT, 120 + 28 * len(table))  # pixels, 28 for the name of a schedule


def paths_figure(paths: pd.DataFrame, table: pd.DataFrame, column: str) -> "Figure":
    """The rate (`lr`) or the `loss` of every schedule over the steps, as means of the fresh seeds.

    The tables have the columns `PATHS` and `RANKING` of `lrtune.results.schema`. The first six
    schedules of the ranking are in colour.
    """
    means = mean_paths(paths, column)
    values = means["value"]
    if column == "loss" and len(values):
        start = means.groupby("schedule", sort=False)["value"].first().max()
        # A schedule that explodes leaves the picture instead of flattening all others.
        values = values[values <= start + 0.25 * abs(start - values.min())]
    shown = axis_range(values, above=0.06)
    traces = []
    for place, row in reversed(list(enumerate(table.itertuples()))):  # the best one in front
        path = means[means["schedule"] == row.schedule]
        name = f"{theme.escaped(row.schedule)} at {row.lr:.3g}"
        hover = f"{name}<br>step %{{x}}<br>%{{y:.4~g}}<extra></extra>"
        more = {"name": name, "hovertemplate": hover, "legendrank": place + 1}
        traces.append(theme.long_line(path["step"], path["value"], **_ranked_style(place), **more))
    title = {"lr": "learning rate", "loss": "training loss"}[column]
    axis = {"title": {"text": "step"}}
    return theme.make_figure(traces, xaxis=axis, yaxis=theme.value_axis(title, shown))


def heat_figure(candidates: pd.DataFrame, table: pd.DataFrame) -> "Figure":
    """The score of every schedule at every rate, at the shortest horizon.

    The tables have the columns `CANDIDATES` and `RANKING` of `lrtune.results.schema`. Dark is low,
    which is good; empty: not trained, or diverged. The colours end at twice the distance from the
    best score to the median one.
    """
    cells = score_matrix(candidates, table)
    finite = finite_values(cells)
    low = float(finite.min()) if len(finite) else 0.0
    high = low + 2 * float(np.median(finite) - low) if len(finite) else 1.0
    trace = {
        "type": "heatmap",
        "x": list(cells.columns),
        "y": [theme.escaped(name) for name in cells.index],
        "z": np.array(theme.rounded(cells.to_numpy(float).ravel()), object)
        .reshape(cells.shape)
        .tolist(),
        "zmin": low,
        "zmax": high if high > low else low + 1.0,  # equal ends would leave no scale
        "colorscale": "Viridis",
        "xgap": 2,
        "ygap": 2,
        "colorbar": {"title": {"text": "score"}, "thickness": 14, "outlinewidth": 0},
        "hovertemplate": "%{y}<br>rate %{x}<br>%{z:.4~g}<extra></extra>",
    }
    return theme.make_figure(
        [trace],
        xaxis={"type": "category", "title": {"text": "peak learning rate"}, "showgrid": False},
        yaxis={"autorange": "reversed", "showgrid": False},
        height=_height(table),
    )


def stability_figure(
    candidates: pd.DataFrame, table: pd.DataFrame, stability: pd.DataFrame
) -> "Figure":
    """How the ranks change with the horizon, with Kendall's tau to the final ranking above each.

    The tables have the columns `CANDIDATES`, `RANKING` and `STABILITY` of `lrtune.results.schema`;
    the horizons of the last one are drawn.
    """
    ranks = ranks_by_horizon(candidates[candidates["horizon"].isin(stability["horizon"])], table)
    columns = [f"{name} steps" if name.isdigit() else name for name in ranks.columns]
    traces = []
    for place, (schedule, row) in enumerate(ranks.iterrows()):
        name, look = theme.escaped(schedule), _ranked_style(place)
        line = theme.line([], row, **look, name=name, cliponaxis=False)
        marker = {"symbol": look["style"].symbol, "size": 9, "color": look["style"].colour}
        hover = f"{name}<br>%{{x}}: rank %{{y}}<extra></extra>"
        points = {"mode": "lines+markers", "marker": marker, "hovertemplate": hover}
        traces.append({**line, **points, "x": columns})
    taus = [
        theme.label(f"{row.horizon} steps", f"tau {row.tau:.2f}")
        for row in stability.itertuples()
        if math.isfinite(row.tau) and f"{row.horizon} steps" in columns
    ]
    return theme.make_figure(
        traces,
        xaxis={"type": "category", "title": {"text": "horizon"}, "showgrid": False},
        yaxis={"title": {"text": "rank"}, "range": [len(ranks) + 0.5, 0.5], "dtick": 1},
        annotations=taus,
    )


def _ranked_style(place: int) -> dict[str, Any]:
    """The style and the width of the line of the schedule in this place of the table."""
    if place < MAX_COLOURED:
        return {"style": theme.LINE_STYLES[place]}
    return {"style": theme.OTHER_STYLE, "width": 1}
