"""One command that trains: its task, its study, its progress, and its answers however it ends."""

import contextlib
import dataclasses
import itertools
import json
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.markup import escape

from lrtune.analysis.curves import FAILED_OUTCOMES, Outcome
from lrtune.cli.answers import INDENT, answer_object, print_results
from lrtune.cli.options import check_folder
from lrtune.cli.output import print_error
from lrtune.cli.progress import ProgressDisplay
from lrtune.cli.task_file import default_study, task_of
from lrtune.errors import (
    ArgumentError,
    LrtuneError,
    ResultsError,
    SearchError,
    StudyError,
    has_location,
)
from lrtune.reporting import load, report
from lrtune.reporting.statements import setting
from lrtune.results import Result, SearchResult, Trace
from lrtune.results.runs import Run
from lrtune.study.contents import open_study
from lrtune.study.study import Study
from lrtune.task.task import Task
from lrtune.training import Evaluate, Evaluator
from lrtune.tuning.planning import Sizes, make_plan
from lrtune.tuning.search import search
from lrtune.tuning.settings import make_setting

Answer = TypeVar("Answer", bound=Result)

# Exit codes, besides those of errors; 130 is what a shell reports after Ctrl-C.
ANSWER, INTERRUPTED = 0, 130


@dataclass(kw_only=True, eq=False)
class Session:
    """A command that trains: loads its task, shows progress, prints and reports however it ends.

    Its fields are the options of the command line; `target` of None is the embedded digits.
    """

    target: str | None
    device: str | None
    engine: str
    study: str | None
    fresh: bool
    force: bool
    no_study: bool
    out: Path
    as_json: bool
    seed: int

    def __post_init__(self) -> None:
        """Load nothing yet: errors in the user's file are printed by the session as well."""
        self.results: list[Result] = []
        self.exit_code = ANSWER
        self._study: Study | None = None
        self._evaluator: Evaluator | None = None
        self._unfinished: list[Trace] = []
        self._console = Console(stderr=True, highlight=False)
        self._display = ProgressDisplay(self._console, self.print_status)
        self._saved: Path | None = None
        self._error = ""
        self._interrupted = False

    def __enter__(self) -> Self:
        """Check where the report goes, start the progress bar, and listen for Ctrl-C."""
        try:
            self._check_options()
        except ArgumentError as error:
            raise SystemExit(print_error(error, self._console)) from None
        self._display.start()
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        """Print the error, if any, and all results; True, as the error is handled."""
        self._display.stop()
        if signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if isinstance(error, KeyboardInterrupt):
            self.exit_code = INTERRUPTED
            self._unfinished.clear()
            self._console.print(f"[bold]Interrupted.[/] {self._how_to_resume()}")
        elif isinstance(error, Exception):
            self._add_notes(error)
            self._error = str(error)
            self.exit_code = print_error(error, self._console)
        elif error is not None:
            return False
        study = self._study
        if study is not None and study.known and study.remembered + study.trained:
            runs = f"remembered {study.remembered} runs, trained {study.trained}"
            self.print_status(f"Study {study.location}: {runs}")
        with contextlib.suppress(BrokenPipeError):  # such as `lrtune search | head -1`
            self._deliver()
        return True

    @cached_property
    def task(self) -> Task:
        """The task of the command line, on its device."""
        return task_of(self.target, self.device)

    @cached_property
    def evaluate(self) -> Evaluate:
        """Trains runs of the task; a study records them, and the session keeps their traces."""
        if not self.no_study:
            self._study = Study(
                self._study_name,
                self.task,
                fresh=self.fresh,
                force=self.force,
                seed=self.seed,
                say=self.print_status,
            )
        study = self._study
        self._evaluator = Evaluator(
            self.task,
            engine=self.engine,
            progress=self._show_progress,
            decide=None if study is None else study.decide,
            checkpoints=None if study is None else study.checkpoints,
        )
        inner: Evaluate = self._evaluator
        if study is not None:
            inner = study.evaluator(self._evaluator, self.engine)
        return _TraceKeeper(inner, self._unfinished)

    @property
    def _study_name(self) -> str:
        return self.study or default_study(self.target, self.device)

    # --- what commands do

    def run(self, verb: Callable[..., Answer], *arguments: Any, **settings: Any) -> Answer:
        """Call a verb such as `lrtune.search` on the task, and keep its result."""
        result = verb(self.task, *arguments, evaluate=self.evaluate, **settings)
        self.results.append(result)
        self._unfinished.clear()  # the traces that led to a result are part of it
        if self._study is not None:
            self._study.record(result)
        return result

    def show_plan(
        self,
        *,
        rate_only: bool,
        save: Path | None,
        sweep: bool,
        rivals: Sequence[str] | None,
        **settings: Any,
    ) -> None:
        """Print what a search will spend; raises where it would not do what was asked for.

        Args:
            rate_only: Whether it ends with the first answer.
            save: Where the best model goes.
            sweep: Whether a range test comes before.
            rivals: The schedules that are compared afterwards.
            settings: Those of the search itself, which are checked here.
        """
        planned = make_setting(self.task, **settings).plan
        if save is not None:
            check_folder("--save", save)
        needs = {"--save": save, "--current": settings.get("current")}
        given = [option for option, value in needs.items() if value is not None]
        if given and planned["fine"] is None:
            enough = _least_budget(planned.sizes, planned.budget)
            raise ArgumentError(
                f"{given[0]} needs a whole training, and budget={planned.budget:g} holds none. "
                f"Give --budget {enough:g} or more."
            )
        if rate_only:
            short = [stage for stage in planned.stages if stage.name == "coarse"]
            planned = dataclasses.replace(planned, stages=tuple(short))
        if sweep:
            self.print_status("Before the search, a range test: 3 sweeps of 200 updates.")
        self._display.show_plan(planned)
        if rivals:
            self.print_status(f"After it, a comparison with {', '.join(rivals)}.")

    def search(self, *, save: Path | None = None, **settings: Any) -> SearchResult:
        """Search, and save the best model; an interrupted search ends the command."""
        with warnings.catch_warnings():  # the session says it itself
            warnings.filterwarnings("ignore", "the search was interrupted")
            found = self.run(search, progress=self._display.event, **settings)
        if save is not None and found.best is None:
            self.print_status(f"No whole training was finished, so {save} was not written.")
        elif save is not None:
            self._saved = found.save(save)
        if found.stopped == "interrupted":
            raise KeyboardInterrupt
        return found

    def compare(self, begin: SearchResult | float, **settings: Any) -> Result:
        """Compare schedules, beginning with a search or a rate."""
        from lrtune import compare  # noqa: PLC0415 - Optuna comes with it

        return self.run(compare, begin, **settings)

    def last_search(self, source: Path | None) -> SearchResult:
        """The search that a comparison begins with: that of a file, or the last of the study."""
        where = str(source or f"the study {self._study_name}")
        try:
            results = open_study(self._study_name).results if source is None else load(source)
        except (StudyError, ResultsError) as error:
            raise ArgumentError(f"{error} {WAYS_TO_COMPARE}") from error
        searches = [one for one in results if isinstance(one, SearchResult)]
        if not searches:
            raise ArgumentError(f"{where} holds no search. {WAYS_TO_COMPARE}")
        return searches[-1]

    def print_status(self, text: str) -> None:
        """Print a line on standard error, apart from the answers."""
        self._console.print(escape(text), soft_wrap=True)

    # --- how a command begins and ends

    def _check_options(self) -> None:
        """Refuse what would fail later."""
        check_folder("--out", self.out)
        if self.study and self.no_study:
            raise ArgumentError(f"got --study {self.study} and --no-study. Leave one of them out.")

    def _interrupt(self, _signal: int, _frame: object) -> None:
        # Python drops an exception in a destructor, and a library may catch it: then the next
        # update raises it again.
        self._interrupted = True
        raise KeyboardInterrupt

    def _show_progress(self, stage: str, done: int, total: int) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._display.updates(stage, done, total)

    def _add_notes(self, error: Exception) -> None:
        """Say where an error struck, and with SearchError which runs failed."""
        if self._display.last and not has_location(error) and not isinstance(error, LrtuneError):
            # Errors that a signal raises, such as the death of a loader's worker, strike anywhere.
            error.add_note(self._display.last)
        if isinstance(error, SearchError) and self._unfinished:
            runs = self._unfinished[-1].runs
            for run in runs[runs["outcome"].isin(FAILED_OUTCOMES)].head(3).itertuples():
                error.add_note(
                    f"run {run.run!r} ({setting(run.lr, run.schedule)}, seed {run.seed}) at step "
                    f"{run.steps - 1}: {Outcome[run.outcome].value}"
                )

    def _how_to_resume(self) -> str:
        again = "go on" if self._study is not None else "start again"
        below = "What was finished is printed below. " if self.results else ""
        return f"{below}Run the same command again to {again}."

    def _deliver(self) -> None:
        for sentence in self._evaluator.engine_notes if self._evaluator is not None else []:
            self.print_status(f"Engine: {sentence}")
        if not self.as_json:
            print_results(self.results, saved=self._saved)
        results: list[Result] = [*self.results, *self._unfinished]
        path = None
        if results:
            try:
                path = report(results, self.out)
            except ResultsError as error:
                self.exit_code = self.exit_code or print_error(error, self._console)
        if self.as_json:
            answer = answer_object(results, report=path, saved=self._saved, error=self._error)
            sys.stdout.write(json.dumps(answer, allow_nan=False) + "\n")
        elif path is not None:
            line = f"{'Report':<{INDENT}}{escape(str(path))}"
            Console(highlight=False, soft_wrap=True).print(line)


def _least_budget(sizes: Sizes, budget: float) -> float:
    """The least budget that holds a whole training, to a twentieth."""
    budgets = (round(budget + step / 20, 2) for step in itertools.count(1))
    return next(more for more in budgets if make_plan(sizes, more)["fine"])


WAYS_TO_COMPARE = (
    "A comparison begins with a search: run `lrtune search` on this task first, or give --from "
    "found.json, or --lr RATE with --steps."
)


class _TraceKeeper:
    """An evaluator that appends every trace to a list, so that an error loses none."""

    def __init__(self, inner: Evaluate, traces: list[Trace]) -> None:
        self._inner, self._traces = inner, traces

    def __getattr__(self, name: str) -> Any:
        """Whatever else the inner evaluator offers, such as `checkpoint`."""
        return getattr(self._inner, name)

    def __call__(self, runs: Sequence[Run], steps: int, **settings: Any) -> Trace:
        trace = self._inner(runs, steps, **settings)
        self._traces.append(trace)
        return trace
