"""search(): coarse, between, fine, verified. The strategy is pure; training is handed to it."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd

from lrtune._cohort import Evaluate, Progress, evaluator
from lrtune.curves import FAILED, end_level, noise
from lrtune.errors import ArgumentError, SearchError
from lrtune.manifest import manifest
from lrtune.paired import Standing, level_ground, stand
from lrtune.records import table
from lrtune.results import CHECKS, CURVES, RATES, SCORES, Search, Trace
from lrtune.runs import STEPS, grid, positive, seed_list, whole
from lrtune.task import Task

COARSE = (0.1, 0.01, 0.001, 0.0001)
FINE = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0)
LIMITS = (1e-7, 10.0)
SHORT = 1 / 4
"""Length of the short runs, as a share of the full one."""


def search(
    task: Task,
    *,
    steps: int = STEPS,
    seeds: int = 3,
    seed: int = 0,
    coarse: Sequence[float] = COARSE,
    fine: Sequence[float] = FINE,
    limits: tuple[float, float] = LIMITS,
    horizon: int | None = None,
    progress: Progress | None = None,
    evaluate: Evaluate | None = None,
) -> Search:
    """Find the initial learning rate: coarse grid, then fine around its best, then verified.

    Every rate is trained for `horizon` steps with the same seeds, hence weights and batches, and
    scored by its validation loss (without validation data: by the training loss of its last
    fifth). The coarse grid grows by decades while its best is on its edge. Between coarse and fine
    the two rates at a factor of sqrt(10) from the best are tried, as the fine grid alone leaves
    most of each decade out. What is trained once is not trained again. Rates that cannot be told
    apart from the best, over the seeds, are a tie, and the lowest of them is taken. It is then
    trained for the full length; where that is unstable, the next lower rate is.

    Args:
        task: What is trained; it stays as it is.
        steps: The length of training that the answer is for, in optimizer updates.
        seeds: How many seeds; with one there are no intervals, and ties go unseen.
        seed: The first seed; the others follow it.
        coarse: The coarse grid.
        fine: The fine grid, as factors of the best rate so far.
        limits: The grids do not grow beyond these rates.
        horizon: Length of the short runs; a quarter of `steps` when None.
        progress: Told the stage, the updates done and the total.
        evaluate: What trains runs and returns their trace; the task's own cohort when None.

    Returns:
        A `Search`: `lr`, `interval`, `frame`, `scores`, `curves`, `checks`, `notes`.

    Raises:
        ArgumentError: A number is out of its range; nothing has trained.
        SearchError: No rate within the limits trains without failing.

    >>> from lrtune.testing import bowl
    >>> found = search(bowl(curvature=4.0), steps=80, seeds=1)  # fastest at 0.25
    >>> found.lr, found.verified
    (0.253, True)
    """
    whole("steps", steps, least=1)
    short = whole("horizon", max(1, round(steps * SHORT)) if horizon is None else horizon, least=1)
    if short > steps:
        raise ArgumentError(f"horizon={short} is longer than steps={steps}. Raise steps.")
    coarse = tuple(sorted({positive("a coarse rate", rate) for rate in coarse}))
    fine = tuple(sorted({positive("a fine factor", factor) for factor in fine}))
    low, high = (positive("a limit", limit) for limit in limits)
    if not coarse:
        raise ArgumentError("the coarse grid is empty. Give at least one rate, such as 0.01.")
    if not low <= coarse[0] <= coarse[-1] <= high:
        raise ArgumentError(
            f"the coarse grid {coarse[0]:g} ... {coarse[-1]:g} leaves the limits {low:g} ... "
            f"{high:g}. Widen the limits, or narrow the grid."
        )
    book = Book(evaluate or evaluator(task, progress), short, seed_list(seeds, seed))
    notes = list(climb(book, coarse, fine, (low, high)))
    answer = verify(book, steps, low)
    return Search(
        lr=answer.lr,
        interval=(answer.ground[0], answer.ground[-1]),
        because=_because(book, answer),
        notes=(*notes, *answer.notes),
        steps=steps,
        horizon=short,
        verified=answer.passed,
        manifest=manifest(
            task.describe(),
            steps=steps,
            horizon=short,
            seeds=seeds,
            seed=seed,
            coarse=coarse,
            fine=fine,
        ),
        frame=book.rates(answer.ground),
        scores=book.scores,
        curves=book.curves,
        checks=answer.checks,
    )


class Book:
    """What has been trained: it trains a rate at most once, and scores it over the seeds."""

    def __init__(self, evaluate: Evaluate, horizon: int, seeds: Sequence[int]) -> None:
        """Nothing trained yet."""
        self._evaluate, self.horizon, self.seeds = evaluate, horizon, list(seeds)
        self.stages: dict[float, str] = {}
        self._scores: list[pd.DataFrame] = []
        self._curves: list[pd.DataFrame] = []

    def train(self, rates: Iterable[float], stage: str) -> None:
        """Train those of the rates that are new."""
        new: list[float] = []
        for rate in rates:
            if not self.knows(rate, beside=new):
                new.append(rate)
        if not new:
            return
        trace = self._evaluate(grid(new, self.seeds), self.horizon, stage=stage)
        self.stages |= dict.fromkeys(new, stage)
        self._scores.append(scored(trace))
        rows = trace.frame.drop(columns="lr").merge(trace.runs[["run", "lr", "seed"]], on="run")
        self._curves.append(table(rows, CURVES))

    def check(self, rate: float, steps: int) -> pd.DataFrame:
        """Train a rate for longer: one row per seed, and whether it stayed stable."""
        trace = self._evaluate(grid([rate], self.seeds), steps, stage="verify", validate=False)
        losses = trace.frame.groupby("run", sort=False)["loss"]
        rows = [
            (
                run.lr,
                run.seed,
                run.outcome,
                *_held(losses.get_group(run.run), run.outcome, self.horizon),
            )
            for run in trace.runs.itertuples()
        ]
        return table(pd.DataFrame(rows, columns=list(CHECKS)), CHECKS)

    def knows(self, rate: float, beside: Sequence[float] = ()) -> bool:
        """Whether this rate, up to rounding, has been trained, or is one of those beside."""
        return any(math.isclose(rate, known, rel_tol=1e-3) for known in (*self.stages, *beside))

    @property
    def scores(self) -> pd.DataFrame:
        """One row per rate and seed."""
        return pd.concat(self._scores, ignore_index=True)

    @property
    def curves(self) -> pd.DataFrame:
        """One row per rate, seed and step."""
        return pd.concat(self._curves, ignore_index=True)

    def standing(self, below: float = math.inf) -> Standing | None:
        """How the rates (below a limit) stand against their best; None when all of them failed."""
        scores = self.scores.pivot_table("score", "lr", "seed", dropna=False)
        return stand(scores[scores.index < below])

    def leader(self) -> float:
        """The rate with the best mean score."""
        standing = self.standing()
        if standing is None:
            tried = sorted(self.stages)
            raise SearchError(
                f"no rate from {tried[0]:.2g} to {tried[-1]:.2g} trains for {self.horizon} steps "
                "without diverging in some seed. Look for outliers in the data, normalise the "
                "inputs, clip the gradients, or lower `limits`."
            )
        return float(cast("float", standing.leader))

    def rates(self, ground: Sequence[float]) -> pd.DataFrame:
        """One row per rate, with its verdict in the lecture's words.

        Good is what is tied with the best, next to it; diverged is what failed in some seed, or
        ended above the good rates no better than it began.
        """
        standing = self.standing()
        assert standing is not None, "a search that has an answer has a leader"
        by_rate = self.scores.assign(failed=self.scores["outcome"].isin(FAILED)).groupby("lr")
        frame = standing.frame.assign(stage=pd.Series(self.stages), failed=by_rate["failed"].sum())
        frame["tied"] = [rate in ground for rate in frame.index]
        lost = (frame["failed"] > 0) | (by_rate["train"].mean() >= by_rate["start"].mean())
        frame["verdict"] = [verdict(rate, ground, lost=lost[rate]) for rate in frame.index]
        frame.loc[frame["failed"] > 0, "verdict"] = "diverged"
        return table(frame.reset_index(names="lr"), RATES)


def verdict(rate: float, ground: Sequence[float], *, lost: bool = False) -> str:
    """In the lecture's words: too low, good, high, diverged.

    >>> [verdict(rate, [0.01, 0.02]) for rate in (0.001, 0.01, 0.1)]
    ['too low', 'good', 'high']
    """
    if rate < ground[0]:
        return "too low"
    if rate <= ground[-1]:
        return "good"
    return "diverged" if lost else "high"


def scored(trace: Trace) -> pd.DataFrame:
    """One row per run: its outcome and its score, NaN where it failed."""
    rows = []
    val = trace.evaluated.set_index("run")["loss"]
    losses = trace.frame.groupby("run", sort=False)["loss"]
    for run in trace.runs.itertuples():
        loss = losses.get_group(run.run).to_numpy()
        train, validation = end_level(loss), float(val.get(run.run, np.nan))
        score = np.nan if run.outcome in FAILED else validation if len(val) else train
        rows.append((run.lr, run.seed, run.outcome, loss[0], train, validation, score))
    return table(pd.DataFrame(rows, columns=list(SCORES)), SCORES)


def _held(loss: pd.Series, outcome: str, horizon: int) -> tuple[float, float, bool]:
    """Training loss at the end of the short and of the long run, and whether it held."""
    losses = loss.to_numpy()
    short, long = end_level(losses[:horizon]), end_level(losses)
    window = max(1, len(losses) // 5)
    spread = noise(losses[-window:]) * math.sqrt(1 / window + 5 / horizon)
    return short, long, outcome not in FAILED and long <= short + 3 * spread


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


def verify(book: Book, steps: int, limit: float) -> Answer:
    """Train the lowest tied rate for the full length; step down while that is unstable."""
    checks: list[pd.DataFrame] = []
    notes: list[str] = []
    ceiling = math.inf
    while True:
        standing = book.standing(below=ceiling)
        ground = [ceiling / 10] if standing is None else level_ground(standing)
        lr = ground[0]
        book.train(ground[:1], "verify")
        checks.append(book.check(lr, steps))
        passed = bool(checks[-1]["passed"].all())
        lowest = book.standing(below=lr) is None and lr / 10 < limit * 0.999
        if passed or lowest:
            return Answer(lr, ground, passed, pd.concat(checks, ignore_index=True), notes)
        failed = (~checks[-1]["passed"]).sum()
        notes.append(
            f"{lr:.3g} looked best over {book.horizon} steps, but was unstable over {steps} in "
            f"{failed} of {len(book.seeds)} seeds: stepped down"
        )
        ceiling = lr


def _because(book: Book, answer: Answer) -> str:
    seeds = f"{len(book.seeds)} seeds" if len(book.seeds) > 1 else "1 seed"
    tried = f"of {len(book.stages)} rates trained for {book.horizon} steps with {seeds}"
    if not answer.passed:
        return f"the lowest {tried}; not even this one stayed stable in the longer run"
    if answer.notes:
        tried = f"that stayed stable in the longer run, {tried}"
    if len(answer.ground) == 1:
        return f"the best {tried}"
    return (
        f"the lowest of {len(answer.ground)} that cannot be told apart from the best, {tried}; "
        "a tie goes to the stable side"
    )
