"""What a search was asked for, checked before anything trains."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lrtune.analysis.prior import Prior, known_schedules, prior
from lrtune.analysis.scores import Scale
from lrtune.errors import (
    ArgumentError,
    ScheduleError,
    positive_number,
    positive_rate,
    shown,
    whole_number,
)
from lrtune.results.runs import Shape, as_shape
from lrtune.schedules import Feedback, Schedule, parse
from lrtune.schedules.feedback import (
    check_validation,
    validation_interval,
    validations_between,
)
from lrtune.schedules.registry import registered_name
from lrtune.task.drift import Drift, in_every_run
from lrtune.task.memory import max_runs as most_runs
from lrtune.task.task import Task, checked_task
from lrtune.training.idle_runs import check_memory_options
from lrtune.tuning.fine import FACTORS
from lrtune.tuning.limits import Limits
from lrtune.tuning.planning import Memory, Plan, Sizes, make_plan

COARSE = (0.1, 0.01, 0.001, 0.0001)
LIMITS = (1e-7, 10.0)


def sizes_of(task: Task | None, steps: int, schedules: Iterable[object] = ()) -> Sizes:
    """What a training and a validation of this task cost, with the costliest of these schedules.

    Raises:
        ScheduleError: A schedule asks for validation data that the task does not have, or so seldom
            that a whole training would be over before.
    """
    whole_number("steps", steps, least=1)
    asked = [_validations(one, steps, task) for one in schedules]
    if task is None:
        return Sizes(steps)
    summed = task.loss_kind.summed
    if not task.has_validation:
        return Sizes(steps, summed=summed)
    counts, epoch = task.val_counts, task.epoch_steps or 0
    both, watched = (counts["selection"], counts.get("test", 0)), max(asked, default=0)
    watched *= counts["selection"]
    return Sizes(steps, task.batch_examples, *both, epoch, summed, watched)


def _validations(schedule: object, steps: int, task: Task | None) -> int:
    """How often a schedule asks for the validation loss in a whole training, after a check."""
    check_validation(schedule, steps, available=task is None or task.has_validation)
    count = validations_between(schedule, steps, 0, steps)
    if not count and validation_interval(schedule, steps):
        raise ScheduleError(
            f"{schedule!r} would validate for the first time when all {steps} steps are over. Give "
            f"every={max(1, steps // 20)}, or another number below {steps}."
        )
    return count


def with_memory(
    plan: Plan, task: Task | None, max_runs: int | None = None, offload: str | None = None
) -> Plan:
    """The plan, with the memory that it takes on the task's device."""
    check_memory_options(max_runs, offload)
    if task is None:
        return plan
    memory = planned_memory(task, plan.held, plan.together, max_runs, offload)
    return replace(plan, memory=memory)


def planned_memory(
    task: Task, held: int, together: int, max_runs: int | None, offload: str | None
) -> Memory:
    """The memory that it takes to hold so many runs of a task, of which so many train together."""
    one, device = task.run_bytes, task.device
    most = min(max_runs or held, most_runs(one, device))
    waiting = offload is not None and device.type != "cpu"
    runs = min(together if waiting else held, most)
    idle = held - runs if waiting else 0
    return Memory(runs, held, idle, one.total, one.checkpoint, str(device))


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
        raise ArgumentError(f"min_gain={shown(min_gain)}; expected a number >= 0, such as 0.02.")
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
    watching = [shape] if present is None else [shape, present[1]]
    name = registered_name(shape) or "schedule"
    adapts = task is not None and task.adapts_rate
    planned = make_plan(
        sizes_of(task, steps, watching), checked_budget(budget),
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
        return parse(schedule)
    return as_shape(schedule)


def checked_budget(budget: float | None) -> float | None:
    """A budget as a float; None for the default."""
    return None if budget is None else positive_number("budget", budget, such_as="4")


def grid_runs(fine: Sequence[float] | Literal["grid"]) -> int:
    """How many whole trainings were asked for in so many words."""
    return len(FACTORS) if fine == "grid" else len(fine)


def coarse_rates(coarse: Sequence[float]) -> tuple[float, ...]:
    """The coarse grid in order, after a check."""
    several = _several("coarse", coarse, "rates such as (0.1, 0.01, 0.001)")
    rates = tuple(sorted({positive_rate("a coarse rate", rate) for rate in several}))
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
        raise ArgumentError(f"{name}={shown(values)}; expected {expected}.")
    return list(values)


def _pair(name: str, values: Any, expected: str) -> list[Any]:
    """The two values of a pair."""
    pair = _several(name, values, expected)
    if len(pair) != 2:
        raise ArgumentError(f"{name}={shown(values)}; expected {expected}.")
    return pair


def _inside(name: str, rate: float, limits: Limits) -> float:
    rate = positive_rate(name, rate)
    if not limits[0] <= rate <= limits[1]:
        raise ArgumentError(
            f"{name}, {rate:g}, lies outside the limits {limits[0]:g} ... {limits[1]:g}. Give a "
            "rate within them, or widen `limits`."
        )
    return rate
