"""How a search spends its budget: the plan before anything trains, and the account afterwards."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from lrtune.errors import ArgumentError, positive_number, whole_number
from lrtune.results.runs import Cost
from lrtune.results.schema import SPENDING, as_table

DEFAULT_STEPS = 500  # the length of the training that an answer is for, in optimizer updates
BUDGET = 4.0  # full trainings that a search may spend by default
SHORTEST = 4  # updates of the shortest run; with fewer there is no curve to read
LENGTHENING = 3  # length of the runs around the best rate, in lengths of the coarse runs
SPARE = 2  # coarse runs by which the grid may grow without taking from later stages
VERIFIED = 2.0  # from this budget on, one full training is set aside to verify the answer


@dataclass(frozen=True)
class Plan:
    """How a budget is spent: short runs of the coarse grid, longer ones around its best rate.

    >>> print(plan(steps=400, budget=1.0))
    at most 400 updates (1 full training of 400): coarse 92, between 46, longer 138, answer 69
    """

    steps: int  # length of the training that the answer is for
    budget: float  # the most to spend, in full trainings
    coarse: int  # how many rates the coarse grid has
    seeds: int  # how many seeds every rate is trained with
    short: int  # length of the coarse runs
    long: int  # length of the runs that the answer is read from
    verify: bool  # whether the answer is trained to the end

    @property
    def updates(self) -> int:
        """The most updates to make; the factor forgives the rounding of `budget`."""
        return int(self.budget * self.steps * (1 + 1e-9))

    @property
    def stages(self) -> dict[str, int]:
        """Updates of each stage if the grid need not grow."""
        stages = {
            "coarse": self.coarse * self.seeds * self.short,
            "between": 2 * self.seeds * self.short,
            "longer": 3 * self.seeds * (self.long - self.short),
            "answer": self.seeds * self.long,
        }
        return stages | ({"verify": self.steps - self.long} if self.verify else {})

    def __str__(self) -> str:
        """One line: the limit, and the updates of each stage."""
        stages = ", ".join(f"{name} {updates:,}" for name, updates in self.stages.items())
        trainings = f"{self.budget:g} full training{'' if self.budget == 1 else 's'}"
        return f"at most {self.updates:,} updates ({trainings} of {self.steps:,}): {stages}"


def plan(steps: int, budget: float | None = None, *, seeds: int = 3, coarse: int = 4) -> Plan:
    """Plan what `search` spends on each stage: first one seed, then verification, seeds, length.

    Args:
        steps: The length of training that the answer is for.
        budget: The most full trainings to spend, > 0. When None, 4, or more where a training is
            too short for these to pay for runs of four updates.
        seeds: The most seeds to use.
        coarse: How many rates the coarse grid has.

    Raises:
        ArgumentError: A number is out of its range, or does not pay for runs of four updates.
    """
    whole_number("steps", steps, least=SHORTEST * LENGTHENING)
    whole_number("seeds", seeds, least=1)
    per_seed = coarse + 2 + 3 * (LENGTHENING - 1) + LENGTHENING + SPARE  # in short runs
    if budget is None:
        budget = max(BUDGET, math.ceil(1 + SHORTEST * per_seed / steps))
    budget = positive_number("budget", budget)
    verify = budget >= VERIFIED
    rest = budget - verify
    used = min(max(int(rest + 1e-9), 1), seeds)
    while rest * steps < SHORTEST * per_seed * used and used > 1:
        used -= 1  # fewer seeds are better than runs that are too short
    short = min(int(rest * steps / (per_seed * used) + 1e-9), steps // LENGTHENING)
    if short < SHORTEST:
        needed = SHORTEST * per_seed * used / steps + verify
        raise ArgumentError(
            f"budget={budget:g} of steps={steps} allows {int(budget * steps)} updates; the "
            f"search needs {math.ceil(needed * steps)}. Give budget={needed:.2g} or more."
        )
    return Plan(steps, budget, coarse, used, short, LENGTHENING * short, verify)


class Budget:
    """The updates that a search may make, and what each stage has cost so far.

    >>> budget = Budget(100)
    >>> budget.charge("coarse", Cost(updates=60, val_samples=0, seconds=0.1))
    >>> budget.remaining
    40
    """

    def __init__(self, updates: int) -> None:
        self.updates = updates
        self._spent, self._samples = Counter[str](), Counter[str]()

    @property
    def remaining(self) -> int:
        """The updates that may still be made."""
        return self.updates - self._spent.total()

    def charge(self, stage: str, cost: Cost) -> None:
        """Add the cost of a call to what the stage has cost."""
        self._spent[stage] += cost.updates
        self._samples[stage] += cost.val_samples

    def spending(self, planned: Mapping[str, int]) -> pd.DataFrame:
        """One row per stage: columns `SPENDING`."""
        rows = [
            (stage, planned.get(stage, 0), self._spent[stage], self._samples[stage])
            for stage in dict.fromkeys([*planned, *self._spent])
        ]
        return as_table(rows, SPENDING)
