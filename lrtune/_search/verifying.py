"""The last stage: a rate that looks best early may diverge later."""

from dataclasses import dataclass

import pandas as pd

from lrtune._search.book import Book
from lrtune.locating import located, reach

LOWER = 2
"""An answer that is not stable to the end is divided by this."""


@dataclass(frozen=True, eq=False)
class Answer:
    """A rate, and how it held.

    Attributes:
        lr: The rate.
        interval: Where the best one lies.
        passed: Whether it stayed stable to the end in every run of the full length.
        checks: One row per seed and rate that was tried.
        notes: What a reader should know.
    """

    lr: float
    interval: tuple[float, float]
    passed: bool
    checks: pd.DataFrame
    notes: list[str]


def verify(book: Book, limits: tuple[float, float]) -> Answer:
    """Train the answer for the full length; go down while it is unstable there."""
    book.leader()  # or the search ends here
    lr = float(f"{min(max(located(book.curve, book.start), limits[0]), limits[1]):.3g}")
    checks: list[pd.DataFrame] = []
    notes: list[str] = []
    while True:
        book.train([lr], "answer")
        checks.append(book.check(lr))
        passed = bool(checks[-1]["passed"].all())
        if passed or lr / LOWER < limits[0] * 0.999:
            within = reach(lr, book.curve)
            return Answer(lr, within, passed, pd.concat(checks, ignore_index=True), notes)
        failed = (~checks[-1]["passed"]).sum()
        notes.append(
            f"{lr:.3g} looked good over {book.horizon} steps, but was unstable over {book.steps} "
            f"in {failed} of {len(book.seeds)} seeds: stepped down"
        )
        lr = float(f"{lr / LOWER:.3g}")
