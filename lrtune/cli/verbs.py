"""What a command asks of a session: the plan first, then a search, then a comparison."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lrtune.cli.options import check_folder
from lrtune.cli.output import FAILED
from lrtune.cli.session import Session
from lrtune.errors import ArgumentError, ResultsError, StudyError, quantity
from lrtune.reporting import load
from lrtune.results import ComparisonResult, SearchResult, TransferResult
from lrtune.study.contents import open_study
from lrtune.study.study import place_of_study
from lrtune.tuning.compare import compare, plan_comparison
from lrtune.tuning.planning import Sizes, make_plan
from lrtune.tuning.range_test import range_test
from lrtune.tuning.search import search
from lrtune.tuning.settings import make_setting, planned_memory, with_memory
from lrtune.tuning.transfer import plan_transfer, transfer
from lrtune.tuning.vary import Vary, values_of

Answer = TypeVar("Answer", SearchResult, ComparisonResult, TransferResult)

WAYS_TO_COMPARE = (
    "A comparison begins with a search: run `lrtune search` on this task first, or give --from "
    "found.json, or --lr RATE with --steps."
)


def show_plan(
    session: Session, needs: Mapping[str, Any], *, rate_only: bool, sweep: bool, **settings: Any
) -> None:
    """Print what a search will spend; raises where it would not do what was asked for.

    Args:
        session: The command.
        needs: The options that need whole trainings; None where they were not given.
        rate_only: Whether the search ends with the first answer.
        sweep: Whether a range test comes before.
        settings: Those of the search itself, which are checked here.
    """
    planned = make_setting(session.task, **settings).plan
    if needs["save"] is not None:
        check_folder("--save", needs["save"])
    given = [name for name, value in needs.items() if value is not None]
    if given and planned["fine"] is None:
        raise ArgumentError(
            f"--{given[0]} needs a whole training, and budget={planned.budget:g} holds none. "
            f"Give --budget {_least_budget(planned.sizes, planned.budget):g} or more."
        )
    if rate_only:
        short = [stage for stage in planned.stages if stage.name == "coarse"]
        planned = dataclasses.replace(planned, stages=tuple(short))
    if sweep:
        session.print_status("Before the search, a range test: 3 sweeps of 200 steps.")
    planned = with_memory(planned, session.task, session.max_runs, session.offload)
    session.display.show_plan("search", planned)
    if needs["schedules"]:
        session.print_status(f"After it, a comparison with {', '.join(needs['schedules'])}.")


def show_sweeps(session: Session, *, steps: int, seeds: int, vary: Vary | None) -> None:
    """Print what a range test will train, and what memory that takes."""
    others = [] if vary is None else [one for one in values_of(session.task, vary) if not one.own]
    runs = max(2, len(others)) * seeds
    sweeps = f"{quantity(seeds, 'sweep')} of {quantity(steps, 'update')}, each beside a run that"
    session.print_status(f"{sweeps} does not learn.")
    if others:
        more = quantity(len(others) * seeds, "sweep")
        session.print_status(f"After them, {more} with {quantity(len(others), 'other value')}.")
    memory = planned_memory(session.task, runs, runs, session.max_runs, session.offload)
    session.print_status(str(memory))


def _least_budget(sizes: Sizes, budget: float) -> float:
    """The least budget that holds a whole training, to a twentieth."""
    budgets = (round(budget + step / 20, 2) for step in itertools.count(1))
    return next(more for more in budgets if make_plan(sizes, more)["fine"])


def run_range_test(session: Session, **settings: Any) -> None:
    """Sweep the rate; without a rate that trains, the command has failed."""
    if session.run(range_test, **settings).suggestion is None:
        session.exit_code = FAILED


def run_transfer(session: Session, *, time_limit: float | None, **settings: Any) -> None:
    """Print the plan of a transfer, and train the sizes."""
    most, offload = session.max_runs, session.offload
    planned = plan_transfer(session.task, max_runs=most, offload=offload, **settings)
    session.display.show_plan("transfer", *planned)
    _run_long(session, transfer, time_limit=time_limit, **settings)


def run_search(session: Session, *, save: Path | None, **settings: Any) -> SearchResult:
    """Search, and save the best model."""

    def saved(found: SearchResult) -> None:
        if save is not None and found.best is None:
            session.print_status(f"No whole training was finished, so {save} was not written.")
        elif save is not None:
            session.saved = found.save(save)

    return _run_long(session, search, then=saved, **settings)


def run_comparison(
    session: Session, begin: SearchResult | float, *, time_limit: float | None, **settings: Any
) -> None:
    """Print the plan of a comparison, and compare."""
    planned = {name: settings[name] for name in settings if name not in ("rank_by", "seed")}
    planned |= {"max_runs": session.max_runs, "offload": session.offload}
    contest = plan_comparison(session.task, begin, **planned)
    session.display.show_plan("comparison", contest.plan, str(contest))
    left = session.time_left(time_limit)  # a search may have taken some of it
    _run_long(session, compare, begin, time_limit=left, **settings)


def _run_long(
    session: Session,
    verb: Callable[..., Answer],
    *arguments: Any,
    then: Callable[[Answer], None] = lambda _: None,
    **settings: Any,
) -> Answer:
    """Call a verb that tells its answer so far; one that Ctrl-C has ended ends the command."""
    result = session.run(verb, *arguments, progress=session.display.event, **settings)
    then(result)
    if result.stopped == "interrupted":
        raise KeyboardInterrupt
    return result


def last_search(session: Session, source: Path | None) -> SearchResult:
    """The search that a comparison begins with: that of a file, or the last of the study."""
    where = str(source or f"the study {session.study_name}")
    try:
        if source is None:  # a search of another task would be no beginning
            results = open_study(place_of_study(session.study_name, session.task)).results
        else:
            results = load(source)
    except (StudyError, ResultsError) as error:
        raise ArgumentError(f"{error} {WAYS_TO_COMPARE}") from error
    searches = [one for one in results if isinstance(one, SearchResult)]
    if not searches:
        raise ArgumentError(f"{where} holds no search. {WAYS_TO_COMPARE}")
    return searches[-1]
