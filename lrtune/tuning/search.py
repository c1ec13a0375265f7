"""search(): the best constant learning rate, within a budget or by two whole grids."""

import logging
import math
from collections.abc import Sequence

import pandas as pd

from lrtune.analysis.rate_estimate import (
    NEIGHBOUR,
    PEAK_RATIO,
    UNDERTRAINED_SHIFT,
    estimate_optimum,
    likely_range,
    remaining_loss,
    rounded,
)
from lrtune.errors import ArgumentError, positive_number, whole_number
from lrtune.results import SearchResult
from lrtune.results.runs import grid, seed_list
from lrtune.results.schema import SPENDING, as_table
from lrtune.results.serialization import manifest
from lrtune.task.task import Task
from lrtune.training import Evaluate, Evaluator, Progress
from lrtune.tuning.budget_search import BudgetSearch
from lrtune.tuning.planning import DEFAULT_STEPS, VERIFIED, plan
from lrtune.tuning.rate_history import (
    Answer,
    Limits,
    RateHistory,
    clip,
    end_levels,
    promising,
    within,
)

COARSE = (0.1, 0.01, 0.001, 0.0001)
FINE = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0)
LIMITS = (1e-7, 10.0)
SCHEDULE = "trapezoid"  # it had the lowest losses in the benchmark (`docs/quality.md`)
NEGLIGIBLE = 0.05  # below this share of the initial loss, the correction is not worth a word

SHORT = 1 / 4  # length of the runs of the whole grid, as a share of the full length
GIVE_UP = 1 / 4  # where its hopeless rates are given up, as a share of that
LOWER = 2  # its answer is divided by this while it is unstable over the full length


def search(
    task: Task,
    *,
    steps: int = DEFAULT_STEPS,
    seeds: int = 3,
    seed: int = 0,
    coarse: Sequence[float] = COARSE,
    fine: Sequence[float] = FINE,
    limits: Limits = LIMITS,
    horizon: int | None = None,
    budget: float | None = None,
    progress: Progress | None = None,
    evaluate: Evaluate | None = None,
) -> SearchResult:
    """Find the best constant learning rate: a coarse grid, then closer around its best.

    Every rate is trained with the same seeds, hence the same weights and batches. Short runs of the
    coarse grid come first (it grows by decades while its best is at the edge), then the two rates a
    factor of sqrt(10) from the best, then runs three times as long of the best and its neighbours.
    The answer is the minimum of the parabola through these three, then lowered, as short runs
    favour high rates: the more, the less the model has learned. From a budget of 2 on it is trained
    to the end, with one seed. Losses are means of validation loss, if any, and training loss (the
    last fifth of a run). `plan` shows the cost of each stage, and `docs/quality.md` how good the
    answers are.

    With `budget=math.inf` the search trains two whole grids, as courses teach it, for some sixteen
    trainings: a fine grid of 0.8 ... 2 times the best follows, all runs have `horizon` steps,
    hopeless ones are given up early, and the answer is trained to the end with every seed, and
    halved while it is unstable.

    Args:
        task: What is trained; it stays as it is.
        steps: The length of training that the answer is for, in optimizer updates.
        seeds: How many seeds; with a budget at most so many. One seed shows no ties.
        seed: The first seed; the others follow it.
        coarse: The coarse grid.
        fine: The fine grid, as factors of the best rate so far; only without a budget.
        limits: The lowest and the highest rate to try.
        horizon: Length of the runs, a quarter of `steps` when None; only without a budget.
        budget: The most full trainings of `steps` updates to spend, > 0. When None, 4; or no limit
            where `fine` or `horizon` is given.
        progress: Called with the stage, the updates done and the total.
        evaluate: The function that trains runs; an `Evaluator` of the task when None.

    Returns:
        A `SearchResult`: `lr`, `interval`, `confidence`, `frame`, `scores`, `curves`, `checks`,
        `notes`, `spending`; and `schedule`, its `peak` and `snippet()`, for a rate that decays.

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
    whole_number("steps", steps, least=1)
    budget, horizon = _checked_cost(steps, budget, horizon, own_grid=tuple(fine) != FINE)
    coarse, fine, limits = _checked_grids(coarse, fine, limits)
    evaluate = evaluate or Evaluator(task, progress=progress)
    settings = {"steps": steps, "seeds": seeds, "seed": seed, "coarse": coarse}
    if budget == math.inf:
        settings |= {"horizon": horizon, "fine": fine}
        history = RateHistory(horizon, seed_list(seeds, seed))
        answer = _GridSearch(evaluate, history, steps, limits).run(coarse, fine)
        spending = as_table([], SPENDING)
    else:
        planned = plan(steps, budget, seeds=seeds, coarse=len(coarse))
        logging.getLogger(__name__).info("%s", planned)
        settings |= {"budget": planned.budget}
        strategy = BudgetSearch(evaluate, planned, seed_list(planned.seeds, seed), limits)
        answer, history = strategy.run(coarse), strategy.history
        spending = strategy.budget.spending(planned.stages)
    return SearchResult(
        lr=answer.lr,
        interval=answer.interval,
        schedule=SCHEDULE,
        peak=rounded(answer.lr * PEAK_RATIO),
        because=_because(answer, history),
        confidence=_confidence(answer, history, steps),
        notes=tuple(history.notes),
        steps=steps,
        horizon=history.horizon,
        verified=answer.verified,
        manifest=manifest(task.describe(), **settings),
        frame=history.table(answer.interval),
        scores=history.scores,
        curves=history.curves,
        checks=answer.checks,
        spending=spending,
    )


def _checked_cost(
    steps: int, budget: float | None, horizon: int | None, *, own_grid: bool
) -> tuple[float | None, int]:
    """The budget, infinite for the whole grid, and the length of that grid's runs."""
    whole_grid = own_grid or horizon is not None
    if budget is None and whole_grid:
        budget = math.inf
    elif whole_grid and budget != math.inf:
        raise ArgumentError(
            f"budget={budget!r} plans the horizons and the rates after the coarse grid by itself. "
            "Leave out `horizon` and `fine`, or pass budget=math.inf."
        )
    short = max(1, round(steps * SHORT)) if horizon is None else horizon
    whole_number("horizon", short, least=1)
    if short > steps:
        raise ArgumentError(f"horizon={short} is longer than steps={steps}. Raise steps.")
    return budget, short


