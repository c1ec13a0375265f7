"""What can be varied of a task: its training data, the width of its model, its optimizer."""

import functools
import inspect
from collections.abc import Callable

import torch

from lrtune.errors import TaskError, shown, whole_number
from lrtune.task.checks import TRIAL_LR
from lrtune.task.group_settings import own_setting
from lrtune.task.random_state import preserve_random_state
from lrtune.task.subsets import subset
from lrtune.task.task import Task


def with_share(task: Task, share: float) -> Task:
    """Return the task with a fair sample of its training data; see `lrtune.task.subsets`.

    Raises:
        TaskError: The share is out of its range, or too small; or the data cannot be divided.
    """
    return task if share == 1 else task.changed(data=lambda data: subset(data, share))


def setting_of(task: Task, name: str) -> float:
    """Return the momentum or the weight decay of its optimizer; see `own_setting`."""
    with preserve_random_state(), torch.inference_mode(mode=False):
        return own_setting(task.init_state(0, TRIAL_LR).optimizer, name)


def own_width(task: Task) -> int | None:
    """Return the default of the argument `width` of the function that makes the model.

    None where there is no such function, or its default is no whole number.
    """
    try:
        argument = inspect.signature(task.factory or own_width).parameters.get("width")
    except (TypeError, ValueError):  # some builtin callables have no signature
        return None
    default = None if argument is None else argument.default
    return default if isinstance(default, int) and not isinstance(default, bool) else None


def with_width(task: Task, width: int) -> Task:
    """Return the task with a model of this width, of which one update is tried.

    Raises:
        TaskError: The model was not given as a function with an argument `width`.
    """
    whole_number("width", width, least=1)
    if task.factory is None or own_width(task) is None:
        given = "an nn.Module" if task.factory is None else shown(task.factory)
        raise TaskError(
            f"the model was given as {given}; expected a function with an argument `width`, whose "
            "default is the width that you use. Hand Task a function such as "
            "`def make(width=64): return nn.Sequential(...)`."
        )
    make: Callable[..., torch.nn.Module] = task.factory
    return task.changed(factory=functools.partial(make, width=width))
