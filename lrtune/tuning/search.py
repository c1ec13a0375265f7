"""search(): the stages in their order, and what came of them."""

import logging
import math
from collections.abc import Sequence

import pandas as pd

from lrtune.analysis.rate_estimate import HIGHER, left
from lrtune.errors import ArgumentError
from lrtune.results import SearchResult
from lrtune.results.manifest import manifest
from lrtune.results.runs import STEPS, positive, seed_list, whole
from lrtune.results.schema import SPENDING
from lrtune.results.serialization import table
from lrtune.task.task import Task
from lrtune.training import Evaluate, Evaluator, Progress
from lrtune.tuning.budget_search import Purse, spend
from lrtune.tuning.grid_search import Answer, climb, verify
from lrtune.tuning.planning import VERIFIED, plan
from lrtune.tuning.rate_history import Book

COARSE = (0.1, 0.01, 0.001, 0.0001)
FINE = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0)
LIMITS = (1e-7, 10.0)
SHORT = 1 / 4
"""Length of the short runs, as a share of the full one, where no budget plans it."""

SCHEDULE = "trapezoid"
"""The recommended schedule: it had the lowest losses in the benchmark (`docs/quality.md`)."""

LITTLE = 0.05
"""The share of the initial loss below which a word about it is not worth while."""


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
    budget: float | None = None,
    progress: Progress | None = None,
    evaluate: Evaluate | None = None,
) -> SearchResult:
    """Find the initial learning rate: a coarse grid, then closer around its best, then verified.

    Every rate is trained for a while with the same seeds, hence weights and batches. The coarse
    grid grows by decades while its best is on its edge; then the two rates at a factor of sqrt(10)
    from the best are tried. At most `budget` full trainings are spent, all stages and seeds
    counted, as `plan` tells beforehand: on short runs of these rates, and on runs three times as
    long of the best of them and its two neighbours.

    The answer lies at the bottom of the parabola through these three, or below it: the less was
    learned by then, the more do the runs flatter high rates. It is trained that long, too, and from
    a budget of 2 on to the end, with one seed. Losses are means of validation and training loss
    (of the last fifth of a run; without validation data that alone). `docs/quality.md` tells how
    good the answers are.

    Without a limit, the search is the lecture's: after the coarse grid, a fine one of 0.8 ... 2
    times its best, all runs for `horizon` steps. Hopeless ones are given up early. Of the full
    length is then a run with every seed; where one is unstable, half the rate is tried.

    Args:
        task: What is trained; it stays as it is.
        steps: The length of training that the answer is for, in optimizer updates.
        seeds: How many seeds, with a budget at most; with one, ties go unseen.
        seed: The first seed; the others follow it.
        coarse: The coarse grid.
        fine: The fine grid, as factors of the best rate so far; only without a limit.
        limits: The grids do not grow beyond these rates.
        horizon: Length of the runs, a quarter of `steps` when None; only without a limit.
        budget: Full trainings of `steps` updates that may be spent, > 0; 4 when None, or no limit
            where `fine` or `horizon` ask for the whole grid. `math.inf` asks for it, too: it costs
            some sixteen.
        progress: Told the stage, the updates done and the total.
        evaluate: What trains runs and returns their trace; an `Evaluator` of the task when None.

    Returns:
        A `SearchResult`: `lr`, `interval`, `confidence`, `frame`, `scores`, `curves`, `checks`,
        `notes`, `spending`; `schedule`, its `peak` and `snippet()`, where the rate need not be
        kept.

    Raises:
        ArgumentError: A number is out of its range; nothing has trained.
        SearchError: No rate within the limits trains without failing.

    >>> from lrtune.testing import bowl
    >>> found = search(bowl(curvature=4.0), steps=100)  # fastest at 0.25, diverges above 0.5
    >>> found.lr, found.interval, found.verified
    (0.178, (0.0712, 0.445), True)
    >>> found.schedule, found.peak
    ('trapezoid', 0.285)
    """
    whole("steps", steps, least=1)
    asked = horizon is not None or tuple(fine) != FINE
    if budget is None and asked:
        budget = math.inf
    elif asked and budget != math.inf:
        raise ArgumentError(
            f"budget={budget!r} plans the horizons and the rates after the coarse grid by itself. "
            "Leave out `horizon` and `fine`, or pass budget=math.inf."
        )
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
    evaluate = evaluate or Evaluator(task, progress=progress)
    book: Book
    if budget == math.inf:
        book = Book(evaluate, steps, short, seed_list(seeds, seed))
        notes = list(climb(book, coarse, fine, (low, high)))
        answer = verify(book, (low, high))
        spending = table(pd.DataFrame(columns=list(SPENDING)), SPENDING)
        settings: dict[str, object] = {"horizon": short, "fine": fine}
    else:
        meant = plan(steps, budget, seeds=seeds, coarse=len(coarse))
        logging.getLogger(__name__).info("%s", meant)
        book = Purse(evaluate, meant, seed_list(meant.seeds, seed))
        answer = spend(book, coarse, (low, high))
        notes = []
        spending = meant.spending(book.spent)
        settings = {"budget": meant.budget}
    if book.given_up:
        notes.append(_given_up(book))
    return SearchResult(
        lr=answer.lr,
        interval=answer.interval,
        schedule=SCHEDULE,
        peak=float(f"{answer.lr * HIGHER:.3g}"),
        because=_because(book),
        notes=(*notes, *answer.notes),
        steps=steps,
        horizon=book.horizon,
        verified=answer.passed,
        manifest=manifest(
            task.describe(), steps=steps, seeds=seeds, seed=seed, coarse=coarse, **settings
        ),
        frame=book.rates(answer.interval),
        scores=book.scores,
        curves=book.curves,
        checks=answer.checks,
        confidence=confidence(answer, book),
        spending=spending,
    )


