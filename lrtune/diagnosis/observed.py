"""What is seen of a task before it trains: the order of its data, its groups, its speed."""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lrtune.results.runs import Run
from lrtune.schedules import constant
from lrtune.task.batches import Batch, digest
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.rate_checks import StuckRate, stuck_rates
from lrtune.task.states import TrainState, evaluating
from lrtune.task.task import Task
from lrtune.training import Cohort

BATCHES = 3  # the first batches of an epoch, which tell one order from another
TIMED = 5  # updates whose time is taken, after two that are not
SAMPLES = 512  # validation samples whose time is taken


@dataclass(frozen=True)
class Group:
    """A parameter group of the optimizer.

    Attributes:
        lr: Its rate, as a multiple of the rate that the optimizer was made with; where it is
            `fixed`, the rate itself.
        fixed: Whether it has this rate whatever the optimizer was made with.
        weight_decay: NaN where the optimizer has none.
        parameters: How many numbers it trains.
    """

    lr: float
    fixed: bool
    weight_decay: float
    parameters: int


@dataclass(frozen=True)
class Observed:
    """What was seen of a task; every check reads it, and nothing else.

    Attributes:
        task: What was looked at.
        orders: (seed, epoch) to digests of the first batches, for the seeds 0 and 1 and the epochs
            0 and 1.
        groups: The optimizer's parameter groups.
        stuck: The groups whose rate follows `lr` on a part of the usual rates only.
        start: The loss of the first batch before any update.
        start_in_eval: The same in eval mode.
    """

    task: Task
    orders: dict[tuple[int, int], tuple[int, ...]]
    groups: Sequence[Group]
    stuck: Sequence[StuckRate]
    start: float
    start_in_eval: float


@dataclass(frozen=True)
class Speed:
    """Seconds, on the task's device.

    Attributes:
        update: Of one update of one run.
        validation: Of one validation of one run on all validation data; NaN without them.
    """

    update: float
    validation: float


def observe(task: Task) -> Observed:
    """Look at a task without an update: some batches are read, and an optimizer is made."""
    with preserve_random_state():
        orders = {(seed, epoch): _order(task, seed, epoch) for seed in (0, 1) for epoch in (0, 1)}
        return Observed(task, orders, _groups(task), _stuck(task), *_start(task))


def _order(task: Task, seed: int, epoch: int) -> tuple[int, ...]:
    """The digests of the first batches of an epoch."""
    return tuple(digest(one) for one in itertools.islice(task.epoch(seed, epoch), BATCHES))


def _start(task: Task) -> tuple[float, float]:
    """The loss of the first batch, in train mode and in eval mode, with the same random numbers."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        state, batch = task.init_state(0, TRIAL_LR), task.to_device(next(task.batches(0)))
        with evaluating(state):
            in_eval = _loss(task, state, batch)
        return _loss(task, state, batch), in_eval


def _loss(task: Task, state: TrainState, batch: Batch) -> float:
    """The loss of a batch; NaN where there is none in this mode, as of a detection model."""
    seed_everything(derive_seed(0, NOISE))
    try:
        return task.loss(state, batch).item()
    except Exception:  # noqa: BLE001 - the user's model may raise anything
        return math.nan


def _groups(task: Task) -> list[Group]:
    with torch.inference_mode(mode=False), torch.enable_grad():
        one, two = (
            task.init_state(0, lr).optimizer.param_groups for lr in (TRIAL_LR, 2 * TRIAL_LR)
        )
    groups = []
    for first, second in zip(one, two, strict=True):
        rate = float(first["lr"])
        fixed = rate == float(second["lr"]) and rate > 0
        groups.append(
            Group(
                rate if fixed else rate / TRIAL_LR,
                fixed,
                float(first.get("weight_decay", math.nan)),
                sum(parameter.numel() for parameter in first["params"]),
            )
        )
    return groups


def _stuck(task: Task) -> list[StuckRate]:
    with torch.inference_mode(mode=False), torch.enable_grad():
        return stuck_rates(task.optimizer_maker(seed=0))


def measure_speed(task: Task) -> Speed:
    """Train some updates, and take the time of an update and of a validation."""
    cohort = Cohort(task, [Run("speed", TRIAL_LR, constant())], 2 + TIMED).advance(2)
    update = _seconds(task, cohort.advance) / TIMED
    if not task.has_validation:
        return Speed(update, math.nan)
    samples = sum(task.val_counts.values())
    asked = min(SAMPLES, task.val_counts["selection"])
    cohort = Cohort(task, [Run("speed", TRIAL_LR, constant())], 1)
    some = _seconds(task, lambda: cohort.validate(asked))
    return Speed(update, some * samples / max(1, asked))


def _seconds(task: Task, act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    if task.device.type == "cuda":
        torch.cuda.synchronize(task.device)
    return time.perf_counter() - begin
