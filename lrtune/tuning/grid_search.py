"""Coarse, between, fine: which rates are trained, and where the grids grow."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from lrtune.analysis.rate_estimate import estimate_optimum, reach
from lrtune.tuning.rate_history import Book


def climb(
    book: Book, coarse: Sequence[float], fine: Sequence[float], limits: tuple[float, float]
) -> Iterator[str]:
    """Coarse, between, fine; yields what a reader should know."""

    def allowed(rates: Iterable[float]) -> list[float]:
        rounded = [float(f"{rate:.4g}") for rate in rates]
        return [rate for rate in rounded if limits[0] * 0.999 <= rate <= limits[1] * 1.001]

    book.train(coarse, "coarse")
    yield from _grow(book, limits)
    best = book.leader()
    book.train(allowed([best / math.sqrt(10), best * math.sqrt(10)]), "between")
    best = book.leader()
    book.train(allowed(best * factor for factor in fine), "fine")
    # The fine grid may end at its best rate: that needs neighbours on both sides.
    while lonely := allowed(_lonely(book)):
        yield f"fine: {book.leader():.3g} was on the edge of the grid, so {lonely[0]:.3g} was tried"
        book.train(lonely, "fine")


def _grow(book: Book, limits: tuple[float, float]) -> Iterator[str]:
    """An edge is not an optimum: add decades while the best coarse rate is on one."""
    while True:
        rates, standing = sorted(book.stages), book.standing()
        if standing is None:
            new, told = rates[0] / 10, "every rate failed"
        elif standing.leader == rates[0]:
            new, told = rates[0] / 10, f"the best rate was the lowest, {rates[0]:.3g}"
        elif standing.leader == rates[-1]:
            new, told = rates[-1] * 10, f"the best rate was the highest, {rates[-1]:.3g}"
        else:
            return
        new = float(f"{new:.4g}")
        if not limits[0] * 0.999 <= new <= limits[1] * 1.001:
            yield f"coarse: {told}, at the limit of what may be tried: widen `limits`"
            return
        yield f"coarse: {told}, so {new:.3g} was tried too"
        book.train([new], "coarse")


def _lonely(book: Book) -> list[float]:
    """A rate on that side of the best where the next one is more than 30 % away; or none."""
    best, rates = book.leader(), sorted(book.stages)
    lower = max((rate for rate in rates if rate < best), default=0.0)
    upper = min((rate for rate in rates if rate > best), default=math.inf)
    sides = [(lower < best / 1.3, best / 1.25), (upper > best * 1.3, best * 1.25)]
    return [rate for open_, rate in sides if open_][:1]


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
    lr = float(f"{min(max(estimate_optimum(book.curve, book.start), limits[0]), limits[1]):.3g}")
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
