"""What a transfer was asked for, checked: the sizes, their tasks, and how long their runs are."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from lrtune.errors import (
    ArgumentError,
    TaskError,
    positive_number,
    positive_rate,
    quantity,
    shown,
    whole_number,
)
from lrtune.task.task import Task, checked_task
from lrtune.task.variants import own_width, with_share, with_width
from lrtune.tuning.limits import Limits
from lrtune.tuning.planning import COARSE, COARSE_SHARE, Plan, Sizes, Stage
from lrtune.tuning.settings import LIMITS, Setting, make_setting, sizes_of

UPDATES, EPOCHS = "updates", "epochs"
OVER = ("data", "width", "batch_size")
SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
WIDTHS = (0.25, 0.5, 1.0, 2.0)  # of the task's own
BATCHES = (1, 2, 4, 8)  # multiples of the task's own
BUDGET = 15.0  # full trainings
FIRST, RATES = 3, 4  # rates of each size: half a decade apart, and one more where the best moves
LEAST_UPDATES = 10  # after fewer, hardly any rate has lowered the loss by more than its noise
LEAST_LENGTH = 20  # updates of the runs of the whole


@dataclass(frozen=True, eq=False)
class Size:
    """One size of what is varied.

    Attributes:
        label: As people say it, such as `5 %`; the stage of its runs.
        value: The share of the data, the width, the batch size.
        ratio: The same over the task's own.
        task: The task of this size.
        batches: How many of the task's own batches make an update.
        share: Of the data; an epoch has so many batches, over those of the whole.
    """

    label: str
    value: float
    ratio: float
    task: Task
    batches: int = 1
    share: float = 1.0

    def updates(self, equal: str, length: int) -> int:
        """The updates of its runs, where those of the task itself make `length`."""
        whole = self.share * length / self.batches
        return length if equal == UPDATES else max(1, math.floor(whole + 1e-9))

    def steps(self, equal: str, length: int) -> int:
        """The batches that these updates read."""
        return self.batches * self.updates(equal, length)


@dataclass(frozen=True, eq=False)
class Transfer:
    """Everything that a transfer was asked for, checked.

    Attributes:
        over: What is varied: `data`, `width` or `batch_size`.
        costs: What a training and a validation of the task itself cost.
        sizes: The task itself first, then away from it.
        length: The updates of the runs of the task itself.
        budget: The most to spend, in full trainings.
        seeds: The seeds of each rate.
        limits: The lowest and the highest rate.
        around: A rate near which to begin; None where short runs find it.
        coarse: The search by these runs.
        notes: What a reader should know before anything trains.
    """

    over: str
    costs: Sizes
    sizes: tuple[Size, ...]
    length: int
    budget: float
    seeds: tuple[int, ...]
    limits: Limits
    around: float | None
    coarse: Setting
    notes: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """On how many validation samples each run is measured; 0 where there are none."""
        return self.costs.short_samples(self.length)

    @property
    def coarse_cost(self) -> float:
        """What the runs before cost."""
        stage = self.coarse.plan["coarse"]
        return 0.0 if self.around is not None or stage is None else stage.cost

    def readings(self, size: Size) -> dict[str, int]:
        """The batches after which the runs of a size are read, by what is equal, in that order."""
        names = (UPDATES,) if self.over == "width" else (EPOCHS, UPDATES)
        found = {
            equal: size.steps(equal, self.length)
            for equal in names
            if size.updates(equal, self.length) >= LEAST_UPDATES
        }
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def cost(self, size: Size, runs: int) -> float:
        """What so many runs of a size cost, in full trainings."""
        ends = set(self.readings(size).values())
        validated = len(ends) * self.costs.validation(self.samples)
        return runs * (self.costs.updates(max(ends)) + validated)

    @property
    def total(self) -> float:
        """What everything usually costs."""
        runs = RATES * len(self.seeds)
        return self.coarse_cost + math.fsum(self.cost(size, runs) for size in self.sizes)

    @property
    def plan(self) -> Plan:
        """The stages, with what they usually cost."""
        runs = RATES * len(self.seeds)
        stages = [] if not self.coarse_cost else [self.coarse.plan["coarse"]]
        for size in self.sizes:
            steps = max(self.readings(size).values())
            words = f"about {quantity(runs, 'run')} of {quantity(steps, 'step')}"
            stages.append(Stage(size.label, runs, steps, self.cost(size, runs), words))
        known = tuple(stage for stage in stages if stage is not None)
        held = max(runs, 8)
        return Plan(self.costs, self.budget, known, 0, 0, 0, held, FIRST * len(self.seeds))


def make_transfer(
    task: Task,
    *,
    over: str = "data",
    values: Sequence[float] | None = None,
    steps: int = 500,
    budget: float | None = None,
    seeds: int = 3,
    seed: int = 0,
    around: float | None = None,
    limits: Limits = LIMITS,
) -> Transfer:
    """Everything that a transfer was asked for, after a check; see `transfer`."""
    checked_task(task)
    if over not in OVER:
        raise ArgumentError(
            f"over={shown(over)}; expected what varies: {', '.join(OVER)}. Give over='data' for "
            "parts of the training data."
        )
    whole_number("seeds", seeds, least=1)
    whole_number("steps", steps, least=1)
    if task.adapts_rate:
        raise ArgumentError(
            "the optimizer sets its own rate, so there is no best rate to transfer; expected one "
            "whose rate is yours to choose, such as SGD or AdamW. Use such an optimizer."
        )
    most = math.inf if budget is None else positive_number("budget", budget, such_as="15")
    before = max(60 / steps, min(1.0, max(COARSE / steps, COARSE_SHARE)))
    coarse = make_setting(
        task, steps=steps, schedule="constant", budget=before, limits=limits, seed=seed
    )
    center = None if around is None else positive_rate("around", around)
    if center is not None and not limits[0] <= center <= limits[1]:
        raise ArgumentError(
            f"around={center:g} lies outside the limits {limits[0]:g} ... {limits[1]:g}. Give a "
            "rate within them, or widen `limits`."
        )
    found, left_out = _sizes(task, over, values)
    asked = Transfer(
        over, sizes_of(task, steps), found, steps, most,
        tuple(range(seed, seed + seeds)), limits, center, coarse, left_out,
    )  # fmt: skip
    if budget is None:
        least = math.ceil(_total(asked, min(steps, LEAST_LENGTH)))
        asked = replace(asked, budget=max(BUDGET, float(least)))
    fitted = replace(asked, length=_length(asked))
    return replace(fitted, notes=(*fitted.notes, *_notes(fitted)))


def _length(asked: Transfer) -> int:
    """The longest runs that the budget pays for; none longer than a training.

    Raises:
        ArgumentError: It pays for none that are long enough.
    """
    steps = asked.costs.steps
    least = min(steps, LEAST_LENGTH)
    enough = [n for n in _lengths(least, steps) if _total(asked, n) <= asked.budget * (1 + 1e-9)]
    if not enough:
        needed = math.ceil(10 * _total(asked, least)) / 10
        raise ArgumentError(
            f"budget={asked.budget:g} is too small for {quantity(len(asked.sizes), 'size')} with "
            f"{quantity(len(asked.seeds), 'seed')} each, whose runs have {least} updates or more. "
            f"Give budget={needed:g} or more, fewer values or fewer seeds."
        )
    return enough[-1]


def _lengths(least: int, most: int) -> Iterator[int]:
    """Lengths to try, in ascending order: about a hundred, to three digits."""
    ratio = (most / least) ** (1 / 100)
    known = (round(least * ratio**power) for power in range(101))
    yield from dict.fromkeys(min(most, one) for one in known)


def _total(asked: Transfer, length: int) -> float:
    return replace(asked, length=length).total


def _notes(asked: Transfer) -> Iterator[str]:
    """Which sizes cannot be read, and what would let them."""
    for equal in (EPOCHS, UPDATES):
        short = [one for one in asked.sizes if equal not in asked.readings(one)]
        if not short or asked.over == "width":
            continue
        smallest = min(short, key=lambda one: one.updates(equal, 10**6))
        length = math.ceil(LEAST_UPDATES * smallest.batches / smallest.share)
        way_out = f"steps={length} or more would"
        if length <= asked.costs.steps:
            way_out = f"budget={math.ceil(_total(asked, length)):g} would"
        names = ", ".join(one.label for one in short)
        yield (
            f"at equal {equal} nothing is said about {names}: runs of fewer than {LEAST_UPDATES} "
            f"updates show no best rate; {way_out}"
        )
    if not asked.costs.selection:
        again = ", which a small part of them soon knows by heart" * (asked.over == "data")
        yield f"without validation data rates are judged by losses of the training data{again}"


# --- the sizes ------------------------------------------------------------------------------------


def _sizes(
    task: Task, over: str, values: Sequence[float] | None
) -> tuple[tuple[Size, ...], tuple[str, ...]]:
    """The task itself and the other sizes, the nearest first; and why some are left out."""
    make: dict[str, Callable[[Task, float], Size]] = {
        "data": _share_of_data, "width": _width, "batch_size": _batch_size,
    }  # fmt: skip
    own, usual = _own(task, over)
    given = usual if values is None else _numbers(values)
    found, left_out = [make[over](task, own)], list[str]()
    for value in sorted({*given} - {own}, key=lambda one: (max(one / own, own / one), one)):
        try:
            found.append(make[over](task, value))
        except TaskError as error:
            if values is not None or "expected at least" not in str(error):
                raise
            left_out.append(f"left out: {error}")  # a usual share that is less than a batch
    if len(found) < 2:
        why = left_out[0] if left_out else f"values={shown(values)}"
        raise ArgumentError(
            f"there is no other size than the task's own ({found[0].label}); {why}. Give two or "
            f"more values, such as {', '.join(f'{one:g}' for one in usual)}."
        )
    return tuple(found), tuple(left_out)


def _own(task: Task, over: str) -> tuple[float, tuple[float, ...]]:
    """The task's own value, and the usual ones."""
    if over == "data":
        return 1.0, SHARES
    if over == "batch_size":
        size = task.batch_examples
        return float(size), tuple(float(size * one) for one in BATCHES)
    width = own_width(task)
    if width is None:
        with_width(task, 1)  # raises, and says what to do
        raise AssertionError("a task without a width has no other widths")
    return float(width), tuple(float(max(1, round(width * one))) for one in WIDTHS)


def _numbers(values: Sequence[float]) -> list[float]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not len(values):
        raise ArgumentError(f"values={shown(values)}; expected numbers, such as [0.1, 0.5, 1].")
    return [positive_number("each of values", one, such_as="0.5") for one in values]


def _share_of_data(task: Task, value: float) -> Size:
    return Size(f"{100 * value:.6g} %", value, value, with_share(task, value), share=value)


def _width(task: Task, value: float) -> Size:
    if value != int(value):
        raise ArgumentError(f"a width is a whole number, got {value:g}. Give one such as 64.")
    own, width = own_width(task), int(value)
    assert own is not None, "checked before"
    made = task if width == own else with_width(task, width)
    return Size(f"width {width}", value, value / own, made)


def _batch_size(task: Task, value: float) -> Size:
    own = task.batch_examples
    if value % own:
        raise ArgumentError(
            f"a batch size of {value:g}; expected multiples of the task's own, {own}, as batches "
            f"are put together of its batches. Give {own}, {2 * own}, {4 * own} ..., or make the "
            "task with a smaller batch."
        )
    return Size(f"batch {value:g}", value, value / own, task, batches=int(value // own))
