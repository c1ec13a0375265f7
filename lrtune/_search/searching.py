"""search(): the stages in their order, and what came of them."""

import logging
from collections.abc import Sequence

import pandas as pd

from lrtune._cohort import Evaluate, Evaluator, Progress
from lrtune._search.book import Book
from lrtune._search.climbing import climb
from lrtune._search.confidence import confidence
from lrtune._search.planning import plan
from lrtune._search.spending import Purse, spend
from lrtune._search.verifying import Answer, verify
from lrtune.columns import SPENDING
from lrtune.errors import ArgumentError
from lrtune.manifest import manifest
from lrtune.records import table
from lrtune.results import Search
from lrtune.runs import STEPS, positive, seed_list, whole
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
    budget: float | None = None,
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

    With a `budget`, at most so many full trainings are spent, all stages and seeds counted, as
    `plan` tells beforehand. The coarse grid and the two rates between are trained for a short
    horizon, the best and its two neighbours for three times as long; the answer lies somewhat
    below the bottom of the parabola through them, as a rate that is kept to the end is best below
    the one that leads early. It is trained that long, too, and from a budget of 2 on to the end,
    with one seed. Scores are then means of validation and training loss over the last third of a
    run. `docs/quality.md` tells how good the answers are.

    Args:
        task: What is trained; it stays as it is.
        steps: The length of training that the answer is for, in optimizer updates.
        seeds: How many seeds, with a budget at most; with one, ties go unseen.
        seed: The first seed; the others follow it.
        coarse: The coarse grid.
        fine: The fine grid, as factors of the best rate so far; not with a budget.
        limits: The grids do not grow beyond these rates.
        horizon: Length of the short runs; a quarter of `steps` when None. Not with a budget.
        budget: Full trainings of `steps` updates that may be spent, > 0; None for no limit.
        progress: Told the stage, the updates done and the total.
        evaluate: What trains runs and returns their trace; an `Evaluator` of the task when None.

    Returns:
        A `Search`: `lr`, `interval`, `confidence`, `frame`, `scores`, `curves`, `checks`, `notes`,
        `spending`.

    Raises:
        ArgumentError: A number is out of its range; nothing has trained.
        SearchError: No rate within the limits trains without failing.

    >>> from lrtune.testing import bowl
    >>> found = search(bowl(curvature=4.0), steps=80, seeds=1)  # fastest at 0.25
    >>> found.lr, found.verified
    (0.253, True)
    """
    whole("steps", steps, least=1)
    if budget is not None and (horizon is not None or tuple(fine) != FINE):
        raise ArgumentError(
            f"budget={budget!r} plans the horizons and the rates after the coarse grid by itself. "
            "Leave out `horizon` and `fine`, or the budget."
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
    if budget is None:
        book = Book(evaluate, steps, short, seed_list(seeds, seed))
        notes = list(climb(book, coarse, fine, (low, high)))
        answer = verify(book, low)
        because = _because(book, answer)
        spending = table(pd.DataFrame(columns=list(SPENDING)), SPENDING)
        settings: dict[str, object] = {"horizon": short, "fine": fine}
    else:
        meant = plan(steps, budget, seeds=seeds, coarse=len(coarse))
        logging.getLogger(__name__).info("%s", meant)
        book = Purse(evaluate, meant, seed_list(meant.seeds, seed))
        answer = spend(book, coarse, (low, high))
        notes, because = [], _bought(book)
        spending = meant.spending(book.spent)
        settings = {"budget": budget}
    if book.given_up:
        notes.append(_given_up(book))
    return Search(
        lr=answer.lr,
        interval=(answer.ground[0], answer.ground[-1]),
        because=because,
        notes=(*notes, *answer.notes),
        steps=steps,
        horizon=book.horizon,
        verified=answer.passed,
        manifest=manifest(
            task.describe(), steps=steps, seeds=seeds, seed=seed, coarse=coarse, **settings
        ),
        frame=book.rates(answer.ground),
        scores=book.scores,
        curves=book.curves,
        checks=answer.checks,
        confidence=confidence(answer, book, steps),
        spending=spending,
    )


def _bought(book: Purse) -> str:
    seeds = f"{len(book.seeds)} seeds" if len(book.seeds) > 1 else "1 seed"
    return (
        f"somewhat below the bottom of the curve through {len(book.longer)} rates trained for "
        f"{book.horizon} steps with {seeds}, of {len(book.stages)} tried; a rate that is kept to "
        "the end is best below the one that leads early"
    )


def _given_up(book: Book) -> str:
    rates = ", ".join(f"{rate:.3g}" for rate in book.given_up)
    if isinstance(book, Purse):
        return f"not trained beyond {book.plan.short} steps, as others were better there: {rates}"
    return f"given up after {book.rung} steps, behind the best by more than chance: {rates}"


def _because(book: Book, answer: Answer) -> str:
    seeds = f"{len(book.seeds)} seeds" if len(book.seeds) > 1 else "1 seed"
    tried = f"of {len(book.stages)} rates tried over {book.horizon} steps with {seeds}"
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
