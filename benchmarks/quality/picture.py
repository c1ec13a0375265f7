"""One picture: every method's regret on every task."""

from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.quality.regret import geometric, per_task

OPEN, HELD_OUT = "#0072B2", "#D55E00"
"""Okabe and Ito's blue and vermilion; the marks differ, too."""


def draw(regrets: pd.DataFrame, path: Path) -> None:
    """One row per method, the best on top; one mark per task, and a bar at the geometric mean."""
    tasks = per_task(regrets)
    means = tasks.apply(lambda column: geometric(column.dropna())).sort_values(ascending=False)
    held_out = regrets.drop_duplicates("task").set_index("task")["held_out"].reindex(tasks.index)
    with mpl.rc_context({"svg.hashsalt": "lrtune", "font.size": 9}):
        figure = Figure(figsize=(7, 0.28 * len(means) + 1), layout="constrained")
        axes = figure.add_subplot()
        for row, (method, mean) in enumerate(means.items()):
            axes.plot([mean, mean], [row - 0.35, row + 0.35], color="black", linewidth=2)
            for which, colour, mark in ((False, OPEN, "o"), (True, HELD_OUT, "^")):
                values = tasks.loc[held_out == which, method]
                axes.plot(values, [row] * len(values), mark, color=colour, markersize=4, alpha=0.6)
        axes.set_xscale("log")
        axes.set_yticks(range(len(means)), list(means.index))
        axes.axvline(1, color="grey", linewidth=0.5)
        axes.set_xlabel("regret; circles: open tasks, triangles: held out, bars: geometric means")
        figure.savefig(path, metadata={"Date": None})
