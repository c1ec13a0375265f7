"""search(): the best learning rate with its schedule, and the best model trained on the way."""

from collections.abc import Sequence
from typing import Literal

from lrtune.diagnosis.check import look
from lrtune.errors import ArgumentError, SearchError, warn_about
from lrtune.results import SearchResult
from lrtune.results.runs import Shape
from lrtune.results.serialization import manifest
from lrtune.schedules.registry import schedule_text
from lrtune.task.task import Task
from lrtune.training import Evaluate, as_evaluate, said_of
from lrtune.tuning.answer import assemble, attach
from lrtune.tuning.answer_warnings import add_reasons
from lrtune.tuning.experiment import Clock, Event, Tell, ask_all, checked_tell
from lrtune.tuning.history import Question
from lrtune.tuning.limits import Limits
from lrtune.tuning.planning import DEFAULT_STEPS, Plan, make_plan
from lrtune.tuning.rate_search import RateSearch
from lrtune.tuning.settings import (
    COARSE,
    LIMITS,
    checked_budget,
    coarse_rates,
    fine_factors,
    grid_runs,
    make_setting,
    sizes_of,
    with_memory,
)


def search(
    task: Task | None = None,
    *,
    steps: int = DEFAULT_STEPS,
    schedule: str | Shape | None = None,
    budget: float | None = None,
    time_limit: float | None = None,
    min_gain: float = 0.02,
    coarse: Sequence[float] = COARSE,
    fine: Sequence[float] | Literal["grid"] | None = None,
    limits: Limits = LIMITS,
    seed: int = 0,
    current: tuple[float, str] | None = None,
    around: float | None = None,
    rate_only: bool = False,
    progress: Tell | None = None,
    max_runs: int | None = None,
    offload: Literal["cpu"] | None = None,
    evaluate: Evaluate | None = None,
) -> SearchResult:
    """Find the best learning rate of a schedule, and keep the best model that was trained for it.

    Coarse, then fine, as courses teach it. Short runs at {0.1, 0.01, 0.001, 0.0001} and around the
    best of them give the first answer: where the best peak lies, and how surely. In a long training
    whole runs of the schedule, compressed to a quarter of it or less, say it more exactly. Then
    whole trainings at the best peak, a seed each, show what it reaches; the best of them is kept.

    Args:
        task: What is trained; it stays as it is. None with an `evaluate` of your own.
        steps: The length of the training that the answer is for, in optimizer updates.
        schedule: The schedule whose peak is sought: a name, a call such as `cosine(floor=0.1)`, or
            a function of progress; `constant` for a rate that is kept. When None, the one that had
            the lowest losses on other tasks of such a length.
        budget: The most to spend, in full trainings of `steps` updates, validation included; when
            None 4, or what `fine="grid"` takes. `lrtune.plan` shows what it buys.
        time_limit: Seconds, > 0, after which nothing is begun that would not finish; the short runs
            of the first answer are made in any case. None for no limit.
        min_gain: The search ends when two more trainings are expected to lower the score by less.
        coarse: The coarse grid.
        fine: Factors of the first answer to train at full length, or `"grid"` for the lecture's
            whole grid of 0.8 ... 2.0; when None the best peak so far is trained again and again.
        limits: The lowest and the highest rate to try.
        seed: The first seed; every whole training has the next one.
        current: Your present setting, `(lr, schedule)`: the first whole training.
        around: A rate near which to begin, instead of the coarse grid.
        rate_only: End with the first answer.
        progress: Called with an `Event`.
        max_runs: The most runs to hold in memory at once, those that may go on included; when None
            what memory allows. It changes no answer; with few, some updates are made again. Where
            memory runs out, it is halved.
        offload: "cpu" moves runs that do not train to the CPU; None leaves them on the device.
        evaluate: The function that trains runs; an `Evaluator` of the task when None.

    Returns:
        A `SearchResult`: `lr` with its `schedule`, `interval`, `good_range`; `warnings`; `best`,
        the best training, with its stated loss, `model()` and `state_dict()`; `snippet()`; tables.

    What counts against the answer is in `warnings`, and an `AnswerWarning` says it.

    Raises:
        ArgumentError: A number is out of its range, and nothing has trained; or `evaluate` did not
            return a trace of its runs.
        SearchError: No rate trains, or nothing was learned at any rate; it shows the evidence.

    Ctrl-C after the first answer ends the search with the best so far: `stopped` is "interrupted".
    Before, or where nothing was learned so far, KeyboardInterrupt passes through.

    >>> from lrtune.testing import bowl
    >>> found = search(bowl(curvature=4.0), steps=100, schedule="constant")  # diverges above 0.5
    >>> 0.05 < found.lr < 0.5, found.schedule, found.stopped
    (True, 'constant', 'gain')
    """
    trained = as_evaluate(task, evaluate, max_runs=max_runs, offload=offload)
    setting = make_setting(
        task, steps=steps, schedule=schedule, budget=budget, min_gain=min_gain, coarse=coarse,
        fine=fine, limits=limits, seed=seed, current=current, around=around,
    )  # fmt: skip
    if rate_only and setting.plan["coarse"] is None:
        given = "the optimizer sets its own rate" if setting.adapts_rate else "the rate is given"
        raise ArgumentError(
            f"rate_only=True ends before the whole trainings, and as {given}, nothing is trained "
            "before them. Leave rate_only out."
        )
    odd = () if task is None else look(task).warnings
    clock, tell = Clock(time_limit), checked_tell(progress)
    strategy = RateSearch(setting, rate_only=rate_only)

    def told(question: Question) -> None:
        if tell is not None:
            lr = strategy.surrogate.best_rate() if strategy.has_answer else None
            spent = strategy.experiment.spent
            tell(
                Event(question.stage, spent, setting.plan.cost, lr, schedule_text(setting.schedule))
            )

    stopped = ask_all(
        strategy.asking(), trained, clock, told, interruptible=lambda: strategy.has_answer
    )
    try:
        strategy.check_learned()
    except SearchError as error:
        if stopped == "interrupted":  # what was trained so far is no evidence
            raise KeyboardInterrupt from error
        add_reasons(error, task, steps, strategy.whole, said_of(trained))
        raise
    described = {} if task is None else task.describe()
    asked = {"min_gain": min_gain, "coarse": setting.coarse, "fine": setting.fine}
    asked |= {"limits": setting.limits, "around": around, "current": setting.current}
    made = manifest(described, steps=steps, seed=seed, budget=setting.plan.budget, **asked)
    told_before = (*odd, *said_of(trained))
    found = assemble(strategy, setting, stopped or strategy.stopped, made, warnings=told_before)
    attach(found, task, trained)
    warn_about(found.warnings)
    return found


def plan(
    task: Task | None = None,
    *,
    steps: int = DEFAULT_STEPS,
    budget: float | None = None,
    coarse: Sequence[float] = COARSE,
    fine: Sequence[float] | Literal["grid"] | None = None,
    current: tuple[float, str] | None = None,
    around: float | None = None,
    max_runs: int | None = None,
    offload: Literal["cpu"] | None = None,
) -> Plan:
    """What `search` with these arguments would spend, stage by stage; nothing is trained.

    With a task it also tells how many runs are held at once, and what memory they need.

    Raises:
        ArgumentError: A number is out of its range, or the budget is too small; it says how much
            is needed.
    """
    planned = make_plan(
        sizes_of(task, steps),
        checked_budget(budget),
        coarse=0 if around is not None else len(coarse_rates(coarse)),
        grid=grid_runs(fine_factors(fine)),
        extra=current is not None,
    )
    return with_memory(planned, task, max_runs, offload)
