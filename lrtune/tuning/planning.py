"""What a search within a budget may spend where, before anything trains. Pure."""

import math
from dataclasses import dataclass

import pandas as pd

from lrtune.errors import ArgumentError
from lrtune.results.runs import positive, whole
from lrtune.results.schema import SPENDING
from lrtune.results.serialization import table

BUDGET = 4.0
"""Full trainings that a search may spend when nothing is said."""

LEAST = 4
"""Updates of the shortest run that is worth having."""

LONGER = 3
"""How many times as long as the coarse runs those around the best rate are."""

SPARE = 2
"""Coarse runs by which the grid may grow without taking from later stages."""

VERIFIED = 2.0
"""From this budget on, one full training is set aside for the answer."""


@dataclass(frozen=True)
class Plan:
    """How a budget is spent: short runs of the coarse grid, longer ones around its best rate.

    With n coarse rates and S seeds, the coarse grid costs n S `short`; the two rates between,
    2 S `short`; going on with the best and its two neighbours, 3 S (`long` - `short`); the answer,
    S `long`; and, from a budget of 2 on, its first seed the rest of `steps`.

    Attributes:
        steps: The length of training that the answer is for, T.
        budget: What may be spent, in full trainings of T steps.
        coarse: How many rates the coarse grid has.
        seeds: How many seeds every rate is trained with.
        short: Length of the coarse runs.
        long: Length of those that the answer is read from.
        verify: Whether the answer is trained to the end.

    >>> print(plan(steps=400, budget=1.0))
    at most 400 updates (1 full training of 400): coarse 92, between 46, longer 138, answer 69
    """

    steps: int
    budget: float
    coarse: int
    seeds: int
    short: int
    long: int
    verify: bool

    @property
    def updates(self) -> int:
        """What may be spent, in updates; a hair more than asked is forgiven to rounding."""
        return int(self.budget * self.steps * (1 + 1e-9))

    @property
    def stages(self) -> dict[str, int]:
        """Updates that each stage needs when the grid need not grow."""
        further = 3 * self.seeds * (self.long - self.short)
        stages = {
            "coarse": self.coarse * self.seeds * self.short,
            "between": 2 * self.seeds * self.short,
            "longer": further,
            "answer": self.seeds * self.long,
        }
        return stages | ({"verify": self.steps - self.long} if self.verify else {})

    def spending(self, spent: dict[str, int]) -> pd.DataFrame:
        """One row per stage: `stage`, `planned`, `spent`, in updates."""
        meant = self.stages
        rows = [(name, meant.get(name, 0), spent.get(name, 0)) for name in meant | spent]
        return table(pd.DataFrame(rows, columns=list(SPENDING)), SPENDING)

    def __str__(self) -> str:
        """One line: the limit, and what each stage takes of it."""
        told = ", ".join(f"{name} {updates:,}" for name, updates in self.stages.items())
        trainings = f"{self.budget:g} full training{'' if self.budget == 1 else 's'}"
        return f"at most {self.updates:,} updates ({trainings} of {self.steps:,}): {told}"


def plan(steps: int, budget: float | None = None, *, seeds: int = 3, coarse: int = 4) -> Plan:
    """What `search` would spend where: first one seed, then a verification, seeds, and length.

    Args:
        steps: The length of training that the answer is for.
        budget: Full trainings that may be spent, all stages and seeds counted, > 0. When None, 4,
            or more where a training is so short that these do not pay for runs of four updates.
        seeds: The most seeds to use.
        coarse: How many rates the coarse grid has.

    Raises:
        ArgumentError: A number is out of its range, or does not pay for runs of four updates.
    """
    whole("steps", steps, least=LEAST * LONGER)
    whole("seeds", seeds, least=1)
    one = coarse + 2 + 3 * (LONGER - 1) + LONGER + SPARE  # short runs' worth, with one seed
    if budget is None:
        budget = max(BUDGET, math.ceil(1 + LEAST * one / steps))
    budget = positive("budget", budget)
    verify = budget >= VERIFIED
    rest = budget - verify
    used = min(max(int(rest + 1e-9), 1), seeds)
    while rest * steps < LEAST * one * used and used > 1:
        used -= 1  # rather fewer seeds than runs too short
    short = min(int(rest * steps / (one * used) + 1e-9), steps // LONGER)
    if short < LEAST:
        needed = LEAST * one * used / steps + verify
        raise ArgumentError(
            f"budget={budget:g} of steps={steps} is {int(budget * steps)} updates, too few for "
            f"runs of {LEAST} each. Give budget={needed:.2g} or more, or fewer coarse rates."
        )
    return Plan(steps, budget, coarse, used, short, LONGER * short, verify)
