"""Whether two tasks are the same, as far as one forward pass of each tells."""

import math
from typing import Any

from torch import Tensor

from lrtune.errors import ArgumentError
from lrtune.results import Trace
from lrtune.results.runs import Run
from lrtune.schedules import Schedule
from lrtune.task.batches import digest
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import preserve_random_state
from lrtune.task.task import Task
from lrtune.training.cohort import Cohort

UNTRAINED = Schedule("untrained()", lambda _progress: 0.0)
"""The schedule of a run that only measures the loss."""

CLOSE = 1e-3
"""By convention: first losses this close, as a share, differ by rounding on another device."""


def trained_task(evaluate: object) -> Task | None:
    """Return the task that an evaluator was made with; None for a function of the user's own."""
    owner = getattr(evaluate, "__self__", evaluate)
    trains = getattr(owner, "trains", None)
    return trains if isinstance(trains, Task) else None


def refuse_other_task(task: Task, evaluate: object) -> None:
    """Raise an `ArgumentError` where what trains runs was made with another task.

    That is known of an `Evaluator`, what a `Study` offers, and methods of these.
    """
    trains = trained_task(evaluate)
    if trains is None or trains is task:
        return
    differences = task_differences(task, trains)
    if differences:
        raise ArgumentError(
            f"evaluate trains another task: {'; '.join(differences)}. Expected the task that is "
            "given, as the answer is for that one. Make it with the same task: "
            "evaluate=lrtune.Evaluator(task)."
        )


def task_differences(task: Task, other: Task) -> list[str]:
    """Return in which parts two tasks differ: empty where they would train alike."""
    ours, theirs = task.describe(), other.describe()
    told = [
        f"its {name} is {theirs[name]}, not {ours[name]}"
        for name in ours
        if name not in ("device", "scores") and ours[name] != theirs[name]
    ]
    if told:
        return told
    if _settings(task) != _settings(other):
        return ["its optimizer has other settings"]
    if _first_batch(task) != _first_batch(other):
        return ["its first training batch is another one"]
    if task.val_counts != other.val_counts:
        return [f"it has {other.val_counts or 'no'} validation samples, not {task.val_counts}"]
    one, another = first_loss(task, 0), first_loss(other, 0)
    alike = math.isclose(one, another, rel_tol=CLOSE) or not _repeats(task, 0, one)
    return [] if alike else [f"its first training loss is {another:.6g}, not {one:.6g}"]


def refuse_other_start(task: Task, seed: int, loss: float, whose: str) -> None:
    """Raise an `ArgumentError` where the first training loss of a seed is not that of this task.

    Args:
        task: The task that is to be trained.
        seed: A seed that was trained elsewhere.
        loss: Its first training loss there.
        whose: What it was trained for, such as `the search`.
    """
    known = first_loss(task, seed)
    if math.isclose(known, loss, rel_tol=CLOSE) or not _repeats(task, seed, known):
        return
    raise ArgumentError(
        f"the first training loss of seed {seed} was {loss:.6g} in {whose}, and is {known:.6g} "
        "for this task; expected the same, as runs of one seed begin alike. So one of them is "
        "another task: search with this one, or give its rate instead."
    )


def first_loss(task: Task, seed: int) -> float:
    """Return the loss of the first batch of a seed before any update, as a run of it sees it."""
    trace: Trace = Cohort(task, [Run("first", TRIAL_LR, UNTRAINED, seed)], 1).advance().trace
    return float(trace.frame["loss"].iloc[0])


def _repeats(task: Task, seed: int, loss: float) -> bool:
    """Return whether the first loss of a seed is the same when it is measured again."""
    return math.isclose(first_loss(task, seed), loss, rel_tol=CLOSE)


def _first_batch(task: Task) -> int:
    with preserve_random_state():
        return digest(next(task.batches(0)))


def _settings(task: Task) -> list[dict[str, Any]]:
    """Return the options of the optimizer's groups, but for their parameters."""
    with preserve_random_state():
        groups = task.init_state(0, TRIAL_LR).optimizer.param_groups
    return [
        {name: _plain(value) for name, value in one.items() if name != "params"} for one in groups
    ]


def _plain(value: Any) -> Any:
    known = value.tolist() if isinstance(value, Tensor) else value
    return known if isinstance(known, (int, float, str, bool, tuple, list, type(None))) else None
