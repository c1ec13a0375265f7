"""The last stage: a rate that looks best early may diverge later."""

import math
from dataclasses import dataclass

import pandas as pd

from lrtune._search.book import Book
from lrtune.paired import level_ground


@dataclass(frozen=True, eq=False)
class Answer:
    """A rate that was trained for the full length.

    Attributes:
        lr: The rate.
        ground: The rates it is tied with, in order.
        passed: Whether it stayed stable in every seed.
        checks: One row per seed and rate that was tried.
        notes: What a reader should know.
    """

    lr: float
    ground: list[float]
    passed: bool
    checks: pd.DataFrame
    notes: list[str]


def verify(book: Book, limit: float) -> Answer:
    """Train the lowest tied rate for the full length; step down while that is unstable."""
    checks: list[pd.DataFrame] = []
    notes: list[str] = []
    ceiling = math.inf
    while True:
        standing = book.standing(below=ceiling)
        ground = [ceiling / 10] if standing is None else level_ground(standing)
        lr = ground[0]
        book.train(ground[:1], "verify")
        checks.append(book.check(lr))
        passed = bool(checks[-1]["passed"].all())
        lowest = book.standing(below=lr) is None and lr / 10 < limit * 0.999
        if passed or lowest:
            return Answer(lr, ground, passed, pd.concat(checks, ignore_index=True), notes)
        failed = (~checks[-1]["passed"]).sum()
        notes.append(
            f"{lr:.3g} looked best over {book.horizon} steps, but was unstable over {book.steps} "
            f"in {failed} of {len(book.seeds)} seeds: stepped down"
        )
        ceiling = lr
