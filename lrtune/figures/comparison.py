"""The comparison: who is how far behind, every schedule's path, rates by schedules, horizons."""

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lrtune.figures import look
from lrtune.figures.axes import finite, lightly, on_log_axis, thin, view

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURED = 6
"""Schedules that are told apart by colour, dash and symbol; the others are grey."""

COLOURS = (look.GREEN, look.BLUE, look.VERMILLION, look.PURPLE, look.SKY, look.ORANGE)


def path_points(paths: pd.DataFrame, column: str) -> pd.DataFrame:
    """The mean over the seeds: one row per `schedule` and `step`, with `value`.

    A loss is smoothed lightly, a rate is not.

    >>> paths = pd.DataFrame({"schedule": "a", "seed": [0, 1], "step": 0, "loss": [1.0, 3.0]})
    >>> path_points(paths, "loss")
      schedule  step  value
    0        a     0    2.0
    """
    tidy = paths.assign(value=paths[column].where(np.isfinite(paths[column])))
    means = tidy.groupby(["schedule", "step"], sort=False)["value"].mean().reset_index()
    if column == "loss":
        means["value"] = means.groupby("schedule", sort=False)["value"].transform(lightly)
    return means


def heat_cells(candidates: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Score by schedule (rows, the best first) and rate (columns, in steps of sqrt(10)).

    The scores are those of the shortest horizon; where several candidates share a cell, the best
    of them; NaN where none ran or all failed.

    >>> candidates = pd.DataFrame(
    ...     {"horizon": 5, "schedule": "a", "lr": [0.1, 0.11, 0.3], "score": [2.0, 1.0, 3.0]}
    ... )
    >>> heat_cells(candidates, pd.DataFrame({"schedule": ["a"]})).values.tolist()
    [[1.0, 3.0]]
    """
    first = on_log_axis(candidates[candidates["horizon"] == candidates["horizon"].min()])
    rates = 10 ** (np.round(np.log10(first["lr"]) * 2) / 2)
    cells = first.assign(rate=rates.map("{:.3g}".format), place=rates).pivot_table(
        index="schedule", columns=["place", "rate"], values="score", aggfunc="min", dropna=False
    )
    cells.columns = [rate for _, rate in cells.columns]
    return cells.dropna(axis=1, how="all").reindex(table["schedule"])


def horizon_ranks(candidates: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Each schedule's rank by its best candidate: schedules as rows, horizons as columns.

    The last column, "fresh seeds", is the rank in the table.

    >>> candidates = pd.DataFrame(
    ...     {"horizon": [5, 5, 9, 9], "schedule": ["a", "b"] * 2, "score": [1.0, 2.0, 4.0, 3.0]}
    ... )
    >>> ranks = horizon_ranks(candidates, pd.DataFrame({"schedule": ["b", "a"], "rank": [1, 2]}))
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
    """How far each schedule's final loss lies behind the best, with its interval.

    Args:
        table: Columns as in `lrtune.results.schema.RANKING`.

    Returns:
        A plotly figure. Green circles: tied with the best; purple triangles: behind it; crosses
        at the right edge: diverged in some fresh seed.
    """
    shown = view([0.0, *finite(table[["difference", "low", "high"]])], below=0.04, above=0.08)
    raced = np.isfinite(table["difference"])
    kinds = [
        ("tied with the best", raced & table["tied"], look.VERDICTS["good"]),
        ("behind the best", raced & ~table["tied"], look.VERDICTS["high"]),
        ("diverged", ~raced, look.FAILED),
    ]
    traces = []
    for told, chosen, style in kinds:
        rows = table[chosen]
        if rows.empty:
            continue
        reach = (rows["high"] - rows["difference"]).to_numpy()
        failed = told == "diverged"
        texts = [f"{look.name(r.call)}<br>peak rate {r.lr:.3g}" for r in rows.itertuples()]
        marks = look.marks(
            [shown.at(0.98)] * len(rows) if failed else rows["difference"],
            np.zeros(len(rows)),
            style,
            size=10,
            name=told,
            text=texts,
            hovertemplate="%{text}<br>behind by %{x:.3~g}<extra></extra>",
            error_x={"type": "data", "array": look.numbers(reach), "visible": not failed},
        )
        traces.append({**marks, "y": [look.name(name) for name in rows["schedule"]]})
    order = [look.name(name) for name in table["schedule"]][::-1]
    return look.figure(
        traces,
        xaxis=look.value_axis("final loss behind the best", shown),
        yaxis={"categoryorder": "array", "categoryarray": order, "showgrid": False},
        height=max(look.HEIGHT, 120 + 28 * len(table)),
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )


def paths_figure(paths: pd.DataFrame, table: pd.DataFrame, column: str) -> "Figure":
    """Every schedule's rate or loss over the steps, the mean over the fresh seeds.

    Args:
        paths: Columns as in `lrtune.results.schema.PATHS`.
        table: Columns as in `lrtune.results.schema.RANKING`; the best six are told apart.
        column: `lr` or `loss`.

    Returns:
        A plotly figure.
    """
    points = path_points(paths, column)
    seen = points["value"]
    if column == "loss" and len(seen):
        starts = points.groupby("schedule", sort=False)["value"].first().max()
        seen = seen[seen <= starts + 0.25 * abs(starts - seen.min())]
    shown = view(seen, above=0.06)
    traces = []
    for place, row in reversed(list(enumerate(table.itertuples()))):
        line = points[points["schedule"] == row.schedule]
        line = line.iloc[thin(line["value"].to_numpy())]
        style = _style(place)
        told = f"{look.name(row.schedule)} at {row.lr:.3g}"
        traces.append(
            look.line(
                line["step"],
                line["value"],
                style,
                width=2.5 if place < COLOURED else 1,
                name=told,
                legendrank=place + 1,
                hovertemplate=f"{told}<br>step %{{x}}<br>%{{y:.4~g}}<extra></extra>",
            )
        )
    title = {"lr": "learning rate", "loss": "training loss"}[column]
    axis = {"title": {"text": "step (optimizer update)"}}
    return look.figure(traces, xaxis=axis, yaxis=look.value_axis(title, shown))


def heat_figure(candidates: pd.DataFrame, table: pd.DataFrame) -> "Figure":
    """Score of every schedule at every rate, on the shortest horizon.

    Args:
        candidates: Columns as in `lrtune.results.schema.CANDIDATES`.
        table: Columns as in `lrtune.results.schema.RANKING`.

    Returns:
        A plotly figure. Dark is low, which is good; empty: not tried, or diverged. The colours end
        at twice the distance from the best score to the median one.
    """
    cells = heat_cells(candidates, table)
    seen = finite(cells)
    low = float(seen.min()) if len(seen) else 0.0
    high = low + 2 * float(np.median(seen) - low) if len(seen) else 1.0
    trace = {
        "type": "heatmap",
        "x": list(cells.columns),
        "y": [look.name(name) for name in cells.index],
        "z": [look.numbers(row) for row in cells.to_numpy(float)],
        "zmin": low,
        "zmax": high if high > low else low + 1.0,
        "colorscale": "Viridis",
        "xgap": 2,
        "ygap": 2,
        "colorbar": {"title": {"text": "score"}, "thickness": 14, "outlinewidth": 0},
        "hovertemplate": "%{y}<br>rate %{x}<br>%{z:.4~g}<extra></extra>",
    }
    return look.figure(
        [trace],
        xaxis={"type": "category", "title": {"text": "peak learning rate"}, "showgrid": False},
        yaxis={"autorange": "reversed", "showgrid": False},
        height=max(look.HEIGHT, 120 + 28 * len(table)),
    )


def stability_figure(
    candidates: pd.DataFrame, table: pd.DataFrame, stability: pd.DataFrame
) -> "Figure":
    """How the ranks change with the horizon; Kendall's tau with the last ranking above each.

    Args:
        candidates: Columns as in `lrtune.results.schema.CANDIDATES`.
        table: Columns as in `lrtune.results.schema.RANKING`.
        stability: Columns as in `lrtune.results.schema.STABILITY`; its horizons are shown.

    Returns:
        A plotly figure.
    """
    ranked = candidates[candidates["horizon"].isin(stability["horizon"])]
    ranks = horizon_ranks(ranked, table)
    columns = [f"{name} steps" if name.isdigit() else name for name in ranks.columns]
    traces = []
    for place, (name, row) in enumerate(ranks.iterrows()):
        style = _style(place)
        line = look.line([], [], style, width=2.5 if place < COLOURED else 1)
        told = look.name(name)
        traces.append(
            {
                **line,
                "mode": "lines+markers",
                "x": columns,
                "y": look.numbers(row),
                "marker": {"symbol": style.symbol, "size": 9, "color": style.colour},
                "name": told,
                "cliponaxis": False,
                "hovertemplate": f"{told}<br>%{{x}}: rank %{{y}}<extra></extra>",
            }
        )
    taus = [
        {
            "x": f"{row.horizon} steps",
            "xref": "x",
            "y": 1.0,
            "yref": "y domain",
            "yanchor": "bottom",
            "text": f"tau {row.tau:.2f}",
            "showarrow": False,
        }
        for row in stability.itertuples()
        if math.isfinite(row.tau) and f"{row.horizon} steps" in columns
    ]
    return look.figure(
        traces,
        xaxis={"type": "category", "title": {"text": "horizon"}, "showgrid": False},
        yaxis={"title": {"text": "rank"}, "range": [len(ranks) + 0.5, 0.5], "dtick": 1},
        annotations=taus,
    )


def _style(place: int) -> look.Style:
    if place >= COLOURED:
        return look.UNKNOWN
    return look.Style(COLOURS[place], look.DASHES[place], look.SYMBOLS[place])
