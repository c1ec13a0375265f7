"""The identities of runs: the same in another process, and under another name."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from lrtune.results.runs import Run, Shape
from lrtune.schedules import Feedback, Schedule, momenta, multipliers, replay
from lrtune.schedules.feedback import validation_interval
from lrtune.task.value_texts import plain_repr, text_digest


def run_keys(task: str, runs: Sequence[Run], steps: int, engine: str) -> list[str]:
    """Return the identity of each run: what it is made of decides, its name does not.

    Args:
        task: Identifies the task, such as the key of its fingerprint.
        runs: Any runs.
        steps: The horizon, which their schedules are spread over.
        engine: The class of the engine.

    Returns:
        32 hexadecimal digits for each run.
    """
    shapes = {id(run.schedule): run.schedule for run in runs}
    # A schedule that many runs share is tabulated once.
    schedules = {number: _schedule_key(shape, steps) for number, shape in shapes.items()}
    # Engines agree up to rounding only, so the engine is part of the identity.
    same = (str(steps), engine)
    return [
        text_digest([task, run.lr.hex(), schedules[id(run.schedule)], str(run.seed), *same])
        for run in runs
    ]


def _schedule_key(shape: Shape, steps: int) -> str:
    """Return the identity of a schedule over a horizon: its text, and the numbers that it gives.

    The text is not enough, as all lambdas have one name. A schedule that reacts to the loss is
    tried on three curves of training and validation losses: one that falls, one that stands still,
    and one that becomes NaN.
    """
    if isinstance(shape, Schedule):
        curves, name = [multipliers(shape, steps), momenta(shape, steps) or []], []
    else:
        feedback = cast("Feedback[Any]", shape)  # a run makes a Schedule of every function
        falling = np.geomspace(4.0, 0.01, steps).tolist()
        failing = [*falling[: steps // 2], *[np.nan] * (steps - steps // 2)]
        every = validation_interval(feedback, steps) or steps
        tried = (falling, [1.0] * steps, failing)
        curves = [replay(feedback, losses, val=losses[every::every]) for losses in tried]
        name = [type(shape).__qualname__]
    numbers = [np.asarray(curve, dtype="<f8").tobytes().hex() for curve in curves]
    return text_digest([*name, plain_repr(shape), *numbers])


def rank_of_equals(run: Run) -> tuple[int, float, str]:
    """Return what decides which of several runs with the same loss is the best; lower is better.

    It depends on the run alone, so that whoever looks for the best one finds the same.
    """
    return run.seed, run.lr, run.name