def _checked_grids(
    coarse: Sequence[float], fine: Sequence[float], limits: Limits
) -> tuple[tuple[float, ...], tuple[float, ...], Limits]:
    """The grids in order, and the limits; raises where the coarse grid leaves them."""
    coarse = tuple(sorted({positive_number("a coarse rate", rate) for rate in coarse}))
    fine = tuple(sorted({positive_number("a fine factor", factor) for factor in fine}))
    low, high = (positive_number("a limit", limit) for limit in limits)
    if not coarse:
        raise ArgumentError("the coarse grid is empty. Give at least one rate, such as 0.01.")
    if not low <= coarse[0] <= coarse[-1] <= high:
        raise ArgumentError(
            f"the coarse grid {coarse[0]:g} ... {coarse[-1]:g} leaves the limits {low:g} ... "
            f"{high:g}. Widen the limits, or narrow the grid."
        )
    return coarse, fine, (low, high)


class _GridSearch:
    """The search by two whole grids, a coarse and a fine one, without a limit to its cost."""

    def __init__(
        self, evaluate: Evaluate, history: RateHistory, steps: int, limits: Limits
    ) -> None:
        self._evaluate, self._history = evaluate, history
        self._steps, self._limits = steps, limits
        self._give_up_step = max(1, round(history.horizon * GIVE_UP))
        self._early: dict[float, dict[int, float]] = {}  # losses at that step

    def run(self, coarse: Sequence[float], fine: Sequence[float]) -> Answer:
        """Train the grids, then the answer for the full length."""
        history, limits = self._history, self._limits
        self._train(coarse, "coarse")
        history.grow(lambda: history.best, lambda rate: self._train([rate], "coarse"), limits)
        best = history.leader()
        self._train(within([best / NEIGHBOUR, best * NEIGHBOUR], limits), "between")
        best = history.leader()
        self._train(within((best * factor for factor in fine), limits), "fine")
        # The best of the fine grid needs near neighbours on both sides, too.
        while missing := within(self._missing_neighbours(), limits)[:1]:
            edge = f"the best fine rate, {history.leader():.3g}, was at the edge of the grid"
            history.notes.append(f"{edge}: added {missing[0]:.3g}")
            self._train(missing, "fine")
        answer = self._verify()
        if rates := history.given_up:
            stopped = f"given up after {self._give_up_step} steps, clearly behind the best"
            history.notes.append(f"{stopped}: {rates}")
        return answer

    def _missing_neighbours(self) -> list[float]:
        """Rates 25 % from the best, on the sides where none was trained within 30 %."""
        best, rates = self._history.leader(), self._history.stages
        lower = max((rate for rate in rates if rate < best), default=0.0)
        upper = min((rate for rate in rates if rate > best), default=math.inf)
        sides = [(lower < best / 1.3, best / 1.25), (upper > best * 1.3, best * 1.25)]
        return [rate for missing, rate in sides if missing]

    def _train(self, rates: Sequence[float], stage: str) -> bool:
        """Train new rates, for the horizon or until they are hopeless; True, whatever it costs."""
        new, history = self._history.untrained(rates), self._history
        if new:
            runs, until = grid(new, history.seeds), self._give_up_step
            trace = self._evaluate(runs, self._steps, stage=stage, until=until, validate=0)
            history.stages |= dict.fromkeys(new, stage)
            levels = end_levels(trace)
            for run in runs:
                self._early.setdefault(run.lr, {})[run.seed] = levels[run.name]
            kept = promising(pd.DataFrame.from_dict(self._early, orient="index"))
            if given_up := [run.name for run in runs if run.lr not in kept]:
                history.add(trace.select(given_up), given_up)
            if going := [run for run in runs if run.lr in kept]:
                until = history.horizon
                history.add(self._evaluate(going, self._steps, stage=stage, until=until))
        return True

    def _verify(self) -> Answer:
        """Train the answer for the full length, and lower it while it is unstable there."""
        history = self._history
        history.leader()  # raises where every rate failed
        lr = history.nearest(clip(estimate_optimum(history.losses, history.start), self._limits))
        checks: list[pd.DataFrame] = []
        while True:
            self._train([lr], "answer")
            runs = grid([lr], history.seeds)
            trace = self._evaluate(runs, self._steps, stage="verify", validate=0)
            checks.append(history.check(trace))
            unstable = int((~checks[-1]["passed"]).sum())
            if not unstable or lr / LOWER < self._limits[0] * 0.999:
                break
            lower = rounded(lr / LOWER)
            history.notes.append(
                f"{lr:.3g} was unstable over {self._steps} steps in {unstable} of {len(runs)} "
                f"seeds, though not over {history.horizon}: lowered to {lower:.3g}"
            )
            lr = lower
        every, losses = pd.concat(checks, ignore_index=True), history.losses
        return Answer(lr, likely_range(lr, losses), losses, history.start, every)


