"""What a transfer was asked for, checked: the sizes, their tasks, and how long their runs are."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lrtune.errors import (
    ArgumentError,
    positive_number,
    positive_rate,
    quantity,
    shown,
    whole_number,
)
from lrtune.task.task import Task, checked_task
from lrtune.tuning.limits import Limits
from lrtune.tuning.planning import COARSE, COARSE_SHARE, Plan, Sizes, Stage
from lrtune.tuning.settings import LIMITS, Setting, make_setting, sizes_of
from lrtune.tuning.transfer_sizes import EPOCHS, OVER, UPDATES, Size, sizes_over

BUDGET = 15.0  # full trainings
FIRST, RATES = 3, 4  # rates of each size: half a decade apart, and one more where the best moves
LEAST_UPDATES = 10  # after fewer, hardly any rate has lowered the loss by more than its noise
LEAST_LENGTH = 20  # updates of the runs of the whole


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
    found, left_out = sizes_over(task, over, values)
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
