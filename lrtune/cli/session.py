"""One command of the command line: progress while it works; answers and report however it ends."""

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lrtune.analysis.curves import FAILED_OUTCOMES, Outcome
from lrtune.cli.output import print_result, print_schedule, summary, tell
from lrtune.errors import ArgumentError, LrtuneError, ResultsError, SearchError
from lrtune.reporting import report
from lrtune.results import Result, Trace
from lrtune.results.runs import Run
from lrtune.study import Study
from lrtune.task.task import Task
from lrtune.training import Evaluate, Evaluator

ANSWER, INTERRUPTED = 0, 130
"""Exit codes, besides those of errors."""


@dataclass(frozen=True)
class Memory:
    """Which study remembers, and what to do where it does not fit the task."""

    study: str
    fresh: bool = False
    force: bool = False


class Session:
    """Collects results; on leaving, whatever the reason, prints and reports those that are there.

    Args:
        out: Where the report goes; None for no report.
        as_json: Print one JSON object instead of text.
        memory: The study that remembers what is measured; None to remember nothing.
    """

    def __init__(
        self, out: Path | None, *, as_json: bool = False, memory: Memory | None = None
    ) -> None:
        """Nothing has happened yet."""
        self.results: list[Result] = []
        self.code = ANSWER
        self._out, self._as_json, self._memory = out, as_json, memory
        self._study: Study | None = None
        self._unfinished: list[Trace] = []
        self._evaluator: Evaluator | None = None
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} updates"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._stages: dict[str, TaskID] = {}
        self._last = ""

    def __enter__(self) -> Self:
        """Start the progress bar."""
        folder = None if self._out is None else self._out.resolve().parent
        if folder is not None and not folder.is_dir():
            there_is_none = ArgumentError(
                f"--out {self._out}: there is no folder {folder}. Make it."
            )
            raise SystemExit(tell(there_is_none, self._console))
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> bool:
        """Deliver what is there; True, as the error has been told."""
        self._bar.stop()
        if isinstance(error, KeyboardInterrupt):
            self.code = INTERRUPTED
            self._console.print("[bold]Interrupted.[/] " + self._rest())
        elif isinstance(error, Exception):
            self._add_failures(error)
            self.code = tell(error, self._console)
        elif error is not None:
            return False
        self._tell_memory()
        with contextlib.suppress(BrokenPipeError):
            self._deliver()
        return True

    def progress(self, stage: str, done: int, total: int) -> None:
        """One bar per stage."""
        self._last = f"after {done} of {total} updates of the stage {stage!r}"
        if stage not in self._stages:
            self._stages[stage] = self._bar.add_task(stage, total=total)
        self._bar.update(self._stages[stage], completed=done, total=total)

    def evaluator(self, task: Task, seed: int, engine: str = "loop") -> Evaluate:
        """Train the task, and remember the traces until the result that they lead to is there."""
        if self._memory is not None:
            one = self._memory
            self._study = Study(
                one.study, task, fresh=one.fresh, force=one.force, seed=seed, say=self.say
            )
        study = self._study
        decide = None if study is None else study.decide
        self._evaluator = Evaluator(task, engine=engine, progress=self.progress, decide=decide)
        inner: Evaluate = self._evaluator
        if study is not None:
            inner = study.remembering(self._evaluator, engine)

        def evaluate(
            runs: Sequence[Run],
            steps: int,
            *,
            stage: str,
            validate: bool = True,
            until: int | None = None,
        ) -> Trace:
            trace = inner(runs, steps, stage=stage, validate=validate, until=until)
            self._unfinished.append(trace)
            return trace

        if hasattr(inner, "price"):  # a search within a budget asks what a call may cost
            vars(evaluate)["price"] = inner.price
        return evaluate

    def add(self, result: Result) -> None:
        """A result is there, and what led to it is part of it."""
        self.results.append(result)
        self._unfinished.clear()
        if self._study is not None:
            self._study.record(result)

    def say(self, text: str) -> None:
        """Tell something on standard error."""
        self._console.print(escape(text), soft_wrap=True)

    def _add_failures(self, error: Exception) -> None:
        """Which runs failed, and when: a search that finds no rate knows only that they did."""
        told = any("at step" in note for note in getattr(error, "__notes__", []))
        if self._last and not told and not isinstance(error, LrtuneError):
            error.add_note(self._last)  # a signal, such as a worker's death, strikes anywhere
        if isinstance(error, SearchError) and self._unfinished:
            runs = self._unfinished[-1].runs
            for run in runs[runs["outcome"].isin(FAILED_OUTCOMES)].head(3).itertuples():
                last = run.steps - 1
                error.add_note(
                    f"run {run.run!r} (peak rate {run.lr:g}, seed {run.seed}) at step {last}: "
                    f"{Outcome[run.outcome].value}"
                )

    def _rest(self) -> str:
        again = "run the same command again to go on."
        if not self.results and not self._unfinished:
            return f"Nothing was finished. {again.capitalize()}"
        if self._study is None:
            return "What was finished is kept below; run the same command again for the rest."
        return f"What was finished is kept below; {again}"

    def _tell_memory(self) -> None:
        if self._study is not None and self._study.known:
            told = f"remembered {self._study.remembered} runs, trained {self._study.trained}"
            self.say(f"Study {self._study.place}: {told}")

    def _deliver(self) -> None:
        for told in self._evaluator.told if self._evaluator is not None else []:
            self._console.print(f"Engine: {escape(told)}", soft_wrap=True)
        if not self._as_json:
            for result in self.results:
                print_result(result)
            print_schedule(self.results)
        kept: list[Result] = [*self.results, *self._unfinished]
        path = None
        if self._out is not None and kept:
            try:
                path = report(kept, self._out)
            except ResultsError as error:
                self.code = self.code or tell(error, self._console)
        if self._as_json:
            sys.stdout.write(json.dumps(summary(kept, path), allow_nan=False) + "\n")
        elif path is not None:
            Console(highlight=False, soft_wrap=True).print(f"Report          {escape(str(path))}")
