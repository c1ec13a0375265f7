"""One command of the command line: progress while it works; answers and report however it ends."""

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lrtune._cohort import Evaluate, Evaluator
from lrtune._printing import print_result, summary, tell
from lrtune._report import report
from lrtune.errors import ArgumentError, ResultsError
from lrtune.results import Result, Trace
from lrtune.runs import Run
from lrtune.task import Task

ANSWER, INTERRUPTED = 0, 130
"""Exit codes, besides those of errors."""


class Session:
    """Collects results; on leaving, whatever the reason, prints and reports those that are there.

    Args:
        out: Where the report goes; None for no report.
        as_json: Print one JSON object instead of text.
    """

    def __init__(self, out: Path | None, *, as_json: bool = False) -> None:
        """Catch before anything trains that the report cannot be written."""
        self.results: list[Result] = []
        self.code = ANSWER
        self._out, self._as_json = out, as_json
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
            self.code = tell(error, self._console)
        elif error is not None:
            return False
        with contextlib.suppress(BrokenPipeError):
            self._deliver()
        return True

    def progress(self, stage: str, done: int, total: int) -> None:
        """One bar per stage."""
        if stage not in self._stages:
            self._stages[stage] = self._bar.add_task(stage, total=total)
        self._bar.update(self._stages[stage], completed=done, total=total)

    def evaluator(self, task: Task, engine: str = "loop") -> Evaluate:
        """Train the task, and remember the traces until the result that they lead to is there."""
        evaluator = self._evaluator = Evaluator(task, engine=engine, progress=self.progress)

        def evaluate(
            runs: Sequence[Run],
            steps: int,
            *,
            stage: str,
            validate: bool = True,
            until: int | None = None,
        ) -> Trace:
            trace = evaluator(runs, steps, stage=stage, validate=validate, until=until)
            self._unfinished.append(trace)
            return trace

        return evaluate

    def add(self, result: Result) -> None:
        """A result is there, and what led to it is part of it."""
        self.results.append(result)
        self._unfinished.clear()

    def _rest(self) -> str:
        kept = [*self.results, *self._unfinished]
        if not kept:
            return "Nothing was finished."
        return "What was finished is kept below; run the same command again for the rest."

    def _deliver(self) -> None:
        for told in self._evaluator.told if self._evaluator is not None else []:
            self._console.print(f"Engine: {escape(told)}", soft_wrap=True)
        if not self._as_json:
            for result in self.results:
                print_result(result)
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