def _because(answer: Answer, history: RateHistory) -> str:
    share = remaining_loss(answer.losses, answer.start)
    seeds = f"{len(history.seeds)} seed{'s' * (len(history.seeds) > 1)}"
    read = f"Read from {len(answer.losses)} rates trained for {history.horizon} steps ({seeds})"
    if share < NEGLIGIBLE:
        return f"{read}."
    lowered = f"then lowered by {1 - UNDERTRAINED_SHIFT**share:.0%}".replace("%", " %")
    return f"{read}, {lowered}: short runs favour rates that are too high."


def _confidence(answer: Answer, history: RateHistory, steps: int) -> str:
    """The interval, how far the answer was trained, and what would make it surer."""
    low, high = answer.interval
    runs = int((answer.checks["lr"] == answer.lr).sum())
    trained = f"for {history.horizon} of {steps} steps"
    if answer.verified:
        more = "" if runs > 2 else "; more seeds would make that surer"
        tried = f"Stable over all {steps} steps in {runs} of {runs} runs{more}."
    elif len(answer.checks):
        tried = f"Not stable over all {steps} steps: clip the gradients, or decay the rate early."
    elif answer.lr in answer.losses:
        tried = f"Trained {trained}; a budget of {VERIFIED:g} or more trains it to the end."
    else:
        tried = f"Only rates on both sides were trained, {trained}: give a larger budget."
    return f"90 % interval: {low:.2g} to {high:.2g}. {tried}"
