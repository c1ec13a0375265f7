"""Why does it not learn any more? A run that stands is continued in several ways, in pairs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrtune.diagnosis.checks import plateau_limits as limits
from lrtune.diagnosis.checks import plateau_rates as rates
from lrtune.diagnosis.observations.checkpoints import read_checkpoint, state_of
from lrtune.diagnosis.observations.continuations import FORWARD, LARGER
from lrtune.diagnosis.observations.plateau import (
    FIRST,
    GRADIENT_BATCHES,
    Plateau,
    Sharpness,
)
from lrtune.diagnosis.observations.stalls import LOOKS, Stall, train_until
from lrtune.diagnosis.observations.twin import COST, FACTOR, Twin
from lrtune.errors import ArgumentError, positive_number, positive_rate, whole_number
from lrtune.results import Finding
from lrtune.results.diagnosis import worst_first
from lrtune.results.runs import Run, Shape
from lrtune.results.schema import SELECTION
from lrtune.schedules import constant
from lrtune.task.task import Task, checked_task
from lrtune.task.variants import own_width, with_width

CHECKS: dict[Callable[[Plateau], Iterator[Finding]], tuple[str, ...]] = {
    rates.check_too_low: (rates.TOO_LOW,),  # first, as the next may spend what it needs
    rates.check_too_high: (rates.TOO_HIGH,),
    rates.check_noise_floor: (rates.NOISE_FLOOR,),
    limits.check_overfitting: (limits.OVERFITTING,),
    rates.check_ended_early: (rates.ENDED_EARLY,),
    limits.check_capacity: (limits.CAPACITY,),
    limits.check_converged: (limits.CONVERGED,),
}
"""Each check of a run that stands, with the name of what it can find."""

LEAST_BUDGET = 300  # by convention: updates; in fewer, no run stands and none is continued
TRAINING = 0.3  # by convention: the share of the budget that leads to where a run stands
TWIN = 0.25  # by convention: the share of the budget for a wider twin, where there can be one
VALIDATION = 0.08  # by convention: of what training costs, for its validation
LEAST_SAMPLES = 20  # by convention: by fewer validation samples, chance decides
LEAST_STEPS = 16  # by convention: batches that continuations see; of fewer, a momentum decides
ENOUGH = 100  # by convention: when continuations see so many, the rest of a budget makes orders
MOST_ORDERS = 6  # by convention: more make an interval little narrower


@dataclass(frozen=True)
class PlateauResult:
    """What the continuations of a run have shown.

    Attributes:
        findings: Worst first; empty where no difference lies outside its error.
        looked_at: The names of all that could be found.
        step: From which update the run was continued; 0 for a checkpoint.
        steps: How many batches each continuation saw; 0 where the budget allowed for none.
        orders: How many orders of the batches there were.
        cost: What was spent, in updates; a forward pass counts as a third.
    """

    findings: tuple[Finding, ...]
    looked_at: tuple[str, ...]
    step: int
    steps: int
    orders: int
    cost: float


def diagnose_plateau(
    task: Task,
    lr: float | None = None,
    steps: int | None = None,
    *,
    schedule: Shape = constant(),
    seed: int = 0,
    at: int | None = None,
    checkpoint: object = None,
    orders: int = 3,
    budget: float | None = None,
    sharpness: Sharpness | None = None,
) -> PlateauResult:
    """Find out why a run stands: continue it in several ways on the same batches, and compare.

    The ways: the same again, rate / 10, rate x 3 (and x 10, if that is faster), four batches for
    each update, averaged weights, no weight decay. Each sees the same batches as the others, in
    several orders; losses are those of training, before each update. Nothing is said where the
    differences lie within their error, nor of a run that still falls.

    Args:
        task: What is trained; it stays as it is.
        lr: The peak rate. With a checkpoint, the rate to go on with; its optimizer's when None.
        steps: The length of the training that the schedule is spread over.
        schedule: The schedule of the run.
        seed: The seed of the run.
        at: The step to continue it from; when None, as far as 30 % of the budget lead.
        checkpoint: Instead of a training: a `state_dict` of the model, a dict with `model` and
            `optimizer`, or the path of a file that holds one of them.
        orders: In how many orders of the batches it is continued; at least 2, where the budget
            allows.
        budget: The most to spend, in updates; half of `steps`, or 300 if that is more, when None.
        sharpness: Measures the largest eigenvalue of the Hessian, given a task and a state.

    Raises:
        ArgumentError: Without a checkpoint, `lr` or `steps` is missing; `at` is beyond the end or
            leaves nothing of the budget; a number is outside its range.
        CheckpointError: The checkpoint does not fit the task.
    """
    checked_task(task)
    whole_number("orders", orders, least=2)
    most = positive_number("budget", budget or max(LEAST_BUDGET, (steps or 0) / 2), "300")
    if checkpoint is not None:
        saved = read_checkpoint(checkpoint) if isinstance(checkpoint, str | Path) else checkpoint
        stall = state_of(task, saved, None if lr is None else positive_rate("lr", lr))
        run, length = Run("run", stall.peak, seed=seed), steps or round(most)
    else:
        run, length = _checked_run(lr, steps, schedule, seed)
        stall = _trained(task, run, length, at, most)
    about: Any = {"orders": orders, "budget": most, "sharpness": sharpness}
    return _continued(task, run, length, stall, **about)


def _checked_run(
    lr: float | None, steps: int | None, schedule: Shape, seed: int
) -> tuple[Run, int]:
    if lr is None or steps is None:
        raise ArgumentError(
            f"lr={lr}, steps={steps}; expected the rate and the length of a training, or a "
            "checkpoint. Pass both, or checkpoint=... instead."
        )
    run = Run("run", lr, schedule, seed)
    return run, whole_number("steps", steps, least=1)


def _trained(task: Task, run: Run, steps: int, at: int | None, budget: float) -> Stall:
    """The run, trained to the step that it is continued from."""
    if at is not None:
        whole_number("at", at, least=1)
        if at > steps or at >= budget:
            raise ArgumentError(
                f"at={at} of steps={steps}, with budget={budget:g}; expected a step of the "
                "training that leaves some of the budget. Give a larger budget, or a checkpoint."
            )
    last = at or min(steps, max(1, round(TRAINING * budget)))
    samples = _samples(task, VALIDATION * last / LOOKS)
    return train_until(task, run, steps, last, samples)


def _continued(
    task: Task,
    run: Run,
    length: int,
    stall: Stall,
    *,
    orders: int,
    budget: float,
    sharpness: Sharpness | None,
) -> PlateauResult:
    """What the checks find in the continuations of a run."""
    twin, rest = _twin(task, run, length, stall, TWIN * budget), budget - stall.cost
    if twin is not None and any(_division(rest - TWIN * budget, orders)):
        rest -= TWIN * budget
    else:  # where there is no budget for both, the continuations come first
        twin = None
    count, steps = _division(rest, orders)
    seen = Plateau(
        task,
        stall,
        [run.seed + 1 + place for place in range(count)],
        steps,
        budget=budget - stall.cost,
        samples=_samples(task, VALIDATION * rest / (2 * count)) if count else 0,
        twin=twin,
        sharpness=sharpness,
    )
    usable = CHECKS if count or stall.failed else {}
    return PlateauResult(
        worst_first([found for check in usable for found in check(seen)]),
        tuple(name for check in usable for name in CHECKS[check]),
        stall.step,
        steps,
        count,
        stall.cost + seen.spent,
    )


def _division(budget: float, orders: int) -> tuple[int, int]:
    """How many orders of the batches there are, and how many batches each continuation sees.

    Zero of both, where the budget does not allow for two orders.
    """
    cost = sum(way.cost for way in FIRST) + LARGER.cost
    whole = (1 - VALIDATION) * budget - GRADIENT_BATCHES - 1
    enough = [count for count in range(orders, 1, -1) if whole / (count * cost) >= LEAST_STEPS]
    if not enough:
        return 0, 0
    more = range(orders + 1, MOST_ORDERS + 1)
    count = max([enough[0], *(count for count in more if whole / (count * cost) >= ENOUGH)])
    return count, int(whole / (count * cost))


def _samples(task: Task, cost: float) -> int:
    """How many validation samples cost so many updates; 0 where they are too few."""
    if not task.has_validation:
        return 0
    samples = min(task.val_counts[SELECTION], int(cost * task.batch_examples / FORWARD))
    return samples if samples >= LEAST_SAMPLES else 0


def _twin(task: Task, run: Run, steps: int, stall: Stall, budget: float) -> Twin | None:
    """The training of a wider model; None where the model's function makes none that trains."""
    width = own_width(task)
    if width is None or stall.failed:
        return None
    try:  # the user's function may take other widths than twice the usual one, or none
        wider = with_width(task, FACTOR * width)
    except Exception:  # noqa: BLE001 - it may raise anything
        return None
    until = max(1, min(int(budget / COST), stall.step or steps, steps))
    return Twin(wider, width, Run("wider", run.lr, run.schedule, run.seed), steps, until)
