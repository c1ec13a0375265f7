"""One command that trains: its task, its study, its progress, and its answers however it ends."""

import contextlib
import json
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Self, TypeVar

from rich.console import Console
from rich.markup import escape

from lrtune.analysis.curves import FAILED_OUTCOMES, Outcome
from lrtune.cli import INTERRUPTED
from lrtune.cli.answer_json import answer_object
from lrtune.cli.answers import print_results
from lrtune.cli.interrupts import deaths_ignored, must_not_stop
from lrtune.cli.options import as_options, check_folder
from lrtune.cli.output import print_error
from lrtune.cli.progress import ProgressDisplay
from lrtune.cli.tables import INDENT
from lrtune.cli.task_file import default_study, task_of
from lrtune.errors import (
    AnswerWarning,
    ArgumentError,
    LrtuneError,
    ResultsError,
    SearchError,
    has_location,
    quantity,
)
from lrtune.reporting import answers_first, report
from lrtune.reporting.statements import schedule_name, setting
from lrtune.results import Result, Trace
from lrtune.results.runs import Run
from lrtune.study.study import Study
from lrtune.task.task import Task
from lrtune.training import Evaluate, Evaluator

Answer = TypeVar("Answer", bound=Result)

ANSWER = 0  # the exit code, unless there is an error or Ctrl-C