def _given_up(book: Book) -> str:
    rates = ", ".join(f"{rate:.3g}" for rate in book.given_up)
    if isinstance(book, Purse):
        return f"not trained beyond {book.plan.short} steps, as others were better there: {rates}"
    return f"given up after {book.rung} steps, behind the best by more than chance: {rates}"


def _because(book: Book) -> str:
    share = left(book.curve, book.start)
    seeds = f"{len(book.seeds)} seeds" if len(book.seeds) > 1 else "1 seed"
    rates = f"{len(book.curve)} rates trained for {book.horizon} steps with {seeds}"
    if share < LITTLE:
        return f"at the bottom of the curve through {rates}"
    return (
        f"somewhat below the bottom of the curve through {rates}: while {share:.0%} of the initial "
        "loss is left, high rates look better than they are"
    )


def confidence(answer: Answer, book: Book) -> str:
    """What was seen, what was not, and what would make it surer."""
    low, high = (f"{rate:.2g}" for rate in answer.interval)
    return (
        f"The best constant rate for {book.steps} steps lies between {low} and {high} with a "
        f"chance of some 9 in 10, going by other tasks. {_seen(answer, book)}"
    )


def _seen(answer: Answer, book: Book) -> str:
    each = "1 seed" if len(book.seeds) == 1 else f"{len(book.seeds)} seeds"
    if answer.passed:
        held = (answer.checks["lr"] == answer.lr).sum()
        more = "" if held > 2 else " More seeds would make that surer."
        return f"It stayed stable over all {book.steps} steps in {held} of {held} runs.{more}"
    if len(answer.checks):
        return (
            "It was not seen to stay stable to the end: watch the loss, clip the gradients, "
            "or decay the rate early."
        )
    if isinstance(book, Purse) and answer.lr not in book.longer:
        return (
            f"It was not trained itself, but lies between rates that were, for {book.horizon} of "
            f"{book.steps} steps with {each}: give a larger budget."
        )
    return (
        f"It was trained for {book.horizon} of {book.steps} steps with {each}: a budget of "
        f"{VERIFIED:g} or more would train it to the end, and a larger one use more seeds."
    )
