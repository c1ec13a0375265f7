"""What the command line prints besides answers: schedules, studies, and errors."""

import json
import sys
import sysconfig
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lrtune.cli.answers import print_result, print_warnings
from lrtune.cli.options import as_options
from lrtune.cli.tables import print_recipe, print_recipes, recipes_object
from lrtune.errors import (
    ArgumentError,
    LrtuneError,
    OtherTaskError,
    StudyError,
    TargetError,
    UnknownStudyError,
    printable,
    quantity,
)  # fmt: skip
from lrtune.schedules import (
    FEEDBACK,
    RECIPES,
    SCHEDULES,
    Schedule,
    look_up_recipe,
    multipliers,
)

if TYPE_CHECKING:
    from lrtune.study.catalog import StudySummary
    from lrtune.study.contents import StudyContents

FAILED, USAGE = 1, 2  # exit codes
PACKAGE = str(Path(__file__).parents[1])
STANDARD_LIBRARY = sysconfig.get_path("stdlib")
BLOCKS = "▁▂▃▄▅▆▇█"
OUTCOMES = {"FINISHED": "trained to the end", "PAUSED": "ended before", "RETIRED": "given up"}
"""How runs ended, in words; the other outcomes are said as they are called."""


def sparkline(schedule: Schedule, width: int = 24) -> str:
    """The multiplier of a schedule over the run, drawn with blocks of eight heights.

    >>> from lrtune.schedules import linear, one_cycle
    >>> sparkline(linear(), 8), sparkline(one_cycle(), 8)
    ('█▇▆▅▅▄▃▂', '▁▄██▇▅▃▂')
    """
    rates = multipliers(schedule, width)
    highest = max(rates)
    heights = [round(rate / highest * (len(BLOCKS) - 1)) if highest else 0 for rate in rates]
    return "".join(BLOCKS[height] for height in heights)


def print_schedules() -> None:
    """Print one line per schedule of the registry: its name, its shape, and what it does."""
    lines = {name: (sparkline(entry()), entry.summary) for name, entry in SCHEDULES.items()}
    for name, make in FEEDBACK.items():
        lines[name] = ("reacts to the loss", (make.__doc__ or "").splitlines()[0])
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, (shape, summary) in lines.items():
        table.add_row(name, shape, escape(summary))
    Console(highlight=False).print(table)


def print_published(name: str | None, batch: int, steps: int, *, as_json: bool) -> None:
    """Print the published recipes, or one of them, fitted to a batch size and a length."""
    chosen = list(RECIPES.values()) if name is None else [look_up_recipe(name)]
    console = Console(highlight=False)
    if as_json:
        sys.stdout.write(json.dumps(recipes_object(chosen, batch, steps), allow_nan=False) + "\n")
    elif name is None:
        print_recipes(chosen, batch, steps, console)
    else:
        print_recipe(chosen[0], batch, steps, console)


def print_studies(entries: "Sequence[StudySummary]") -> None:
    """One line per study, and one below it for what tells its task from that of a newer one."""
    console = Console(highlight=False, soft_wrap=True)
    if not entries:
        console.print("There is no study here. `lrtune search` starts one.")
    for entry in entries:
        results = ", ".join(entry.results) or "no result yet"
        content = entry.fault or f"{quantity(entry.runs, 'run'):>11}  {entry.created}  {results}"
        console.print(f"{entry.study:<24} {content}", markup=False)
        if entry.apart:
            console.print(f"{'':24}              {entry.apart}", markup=False)


def print_contents(contents: "StudyContents") -> None:
    """The task, the sessions and the results of a study."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{contents.name}, begun {printable(contents.created)}", markup=False)
    for name, value in contents.task.items():
        if value:
            console.print(f"  {printable(name):<12} {printable(value, 200)}", markup=False)
    outcomes = Counter(contents.outcomes.values()).most_common()
    counted = ", ".join(f"{count} {OUTCOMES.get(name, name.lower())}" for name, count in outcomes)
    console.print(f"\n{quantity(len(contents.outcomes), 'run')} recorded: {counted or 'none'}")
    for session in contents.sessions:
        begun, command, commit = (
            printable(session.get(name, ""), 200) for name in ("begun", "command", "commit")
        )
        console.print(f"  {begun}  {command}".rstrip(), markup=False)
        if commit:
            console.print(f"    in a git folder at commit {commit[:10]}", markup=False)
    for name, value in contents.decisions.items():
        console.print(f"decided: {printable(name)} is {printable(value)}", markup=False)
    for result in contents.results:
        console.print()
        print_warnings([result], console)
        print_result(result, Console(highlight=False))


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print an error of lrtune as one sentence, and exit with its code."""
    try:
        yield
    except LrtuneError as error:
        plain = printable(as_options(str(error)), 2000)  # the message may quote a stranger's file
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"Error: {plain}", markup=False)
        # A StudyError is a fault of the file; its subclasses, as all others, are wrong usage.
        raise SystemExit(FAILED if type(error) is StudyError else USAGE) from None


def print_error(error: Exception, console: Console) -> int:
    """Print an error, the user's own lines that it passed through, and its notes.

    Returns:
        The exit code.
    """
    usage = ArgumentError | TargetError | OtherTaskError | UnknownStudyError
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, LrtuneError):
        what = as_options(str(error))
    console.print(f"[bold red]Error:[/] {escape(what)}", soft_wrap=True)
    for line in [*_user_lines(error), *getattr(error, "__notes__", [])]:
        console.print(f"  {escape(line)}", soft_wrap=True)
    return USAGE if isinstance(error, usage) else FAILED


def _user_lines(error: BaseException) -> Iterator[str]:
    """The last three lines of the traceback that belong neither to lrtune nor to a library."""
    while isinstance(error, LrtuneError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, SyntaxError) and error.filename:
        yield f"{error.filename}:{error.lineno}: {(error.text or '').strip()}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((PACKAGE, "<frozen", STANDARD_LIBRARY))
        and "site-packages" not in frame.filename
    ]
    for frame in frames[-3:]:
        yield f"{frame.filename}:{frame.lineno}, in {frame.name}: {frame.line}"
