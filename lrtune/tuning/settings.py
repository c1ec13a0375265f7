"""What a search was asked for, checked before anything trains."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lrtune.analysis.prior import Prior, known_schedules, prior
from lrtune.analysis.scores import Scale
from lrtune.errors import ArgumentError, positive_number, whole_number
from lrtune.results.runs import Shape, as_shape
from lrtune.schedules import FEEDBACK, Feedback, Schedule, parse
from lrtune.schedules.registry import registered_name
from lrtune.task.drift import Drift, in_every_run
from lrtune.task.task import Task, checked_task
from lrtune.tuning.coarse import Limits
from lrtune.tuning.fine import FACTORS
from lrtune.tuning.planning import Plan, Sizes, make_plan

COARSE = (0.1, 0.01, 0.001, 0.0001)
LIMITS = (1e-7, 10.0)


def sizes_of(task: Task | None, steps: int) -> Sizes:
    """What a training and a validation of this task cost."""
    whole_number("steps", steps, least=1)
    if task is None or not task.has_validation:
        return Sizes(steps)
    counts, epoch = task.val_counts, task.epoch_steps or 0
    return Sizes(steps, task.batch_examples, counts["selection"], counts.get("test", 0), epoch)


@dataclass(frozen=True)
class Setting:
    """Everything that a search was asked for, checked."""

    plan: Plan
    schedule: Schedule | Feedback[Any]
    name: str
    prior: Prior
    coarse: tuple[float, ...]
    fine: tuple[float, ...] | Literal["grid"]
    limits: Limits
    seed: int
    min_gain: float
    scale: Scale
    kind: str
    current: tuple[float, Schedule | Feedback[Any]] | None = None
    around: float | None = None
    adapts_rate: bool = False
    drift: Drift | None = None
    guess: Callable[[str], Any] = field(default=lambda _part: None)

    @property
    def drifts(self) -> bool:
        """Whether the loss changes by itself, in every run as in an untrained one."""
        return in_every_run(self.drift)

    @property
    def steps(self) -> int:
        """The length of a whole training."""
        return self.plan.sizes.steps


def make_setting(
    task: Task | None,
    *,
    steps: int,
    schedule: str | Shape | None = None,
    budget: float | None = None,
    min_gain: float = 0.02,
    coarse: Sequence[float] = COARSE,
    fine: Sequence[float] | Literal["grid"] | None = None,
    limits: Limits = LIMITS,
    seed: int = 0,
    current: tuple[float, str] | None = None,
    around: float | None = None,
) -> Setting:
    """Everything that a search was asked for, after a check; see `search`."""
    if task is not None:
        checked_task(task)
    whole_number("steps", steps, least=1)
    whole_number("seed", seed, least=0)
    if not (isinstance(min_gain, int | float) and 0 <= min_gain < math.inf):
        raise ArgumentError(f"min_gain={min_gain!r}; expected a number >= 0, such as 0.02.")
    rates, factors = coarse_rates(coarse), fine_factors(fine)
    limits = _checked_limits(limits, rates)
    if around is not None:
        _inside("around", around, limits)
    shape = _shape(first_schedule(steps) if schedule is None else schedule)
    present = None
    if current is not None:
        what = "your present setting, (lr, schedule), such as (0.05, 'cosine')"
        rate, its_schedule = _pair("current", current, what)
        present = (_inside("the current rate", rate, limits), _shape(its_schedule))
    name = registered_name(shape) or "schedule"
    adapts = task is not None and task.adapts_rate
    planned = make_plan(
        sizes_of(task, steps), checked_budget(budget),
        coarse=0 if around is not None or adapts else len(rates),
        grid=grid_runs(factors), extra=current is not None,
    )  # fmt: skip
    kind, drift = (None, None) if task is None else (task.loss_kind, task.drift)
    # Where a loss changes by itself, so does what guessing reaches.
    guess = None if task is None or in_every_run(drift) else task.guess
    return Setting(
        plan=planned, schedule=shape, name=name, prior=prior(name, steps), coarse=rates,
        fine=factors, limits=limits, seed=seed, min_gain=min_gain,
        scale=Scale(None) if kind is None else kind.scale,
        kind="" if kind is None else kind.words,
        current=present, around=around, adapts_rate=adapts,
        drift=drift, guess=guess or (lambda _part: None),
    )  # fmt: skip


def first_schedule(steps: int) -> str:
    """The schedule that had the lowest losses on other tasks of such a length.

    Another one than the reference has to be ahead by more than it varies from task to task.
    """
    known = {name: prior(name, steps) for name in known_schedules(steps)}
    return min(known, key=lambda name: known[name].score + known[name].spread)


def _shape(schedule: str | Shape) -> Schedule | Feedback[Any]:
    """A schedule from its text, or from a function of progress."""
    if isinstance(schedule, str):
        return FEEDBACK[schedule]() if schedule in FEEDBACK else parse(schedule)
    return as_shape(schedule)


def checked_budget(budget: float | None) -> float | None:
    """A budget as a float; None for the default."""
    return None if budget is None else positive_number("budget", budget)


def grid_runs(fine: Sequence[float] | Literal["grid"]) -> int:
    """How many whole trainings were asked for in so many words."""
    return len(FACTORS) if fine == "grid" else len(fine)


def coarse_rates(coarse: Sequence[float]) -> tuple[float, ...]:
    """The coarse grid in order, after a check."""
    several = _several("coarse", coarse, "rates such as (0.1, 0.01, 0.001)")
    rates = tuple(sorted({positive_number("a coarse rate", rate) for rate in several}))
    if not rates:
        raise ArgumentError("the coarse grid is empty. Give at least one rate, such as 0.01.")
    return rates


def fine_factors(
    fine: Sequence[float] | Literal["grid"] | None,
) -> tuple[float, ...] | Literal["grid"]:
    """The factors to train at full length, after a check; none for None."""
    if fine == "grid":
        return "grid"
    expected = "factors such as [0.8, 1.0, 1.6], or 'grid'"
    several = () if fine is None else _several("fine", fine, expected)
    return tuple(positive_number("a fine factor", factor) for factor in several)


def _checked_limits(limits: Limits, coarse: tuple[float, ...]) -> Limits:
    """The limits, after a check; raises where the coarse grid leaves them."""
    ends = _pair("limits", limits, "the lowest and the highest rate, such as (1e-7, 10.0)")
    low, high = (positive_number("a limit", limit) for limit in ends)
    if not low <= coarse[0] <= coarse[-1] <= high:
        raise ArgumentError(
            f"the coarse grid {coarse[0]:g} ... {coarse[-1]:g} leaves the limits {low:g} ... "
            f"{high:g}. Widen the limits, or narrow the grid."
        )
    return low, high


def _several(name: str, values: Any, expected: str) -> list[Any]:
    """The values of a sequence; raises for anything else, such as a single number or a text."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ArgumentError(f"{name}={values!r}; expected {expected}.")
    return list(values)


def _pair(name: str, values: Any, expected: str) -> list[Any]:
    """The two values of a pair."""
    pair = _several(name, values, expected)
    if len(pair) != 2:
        raise ArgumentError(f"{name}={values!r}; expected {expected}.")
    return pair


def _inside(name: str, rate: float, limits: Limits) -> float:
    rate = positive_number(name, rate)
    if not limits[0] <= rate <= limits[1]:
        raise ArgumentError(
            f"{name}, {rate:g}, lies outside the limits {limits[0]:g} ... {limits[1]:g}."
        )
    return rate
