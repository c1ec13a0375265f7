"""compare(): how other schedules stand against the recommended one, each at its own peak rate."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import pandas as pd

from lrtune.analysis.prior import Belief
from lrtune.analysis.surrogate import Surrogate
from lrtune.diagnosis.check import look
from lrtune.errors import ArgumentError, SearchError, shown, warn_about
from lrtune.results import ComparisonResult, SearchResult
from lrtune.results.schema import CURVES, TRIED, as_table
from lrtune.results.serialization import manifest
from lrtune.results.trained import BestRun
from lrtune.schedules.registry import schedule_text
from lrtune.task.task import Task
from lrtune.training import Evaluate, as_evaluate, said_of, trained_task
from lrtune.tuning.answer import attach, best_run, expected
from lrtune.tuning.answer_warnings import (
    add_reasons,
    drift_warnings,
    fall_of,
    interruption,
    peak_warnings,
    seed_warnings,
)
from lrtune.tuning.contest import Contest, Schedules, make_contest, refuse_other_search
from lrtune.tuning.contest_plan import ComparisonPlan, plan_contest
from lrtune.tuning.experiment import Clock, Event, Tell, ask_all, checked_tell
from lrtune.tuning.history import Measured, Question
from lrtune.tuning.limits import Limits
from lrtune.tuning.ranking import RANK_BY, because, notes, ranking, trained
from lrtune.tuning.rivals import RivalTrials
from lrtune.tuning.scoring import Baseline, Scoring, refuse_endless
from lrtune.tuning.settings import LIMITS, with_memory
from lrtune.tuning.standing import scored


def compare(
    task: Task | None,
    found: SearchResult | float,
    *,
    schedules: Schedules | None = None,
    steps: int | None = None,
    seeds: int = 3,
    seed: int | None = None,
    samples: int = 0,
    budget: float | None = None,
    time_limit: float | None = None,
    limits: Limits = LIMITS,
    rank_by: str = "final",
    progress: Tell | None = None,
    max_runs: int | None = None,
    offload: Literal["cpu"] | None = None,
    evaluate: Evaluate | None = None,
) -> ComparisonResult:
    """Compare schedules with the recommended one, each at its own peak rate.

    The ranking that other tasks had costs nothing; the table begins with it. Where a quarter or an
    eighth of a training is long enough to be worth anything, whole runs of all schedules,
    compressed to that horizon, choose rivals. These are trained for all `steps` with the seeds with
    which the search has trained the recommended schedule, whose runs are not trained again. Only
    that decides: a schedule is behind, or ahead and recommended instead, where the 90 % interval of
    the mean difference, corrected for the number of rivals, excludes zero. Else it is a tie.

    Args:
        task: What is trained; it stays as it is. None with an `evaluate` of your own.
        found: What `search` found; or the peak rate of the schedule that had the lowest losses on
            other tasks. Its missing trainings are made.
        schedules: Names in `schedules.SCHEDULES` or `schedules.FEEDBACK`, calls such as
            `cosine(floor=0.1)`, functions of progress; or a mapping of names of your own to these.
            `recipe:NAME` is a published recipe at its own peak, scaled to the task's batch size.
            `["all"]` is the whole registry. Constant, linear and cosine are always in the table.
        steps: The length of training that the answer is for; that of the search, or 500.
        seeds: How many pairs of whole trainings a rival gets, >= 2. It gets fewer where the budget
            would not hold a single rival else.
        seed: The first of the seeds that are new; when None the one after those of the search.
        samples: Samples of each rival's parameters, besides its defaults.
        budget: The most to spend, in full trainings of `steps` updates, validation included; when
            None 4, or what one rival takes with its seeds and the missing trainings of the
            recommended schedule. `plan_comparison` shows what it buys.
        time_limit: Seconds after which nothing is begun that would not finish; None for no limit.
        limits: The lowest and the highest rate.
        rank_by: What sorts the table: "final" (the estimate for `steps`), "early" (decrease of the
            training loss in the first quarter) or "plateau" (its level).
        progress: Called with an `Event`.
        max_runs: The most runs to hold in memory at once, those that may go on included; when None
            what memory allows. It changes no answer; with few, some updates are made again. Where
            memory runs out, it is halved.
        offload: "cpu" moves runs that do not train to the CPU; None leaves them on the device.
        evaluate: The function that trains runs; an `Evaluator` of the task when None.

    Returns:
        A `ComparisonResult`: `table`, `schedule` with its `lr`, `winner`, `snippet()`, `model()`.

    Raises:
        ArgumentError: A number or a name is out of its range, or `found` or `evaluate` is of
            another task; nothing has trained.
        ScheduleError: A schedule raises, or gives no finite multiplier >= 0; nothing has trained.
        SearchError: No schedule trains, or none has learned anything.

    What counts against the recommendation is in `warnings`, and an `AnswerWarning` says it. Ctrl-C
    ends the comparison with what was trained: `stopped` is "interrupted".

    >>> from lrtune.testing import bowl
    >>> ranked = compare(bowl(4.0), 0.25, schedules=["step"], steps=64, seeds=2)
    >>> sorted(ranked.table["schedule"])
    ['constant', 'cosine', 'linear', 'step', 'trapezoid']
    """
    if rank_by not in RANK_BY:
        raise ArgumentError(
            f"rank_by={shown(rank_by)}; expected {', '.join(RANK_BY)}. Take final, the loss at the "
            "end."
        )
    contest = make_contest(
        task, found, schedules=schedules, steps=steps, seeds=seeds, seed=seed, samples=samples,
        budget=budget, limits=limits,
    )  # fmt: skip
    trials = RivalTrials(contest, plan_contest(contest))
    if task is not None and isinstance(found, SearchResult):
        own = evaluate is not None and trained_task(evaluate) is None
        refuse_other_search(task, found, begins_alike=not own)
    trained = as_evaluate(task, evaluate, max_runs=max_runs, offload=offload)
    clock, tell = Clock(time_limit), checked_tell(progress)

    def told(question: Question) -> None:
        if tell is not None:
            one = trials.candidates[trials.standing.recommended()]
            total, text = trials.plan.plan.cost, schedule_text(one.named.shape)
            tell(Event(question.stage, trials.experiment.spent, total, one.lr, text))

    stopped = ask_all(trials.asking(), trained, clock, told, interruptible=lambda: True)
    whole = [one for runs in trials.evidence.whole.values() for one in runs.values()]
    try:
        _check_learned(trials, task, whole)
    except SearchError as error:
        add_reasons(error, task, contest.sizes.steps, whole, said_of(trained))
        raise
    made = _manifest(contest, task, found)
    ranked = _result(trials, found, stopped or "budget", made, rank_by)
    against = tuple(dict.fromkeys([*_warnings(trials, task, found, stopped), *said_of(trained)]))
    ranked = replace(ranked, warnings=against)
    if isinstance(found, SearchResult) and ranked.best is found.best:
        ranked.attach_like(found)
    else:
        attach(ranked, task, trained)
    warn_about(ranked.warnings)
    return ranked


def plan_comparison(
    task: Task | None,
    found: SearchResult | float,
    *,
    schedules: Schedules | None = None,
    steps: int | None = None,
    seeds: int = 3,
    samples: int = 0,
    budget: float | None = None,
    limits: Limits = LIMITS,
    max_runs: int | None = None,
    offload: Literal["cpu"] | None = None,
) -> ComparisonPlan:
    """What `compare` with these arguments would train, and what it can show; nothing is trained.

    Raises:
        ArgumentError: A number or a name is out of its range.

    >>> print(plan_comparison(None, 0.25, schedules=["step"], steps=64))
    At most 6 full trainings of 64 steps. In full trainings:
      rivals    about 6 trainings    6.00
      together                       6.00
    to be trained for all 64 steps with 3 seeds each, against trapezoid: step
    how small a difference these seeds can show depends on the noise of this task
    """
    contest = make_contest(
        task, found, schedules=schedules, steps=steps, seeds=seeds, samples=samples,
        budget=budget, limits=limits,
    )  # fmt: skip
    planned = plan_contest(contest)
    return replace(planned, plan=with_memory(planned.plan, task, max_runs, offload))


def _manifest(contest: Contest, task: Task | None, found: SearchResult | float) -> dict[str, str]:
    return manifest(
        {} if task is None else task.describe(),
        found="a search" if isinstance(found, SearchResult) else found,
        schedule=contest.reference.name,
        lr=contest.reference.lr,
        schedules=tuple(sorted(one.name for one in contest.rivals)),
        steps=contest.sizes.steps,
        seeds=contest.seeds,
        samples=contest.samples,
        budget=contest.budget,
    )


def _check_learned(trials: RivalTrials, task: Task | None, whole: Sequence[Measured]) -> None:
    """Raise a SearchError where whole trainings were made, and none has learned anything."""
    if not whole:
        return
    scoring = _scoring(trials, task, whole)
    refuse_endless(scoring, whole)
    if all(one.failed for one in whole):
        rates = [one.run.lr for one in whole]
        raise SearchError(
            f"every whole training diverged, at rates from {min(rates):.2g} to {max(rates):.2g}. "
            "Search for a rate first, or give a lower one."
        )
    if not any(map(scoring.learned, whole)):
        lowest = min(scoring.judged(one) for one in whole)
        below = scoring.start if scoring.guess is None else scoring.guess.loss
        raise SearchError(
            f"nothing was learned: the best whole training ends at {lowest:.4g}, which is not "
            f"clearly below {below:.4g}. Look at the labels, the loss and the optimizer."
        )


def _scoring(trials: RivalTrials, task: Task | None, whole: Sequence[Measured]) -> Scoring:
    """How these whole trainings are scored, and what guessing reaches."""
    scoring = scored(whole, trials.scoring)
    guess = None
    if task is not None and trials.contest.sizes.selection and not scoring.drifts:
        guess = task.guess("selection")
    if guess is None:
        return scoring
    return replace(scoring, guess=Baseline(guess.loss, guess.stderr, known=True))


def _warnings(
    trials: RivalTrials, task: Task | None, found: SearchResult | float, stopped: str
) -> Iterator[str]:
    """What counts against the recommendation, and against the search that it begins with."""
    if isinstance(found, SearchResult):
        yield from found.warnings
    elif task is not None:
        yield from look(task).warnings
    if stopped == "interrupted":
        yield interruption("comparison", trials.experiment, trials.plan.plan.cost)
    best = trials.candidates[trials.standing.recommended()]
    whole = list(trials.evidence.whole.get(best.name, {}).values())
    every = list(trials.experiment.history.runs.values())
    fall = fall_of(every, scored(every, trials.scoring).start)
    yield from drift_warnings(trials.contest.drift, trials.contest.sizes.steps, fall)
    for one in trials.candidates.values():
        if one.named.asked or one is best:
            yield from peak_warnings(one.name, one.named.shape, trials.contest.sizes.steps, one.lr)
    if whole:
        yield from seed_warnings(whole, _scoring(trials, task, whole), best.lr)


def _result(
    trials: RivalTrials,
    found: SearchResult | float,
    stopped: str,
    made: dict[str, str],
    rank_by: str,
) -> ComparisonResult:
    contest, plan, standing = trials.contest, trials.plan, trials.standing
    runs, curves = _tables(trials, found)
    steps = contest.sizes.steps
    table = ranking(standing, runs, curves, trials.costs, steps=steps, rank_by=rank_by)
    best = standing.candidates[standing.recommended()]
    others = table.loc[table["verdict"] != "recommended", "verdict"]
    whole = list(standing.evidence.whole.get(best.name, {}).values())
    around = Surrogate.fit(Belief(math.log(best.lr), best.prior.short_spread), best.prior)
    return ComparisonResult(
        winner=best.name if len(others) and (others == "behind").all() else "",
        schedule=best.name,
        call=schedule_text(best.named.shape),
        lr=best.lr,
        because=because(standing, table, steps),
        warnings=(),
        notes=(*trained(standing, steps), *plan.notes, *notes(standing, table, runs)),
        stopped=stopped,
        steps=steps,
        horizon=plan.horizon,
        seeds=plan.seeds,
        budget=contest.budget,
        cost=float(trials.experiment.spent),
        scores=contest.kind,
        best=_best(trials, found),
        retrained=expected(whole, scored(whole, trials.scoring), around, best.lr),
        manifest=made,
        table=table,
        runs=runs,
        curves=curves,
        spending=trials.experiment.spending(plan.plan),
    )


def _best(trials: RivalTrials, found: SearchResult | float) -> BestRun | None:
    """The best of all whole trainings, those of the search included."""
    new = best_run(trials.experiment.history.finished(trials.contest.sizes.steps))
    old = found.best if isinstance(found, SearchResult) else None
    both = [one for one in (old, new) if one is not None]
    return min(both, key=lambda one: one.selected, default=None)


def _tables(trials: RivalTrials, found: SearchResult | float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs, with those of the search that were compared with, and their curves."""
    history = trials.experiment.history
    runs = [history.table()]
    curves = [history.curves()] if any(len(one.losses) for one in history.runs.values()) else []
    if isinstance(found, SearchResult):
        names = [one.run.name for one in trials.contest.trained.values()]
        runs.insert(0, found.runs[found.runs["run"].isin(names)])
        curves.insert(0, found.curves[found.curves["run"].isin(names)])
    return (
        as_table(pd.concat(runs, ignore_index=True), TRIED),
        as_table(pd.concat(curves, ignore_index=True) if curves else [], CURVES),
    )
