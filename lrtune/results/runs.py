"""A run: one training with a peak rate, a schedule and a seed."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from lrtune.errors import ArgumentError
from lrtune.schedules import Curve, Feedback, Schedule, as_schedule, constant

STEPS = 500
"""Default length of the training that an answer is for, in optimizer updates."""

Shape = Curve | Schedule | Feedback[Any]
"""Everything that a run takes as its schedule."""


@dataclass(frozen=True, init=False)
class Run:
    """One training: a peak rate, a schedule, a seed.

    Attributes:
        name: Unique in its cohort.
        lr: Peak learning rate, > 0; parameter groups keep their ratios to it.
        schedule: Progress to a multiplier of the peak rate; any function of one number will do.
            Or one that reacts to the loss, such as `schedules.ReduceOnPlateau()`.
        seed: Decides the order of the data, the random layers, and the initial weights where the
            task has a model factory.

    Raises:
        ArgumentError: The rate is not a finite number > 0, or the seed is negative.

    >>> Run("a", 0.1, lambda progress: 1 - progress).schedule(0.25)
    0.75
    """

    name: str
    lr: float
    schedule: Schedule | Feedback[Any]
    seed: int

    def __init__(self, name: str, lr: float, schedule: Shape = constant(), seed: int = 0) -> None:
        """Check the rate, and take any function of progress for a schedule."""
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "lr", positive("lr", lr))
        object.__setattr__(self, "schedule", _as_shape(schedule))
        object.__setattr__(self, "seed", whole("seed", seed, least=0))


def _as_shape(shape: Shape) -> Schedule | Feedback[Any]:
    if isinstance(shape, Schedule):
        return shape
    if callable(getattr(shape, "next", None)) and callable(getattr(shape, "start", None)):
        return cast("Feedback[Any]", shape)
    return as_schedule(cast("Curve", shape))


def grid(rates: Iterable[float], seeds: Sequence[int], schedule: Shape = constant()) -> list[Run]:
    """Runs of every rate with every seed, each with a unique name.

    >>> [run.name for run in grid([0.1, 0.01], seeds=[0, 1])]
    ['0.1/0', '0.1/1', '0.01/0', '0.01/1']
    """
    return [Run(f"{rate:.6g}/{seed}", rate, schedule, seed) for rate in rates for seed in seeds]


def seed_list(seeds: int, first: int) -> list[int]:
    """Consecutive seeds, as many as asked for, from the first one on.

    >>> seed_list(3, 7)
    [7, 8, 9]
    """
    whole("seed", first, least=0)
    return list(range(first, first + whole("seeds", seeds, least=1)))


def checked_runs(runs: Sequence[Run]) -> list[Run]:
    """The runs as a list, after a check: at least one, with unique names."""
    runs = list(runs)
    if not runs:
        raise ArgumentError("a cohort needs at least one run, got none. Pass [Run('a', 0.1)].")
    twice = [name for name, count in Counter(run.name for run in runs).items() if count > 1]
    if twice:
        raise ArgumentError(
            f"the runs of a cohort need unique names; {twice[0]!r} is there "
            f"{sum(run.name == twice[0] for run in runs)} times. Rename one."
        )
    return runs


def positive(name: str, value: float) -> float:
    """The value as a finite float > 0, or an error that names it."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ArgumentError(f"{name} must be a finite number > 0, got {value!r}.")
    return number


def whole(name: str, value: int, *, least: int) -> int:
    """The value as an int >= `least`, or an error that names it."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{name} must be a whole number >= {least}, got {value!r}.")
    return value
