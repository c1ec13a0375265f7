"""search(): the best constant learning rate, by a budget or by the lecture's whole grid."""

import logging
import math
from collections.abc import Sequence

import pandas as pd

from lrtune.analysis.curves import FAILED_OUTCOMES, end_level
from lrtune.analysis.rate_estimate import (
    NEIGHBOUR,
    PEAK_RATIO,
    UNDERTRAINED_SHIFT,
    estimate_optimum,
    likely_range,
    remaining_loss,
)
from lrtune.errors import ArgumentError, positive_number, whole_number
from lrtune.results import SearchResult
from lrtune.results.manifest import manifest
from lrtune.results.runs import grid, seed_list
from lrtune.results.schema import SPENDING, as_table
from lrtune.task.task import Task
from lrtune.training import Evaluate, Evaluator, Progress
from lrtune.tuning.budget_search import BudgetSearch
from lrtune.tuning.planning import DEFAULT_STEPS, VERIFIED, plan
from lrtune.tuning.rate_history import (
    Answer,
    RateHistory,
    beyond_edge,
    check_runs,
    mark_given_up,
    promising,
    within,
)

COARSE = (0.1, 0.01, 0.001, 0.0001)
FINE = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0)
LIMITS = (1e-7, 10.0)
SHORT = 1 / 4
"""Length of the runs of the whole grid, as a share of the full length."""

GIVE_UP = 1 / 4
"""Where hopeless rates of the whole grid are given up, as a share of the length of its runs."""

LOWER = 2
"""A rate of the whole grid that is unstable over the full length is divided by this."""

NEGLIGIBLE = 0.05
"""Share of the initial loss below which the correction for short runs is not worth a word."""

SCHEDULE = "trapezoid"
"""The recommended schedule: it had the lowest losses in the benchmark (`docs/quality.md`)."""


