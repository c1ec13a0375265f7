"""From losses to regret, and from regrets to a table's rows. Pure."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

FAILURE = 2.0
"""A regret above it is a failure, and so is a run that diverged."""

LEVEL = 0.02
"""Two methods are level on a task where their regrets differ by a smaller share."""

REGRETS = ("task", "held_out", "method", "repeat", "lr", "regret", "failed", "trainings", "seconds")


def regret(loss: float, best: float, guessing: float) -> float:
    """The loss over that of the oracle; one that is worse than guessing counts as guessing.

    >>> regret(0.3, 0.2, 2.0), regret(math.inf, 0.5, 2.0)
    (1.4999999999999998, 4.0)
    """
    return (guessing if math.isnan(loss) else min(loss, guessing)) / best


def geometric(values: Iterable[float]) -> float:
    """The geometric mean; NaN of nothing.

    >>> round(geometric([1.0, 4.0]), 6)
    2.0
    """
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs)) if logs else math.nan


def per_task(regrets: pd.DataFrame) -> pd.DataFrame:
    """Geometric mean over the repeats: methods as columns, tasks as rows."""
    logs = np.log(regrets["regret"].astype(float))
    means = logs.groupby([regrets["task"], regrets["method"]], sort=False).mean()
    return np.exp(means).reset_index().pivot_table("regret", "task", "method", sort=False)


def summary(regrets: pd.DataFrame, reference: str) -> pd.DataFrame:
    """One row per method, the lowest geometric mean first.

    Args:
        regrets: Columns `REGRETS`.
        reference: The method that wins or loses against each of the others.

    Returns:
        Columns `tasks`, `mean` (geometric), `worst`, `failures` (a share of the answers),
        `trainings` and `seconds` (means), `won` and `lost`: the tasks on which the reference is
        better or worse than the method by more than `LEVEL`.
    """
    tasks = per_task(regrets)
    by = regrets.groupby("method", sort=False)
    table = pd.DataFrame({
        "tasks": tasks.count(),
        "mean": tasks.apply(lambda column: geometric(column.dropna())),
        "worst": by["regret"].max(),
        "failures": by["failed"].mean(),
        "trainings": by["trainings"].mean(),
        "seconds": by["seconds"].mean(),
    })  # fmt: skip
    if reference in tasks:
        ratios = tasks.div(tasks[reference], axis=0)
        table["won"] = (ratios > 1 + LEVEL).sum()
        table["lost"] = (ratios < 1 / (1 + LEVEL)).sum()
        table.loc[reference, ["won", "lost"]] = np.nan
    return table.sort_values("mean")


def markdown(table: pd.DataFrame, formats: dict[str, str], index: str) -> str:
    """The table in Markdown; what is missing is left empty.

    >>> print(markdown(pd.DataFrame({"x": [1.0, math.nan]}, ["a", "b"]), {"x": "{:.2f}"}, "key"))
    | key | x |
    | --- | ---: |
    | a | 1.00 |
    | b | |
    """
    rows = [f"| {index} | " + " | ".join(map(str, table.columns)) + " |"]
    rows.append("| --- |" + " ---: |" * len(table.columns))
    for key, row in table.astype(object).iterrows():  # whole numbers stay whole
        cells = [
            "" if pd.isna(value) else formats.get(str(name), "{}").format(value)
            for name, value in row.items()
        ]
        rows.append(f"| {key} |" + "".join(f" {cell} |" if cell else " |" for cell in cells))
    return "\n".join(rows)
