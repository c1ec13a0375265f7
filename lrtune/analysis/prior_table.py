"""How all schedules of a length ended on benchmark tasks, as a table."""

import math

import pandas as pd

from lrtune.analysis.prior import REFERENCE, known_schedules, prior

NORMAL_90 = 1.645  # by definition: deviations that hold nine of ten normal values
FEW_TASKS = 3  # by convention: up to so many are named as few


def prior_table(steps: int) -> pd.DataFrame:
    """Final losses of schedules on other tasks, for a training of so many steps.

    Returns:
        One row per schedule, the lowest first: `schedule`; `loss`, its final loss over that of the
        trapezoid, each at its own best peak (geometric mean over tasks); `low` and `high`, which
        hold that of nine tasks in ten; `tasks`, their number.

    >>> table = prior_table(300)
    >>> table["loss"].is_monotonic_increasing, table.set_index("schedule").loc["trapezoid", "loss"]
    (True, np.float64(1.0))
    """
    rows = []
    for name in known_schedules(steps):
        known = prior(name, steps)
        reach = NORMAL_90 * known.spread if name != REFERENCE else 0.0
        losses = (math.exp(known.score + side * reach) for side in (0, -1, 1))
        rows.append((name, *losses, round(known.tasks)))
    table = pd.DataFrame(rows, columns=["schedule", "loss", "low", "high", "tasks"])
    return table.sort_values("loss", kind="stable", ignore_index=True)


def prior_source(table: pd.DataFrame) -> str:
    """What the table rests on, and that it was not measured on the task at hand.

    >>> prior_source(prior_table(4000))
    'From only 2 other tasks, not measured on yours.'
    """
    return f"From {known_tasks(table)} other tasks, not measured on yours."


def known_tasks(table: pd.DataFrame) -> str:
    """On how many tasks the rows of a table rest, those of the reference aside.

    >>> known_tasks(pd.DataFrame({"schedule": ["wsd", "linear"], "tasks": [12, 35]}))
    '12 to 35'
    """
    tasks = table.loc[table["schedule"] != REFERENCE, "tasks"]
    few = "only " * bool(tasks.max() <= FEW_TASKS)
    return few + (
        f"{tasks.min()} to {tasks.max()}" if tasks.min() < tasks.max() else f"{tasks.max()}"
    )