@dataclass(kw_only=True, eq=False)
class Session:
    """A command that trains: loads its task, shows progress, prints and reports however it ends.

    Its fields are the options of the command line; `target` of None is the embedded digits.
    """

    target: str | None
    device: str | None
    engine: str
    max_runs: int | None
    offload: Literal["cpu"] | None
    study: str | None
    fresh: bool
    no_study: bool
    out: Path
    as_json: bool
    seed: int | None

    def __post_init__(self) -> None:
        """Load nothing yet: errors in the user's file are printed by the session as well."""
        self.results: list[Result] = []
        self._begin = time.monotonic()
        self.exit_code = ANSWER
        self._study: Study | None = None
        self._evaluator: Evaluator | None = None
        self._unfinished: list[Trace] = []
        self._console = Console(stderr=True, highlight=False)
        self.display = ProgressDisplay(self._console, self.print_status)
        self.saved: Path | None = None
        self._error = ""
        self._interrupted = False
        self._prints = contextlib.ExitStack()  # what the user's code prints is none of the answer

    def __enter__(self) -> Self:
        """Check where the report goes, start the progress bar, and listen for Ctrl-C."""
        try:
            self._check_options()
        except ArgumentError as error:
            raise SystemExit(print_error(error, self._console)) from None
        self._prints.enter_context(contextlib.redirect_stdout(sys.stderr))
        self.display.start()
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        """Print the error, if any, and all results; True, as the error is handled."""
        with deaths_ignored():
            return self._end(error)

    def _end(self, error: BaseException | None) -> bool:
        self.display.stop()
        self._prints.close()
        if signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if error is None and self._interrupted:  # while the last result was recorded
            error = KeyboardInterrupt()
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
        if study is not None and (words := who_trained(study)):
            self.print_status(f"Study {study.location}: {words}")
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
                self.study_name,
                self.task,
                fresh=self.fresh,
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
            max_runs=self.max_runs,
            offload=self.offload,
            say=self.print_status,
        )
        inner: Evaluate = self._evaluator
        if study is not None:
            inner = study.evaluator(self._evaluator, self.engine)
        return _TraceKeeper(inner, self._unfinished, self.stop_if_interrupted)

    @property
    def study_name(self) -> str:
        """The name of the study, or its URL."""
        return self.study or default_study(self.target, self.device)

    # --- what commands do

    def run(self, verb: Callable[..., Answer], *arguments: Any, **settings: Any) -> Answer:
        """Call a verb such as `lrtune.search` on the task, and keep its result."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AnswerWarning)  # they are printed before the answer
            result = verb(self.task, *arguments, evaluate=self.evaluate, **settings)
        self.results.append(result)
        self._unfinished.clear()  # the traces that led to a result are part of it
        if self._study is not None:
            self._study.record(result)
        return result

    def time_left(self, limit: float | None) -> float | None:
        """What is left of a time limit of the whole command, in seconds."""
        return None if limit is None else max(0.0, limit - (time.monotonic() - self._begin))

    def print_status(self, text: str) -> None:
        """Print a line on standard error, apart from the answers."""
        self._console.print(escape(as_options(text)), soft_wrap=True)

    # --- how a command begins and ends

    def _check_options(self) -> None:
        """Refuse what would fail later."""
        check_folder("--out", self.out)
        if self.study and self.no_study:
            raise ArgumentError(f"got --study {self.study} and --no-study. Leave one of them out.")

    def _interrupt(self, _signal: int, frame: FrameType | None) -> None:
        # A library may catch the exception: then the next update raises it again. A second Ctrl-C
        # waits for nothing.
        again, self._interrupted = self._interrupted, True
        if again or not must_not_stop(frame):
            raise KeyboardInterrupt

    def stop_if_interrupted(self) -> None:
        """Raise the KeyboardInterrupt of a Ctrl-C that was put off."""
        if self._interrupted:
            raise KeyboardInterrupt

    def _show_progress(self, stage: str, done: int, total: int) -> None:
        self.stop_if_interrupted()
        self.display.updates(stage, done, total)

    def _add_notes(self, error: Exception) -> None:
        """Say where an error struck, and with SearchError which runs failed."""
        if self.display.last and not has_location(error) and not isinstance(error, LrtuneError):
            # Errors that a signal raises, such as the death of a loader's worker, strike anywhere.
            error.add_note(self.display.last)
        if isinstance(error, SearchError) and self._unfinished:
            runs = self._unfinished[-1].runs
            for run in runs[runs["outcome"].isin(FAILED_OUTCOMES)].head(3).itertuples():
                about = f"{setting(run.lr, schedule_name(run.schedule))}, seed {run.seed}"
                said = f"at step {run.steps - 1}: {Outcome[run.outcome].value}"
                error.add_note(f"run {run.run!r} ({about}) {said}")

    def _how_to_resume(self) -> str:
        below = "What was finished is printed below. " if self.results else ""
        if self._study is None:
            return f"{below}Nothing was recorded: the same command starts from the beginning."
        return f"{below}Run the same command again to go on."

    def _deliver(self) -> None:
        for sentence in self._evaluator.engine_notes if self._evaluator is not None else []:
            self.print_status(f"Engine: {sentence}")
        if not self.as_json:
            print_results(self.results, saved=self.saved)
        results = answers_first([*self.results, *self._unfinished])
        path = None
        if results:
            try:
                path = report(results, self.out)
            except ResultsError as error:
                self.exit_code = self.exit_code or print_error(error, self._console)
        if self.as_json:
            answer = answer_object(results, report=path, saved=self.saved, error=self._error)
            sys.stdout.write(json.dumps(answer, allow_nan=False) + "\n")
        elif path is not None:
            line = f"{'Report':<{INDENT}}{escape(str(path))}"
            Console(highlight=False, soft_wrap=True).print(line)


def who_trained(study: Study) -> str:
    """How many runs of a session were remembered, trained, and trained by other processes.

    Empty where it trained alone in a new study, or asked for nothing.
    """
    words = f"remembered {quantity(study.remembered, 'run')}, trained {study.trained}"
    if not study.shared:
        both = "; the cost counts both" * bool(study.remembered)
        return words + both if study.known and study.remembered + study.trained else ""
    others = study.companions
    who = "another process" if others == 1 else f"{others} other processes"
    return f"{words}; {who} trained {study.shared}; the cost counts all of them"


class _TraceKeeper:
    """An evaluator that appends every trace to a list, so that an error loses none.

    It calls `check` before and after each call: Ctrl-C may have come while a study was written.
    """

    def __init__(self, inner: Evaluate, traces: list[Trace], check: Callable[[], None]) -> None:
        self._inner, self._traces, self._check = inner, traces, check

    def __getattr__(self, name: str) -> Any:
        """Whatever else the inner evaluator offers, such as `checkpoint`."""
        return getattr(self._inner, name)

    def __call__(self, runs: Sequence[Run], steps: int, **settings: Any) -> Trace:
        self._check()
        trace = self._inner(runs, steps, **settings)
        self._traces.append(trace)
        self._check()
        return trace