def search(
    task: Task,
    *,
    steps: int = DEFAULT_STEPS,
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
    """Find the best constant learning rate: a coarse grid, then closer around its best.

    Every rate is trained with the same seeds, hence the same weights and batches. Short runs of the
    coarse grid come first (it grows by decades while its best is at the edge) and of the two rates
    at a factor of sqrt(10) from the best, then runs three times as long of the best and its two
    neighbours. The answer is the minimum of the parabola through these three, lowered the more, the
    less was learned, because short runs favour high rates. From a budget of 2 on it is trained to
    the end, with one seed. `plan` shows the cost of each stage.

    With `budget=math.inf` the search is the lecture's, which costs some sixteen trainings: a fine
    grid of 0.8 ... 2 times the best follows, all runs have `horizon` steps, hopeless ones are given
    up early, and the answer is trained to the end with every seed, and halved while it is unstable.

    Losses are means of validation and training loss (of the last fifth of a run; without
    validation data that alone). `docs/quality.md` shows how good the answers are.

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
    whole_grid = horizon is not None or tuple(fine) != FINE
    if budget is None and whole_grid:
        budget = math.inf
    elif whole_grid and budget != math.inf:
        raise ArgumentError(
            f"budget={budget!r} plans the horizons and the rates after the coarse grid by itself. "
            "Leave out `horizon` and `fine`, or pass budget=math.inf."
        )
    short = max(1, round(steps * SHORT))
    if horizon is not None:
        short = whole_number("horizon", horizon, least=1)
    if short > steps:
        raise ArgumentError(f"horizon={short} is longer than steps={steps}. Raise steps.")
    coarse, fine, limits = _checked(coarse, fine, limits)
    evaluate = evaluate or Evaluator(task, progress=progress)
    settings = {"steps": steps, "seeds": seeds, "seed": seed, "coarse": coarse}
    if budget == math.inf:
        history = RateHistory(short, seed_list(seeds, seed))
        answer = _GridSearch(evaluate, history, steps, limits).run(coarse, fine)
        spending = as_table(pd.DataFrame(columns=list(SPENDING)), SPENDING)
        settings |= {"horizon": short, "fine": fine}
    else:
        planned = plan(steps, budget, seeds=seeds, coarse=len(coarse))
        logging.getLogger(__name__).info("%s", planned)
        strategy = BudgetSearch(evaluate, planned, seed_list(planned.seeds, seed), limits)
        answer, history = strategy.run(coarse), strategy.history
        spending = strategy.budget.spending(planned.stages)
        settings |= {"budget": planned.budget}
    return SearchResult(
        lr=answer.lr,
        interval=answer.interval,
        schedule=SCHEDULE,
        peak=float(f"{answer.lr * PEAK_RATIO:.3g}"),
        because=_because(answer, history),
        confidence=_confidence(answer, history, steps),
        notes=tuple(answer.notes),
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


def _checked(
    coarse: Sequence[float], fine: Sequence[float], limits: tuple[float, float]
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, float]]:
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
    """The lecture's search: a whole coarse and a whole fine grid, and no limit to its cost."""

    def __init__(
        self, evaluate: Evaluate, history: RateHistory, steps: int, limits: tuple[float, float]
    ) -> None:
        self._evaluate, self._history = evaluate, history
        self._steps, self._limits = steps, limits
        self._early: dict[float, dict[int, float]] = {}  # losses at the step of giving up
        self._notes: list[str] = []

    def run(self, coarse: Sequence[float], fine: Sequence[float]) -> Answer:
        """Train the grids, then the answer for the full length."""
        history, limits = self._history, self._limits
        self._train(coarse, "coarse")
        while beyond := beyond_edge(history.stages, history.best):
            rate, why = beyond
            if not within([rate], limits):
                self._notes.append(f"{why}, and lies at a limit: widen `limits`")
                break
            self._notes.append(f"{why}: added {rate:.3g}")
            self._train([rate], "coarse")
        best = history.leader()
        self._train(within([best / NEIGHBOUR, best * NEIGHBOUR], limits), "between")
        best = history.leader()
        self._train(within((best * factor for factor in fine), limits), "fine")
        # The best of the fine grid needs near neighbours on both sides, too.
        while missing := within(self._missing_neighbours(), limits)[:1]:
            edge = f"the best fine rate, {history.leader():.3g}, was at the edge of the grid"
            self._notes.append(f"{edge}: added {missing[0]:.3g}")
            self._train(missing, "fine")
        answer = self._verify()
        if rates := history.given_up:
            stopped = f"given up after {self._give_up_step} steps, clearly behind the best"
            self._notes.append(f"{stopped}: {rates}")
        return answer

    def _missing_neighbours(self) -> list[float]:
        """Rates 25 % from the best, on the sides where none was trained within 30 %."""
        best, rates = self._history.leader(), self._history.stages
        lower = max((rate for rate in rates if rate < best), default=0.0)
        upper = min((rate for rate in rates if rate > best), default=math.inf)
        sides = [(lower < best / 1.3, best / 1.25), (upper > best * 1.3, best * 1.25)]
        return [rate for missing, rate in sides if missing]

    @property
    def _give_up_step(self) -> int:
        return max(1, round(self._history.horizon * GIVE_UP))

    def _train(self, rates: Sequence[float], stage: str) -> None:
        """Train the new ones of the rates, for the horizon or until they are hopeless."""
        new = self._history.untrained(rates)
        if not new:
            return
        runs, until = grid(new, self._history.seeds), self._give_up_step
        trace = self._evaluate(runs, self._steps, stage=stage, until=until, validate=False)
        self._history.stages |= dict.fromkeys(new, stage)
        failed = trace.runs.set_index("run")["outcome"].isin(FAILED_OUTCOMES)
        levels = trace.frame.groupby("run", sort=False)["loss"].agg(end_level).mask(failed)
        for run in runs:
            self._early.setdefault(run.lr, {})[run.seed] = levels[run.name]
        kept = promising(pd.DataFrame.from_dict(self._early, orient="index"))
        given_up = [run.name for run in runs if run.lr not in kept]
        if given_up:
            self._history.add(mark_given_up(trace.select(given_up), given_up))
        if going := [run for run in runs if run.lr in kept]:
            horizon = self._history.horizon
            self._history.add(self._evaluate(going, self._steps, stage=stage, until=horizon))

    def _verify(self) -> Answer:
        """Train the answer for the full length, and lower it while it is unstable there."""
        history, (low, high) = self._history, self._limits
        history.leader()  # raises where every rate failed
        optimum = estimate_optimum(history.losses, history.start)
        lr = history.nearest(float(f"{min(max(optimum, low), high):.3g}"))
        checks: list[pd.DataFrame] = []
        while True:
            self._train([lr], "answer")
            runs = grid([lr], history.seeds)
            trace = self._evaluate(runs, self._steps, stage="verify", validate=False)
            checks.append(check_runs(trace, history.horizon))
            unstable = int((~checks[-1]["passed"]).sum())
            if not unstable or lr / LOWER < low * 0.999:
                break
            lower = float(f"{lr / LOWER:.3g}")
            self._notes.append(
                f"{lr:.3g} was unstable over {self._steps} steps in {unstable} of {len(runs)} "
                f"seeds, though not over {history.horizon}: lowered to {lower:.3g}"
            )
            lr = lower
        every = pd.concat(checks, ignore_index=True)
        losses = history.losses
        return Answer(lr, likely_range(lr, losses), losses, history.start, every, self._notes)


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
