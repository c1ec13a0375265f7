"""What the command line prints: answers as text or as one JSON object, studies, and errors."""

import math
import sysconfig
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from lrtune.analysis.paired import LEVEL
from lrtune.analysis.scores import digits_that_differ
from lrtune.errors import (
    ArgumentError,
    LrtuneError,
    OtherTaskError,
    StudyError,
    TargetError,
    printable,
)  # fmt: skip
from lrtune.results import ComparisonResult, RangeTestResult, Result, SearchResult
from lrtune.results.comparison import snippet_or_none
from lrtune.results.schema import HEADINGS
from lrtune.schedules import FEEDBACK, SCHEDULES, Schedule, multipliers, parse

if TYPE_CHECKING:
    from lrtune.study.catalog import StudySummary
    from lrtune.study.contents import StudyContents

FAILED, USAGE = 1, 2  # exit codes
PACKAGE = str(Path(__file__).parents[1])
STANDARD_LIBRARY = sysconfig.get_path("stdlib")
LEAST_COLUMNS = 4  # of the table of a comparison: place, schedule, peak, loss
INDENT = 16  # columns of the titles in front of the answers
BLOCKS = "▁▂▃▄▅▆▇█"


def answer_object(results: Sequence[Result], report: Path | None) -> dict[str, Any]:
    """The object of `--json`: the answer first, then every result in full."""
    searches = [result for result in results if isinstance(result, SearchResult)]
    sweeps = [result for result in results if isinstance(result, RangeTestResult)]
    comparisons = [result for result in results if isinstance(result, ComparisonResult)]
    answer: dict[str, Any] = {}
    if searches:
        found = searches[-1]
        answer = {"lr": found.lr, "interval": list(found.interval), "verified": found.verified}
        answer |= {"steps": found.steps, "confidence": found.confidence}
        answer |= {"schedule": found.schedule, "call": str(parse(found.schedule))}
        answer |= {"peak": found.peak, "winner": None, "snippet": found.snippet()}
    elif sweeps:
        suggestion = sweeps[-1].suggestion
        answer = {"lr": suggestion.lr, "interval": list(suggestion.interval)}
    if comparisons:  # it measured what the search could only recommend
        best = comparisons[-1]
        answer |= {"schedule": best.schedule, "call": best.call, "peak": best.lr}
        answer |= {"winner": best.winner or None, "snippet": snippet_or_none(best)}
    answer["report"] = None if report is None else str(report)
    return answer | {"results": [result.to_dict() for result in results]}


def print_results(results: Sequence[Result]) -> None:
    """Print every result; a search without a comparison comes with its recommended schedule."""
    console = Console(highlight=False)
    for result in results:
        _print_result(result, console)
    searches = [result for result in results if isinstance(result, SearchResult)]
    if searches and not any(isinstance(result, ComparisonResult) for result in results):
        found = searches[-1]
        usually = "No schedules were compared; this one usually ends lower than a constant rate."
        _print_rows(console, "Schedule", [_peak(found.schedule, found.peak), usually])
        _print_code(console, found.snippet())


def _print_result(result: Result, console: Console) -> None:
    match result:
        case RangeTestResult(suggestion=suggestion, notes=notes):
            rows = [_rate(suggestion.lr, suggestion.interval), _safe(suggestion.because)]
            _print_rows(console, "Range test", [*rows, *_bullets(notes)])
        case SearchResult(notes=notes, spending=spending):
            rows = [_rate(result.lr, result.interval)]
            rows += [_safe(result.because), _safe(result.confidence)]
            if len(spending):
                spent, samples = spending[["spent", "val_samples"]].sum()
                validated = f", and {samples:,} validation samples" if samples else ""
                trainings = f"{spent / result.steps:.2f} full trainings"
                rows.append(f"Spent {spent:,} updates, {trainings}{validated}.")
            _print_rows(console, "Learning rate", [*rows, *_bullets(notes)])
        case ComparisonResult(notes=notes):
            rows = [_peak(result.schedule, result.lr), _safe(result.because)]
            _print_rows(console, "Schedule", [*rows, *_bullets(notes)])
            _print_ranking(result, console)
            code = snippet_or_none(result)
            if code is not None:
                _print_code(console, code)


def _print_rows(console: Console, title: str, rows: Sequence[str]) -> None:
    """Print a title, and beside it rows of markup that wrap within their own column."""
    for row in rows:
        for line in Text.from_markup(row).wrap(console, max(console.width - INDENT, 20)):
            line.rstrip()
            console.print(Text(f"{title:<{INDENT}}") + line)
            title = ""


def _rate(lr: float, interval: tuple[float, float]) -> str:
    return f"[bold]{lr:<8.3g}[/] ({interval[0]:.2g} to {interval[1]:.2g})"


def _peak(schedule: str, peak: float) -> str:
    return f"[bold]{_safe(schedule)}[/] with a peak rate of {peak:.3g}"


def _bullets(notes: Sequence[str]) -> list[str]:
    return [f"- {_safe(note)}" for note in notes]


def _print_ranking(result: ComparisonResult, console: Console) -> None:
    level = f"{100 * LEVEL:.0f} % CI"
    # The table is as wide as a terminal; so the last headings take two lines.
    last = [HEADINGS[name].replace(" ", "\n", 1) for name in ("early", "onset")]
    heads = ["", "schedule", "peak", "loss", "difference", level, *last]
    digits = digits_that_differ(result.table["final"], least=3)
    rows = []
    for row in result.table.itertuples():
        behind = not row.failed and row.difference > 0
        cells = (
            "=" if row.tied else str(row.rank),
            _safe(row.schedule),
            f"{row.lr:.3g}",
            "diverged" if row.failed else f"{row.final:.{digits}g}",
            f"{row.difference:.2g}" if behind else "",
            f"{row.low:.2g}, {row.high:.2g}" if behind else "",
            f"{row.early:.0%}" if math.isfinite(row.early) else "",
            "" if math.isnan(row.onset) else f"{row.onset:.0f}",
        )
        rows.append(cells)
    console.print()
    while True:  # a narrow terminal gets fewer columns, but whole names and numbers
        ranking = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
        for head in heads:
            left = head == "schedule"
            ranking.add_column(head, justify="left" if left else "right", no_wrap=True)
        for cells in rows:
            ranking.add_row(*cells[: len(heads)])
        needed = Measurement.get(console, console.options.update(width=1000), ranking).maximum
        if needed <= console.width or len(heads) == LEAST_COLUMNS:
            break
        heads.pop()
    console.print(ranking)
    console.print("= tied with the best; the intervals hold for all schedules at once")


def _print_code(console: Console, code: str) -> None:
    console.print()
    console.print(code, markup=False, soft_wrap=True)


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


def print_studies(entries: "Sequence[StudySummary]") -> None:
    """One line per study."""
    console = Console(highlight=False, soft_wrap=True)
    if not entries:
        console.print("There is no study here. `lrtune search` starts one.")
    for entry in entries:
        results = ", ".join(entry.results) or "no result yet"
        content = entry.fault or f"{entry.runs:>6} runs  {entry.created}  {results}"
        console.print(f"{entry.study:<24} {content}", markup=False)


def print_contents(contents: "StudyContents") -> None:
    """The task, the sessions and the results of a study."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{contents.name}, begun {printable(contents.created)}", markup=False)
    for name, value in contents.task.items():
        if value:
            console.print(f"  {printable(name):<12} {printable(value, 200)}", markup=False)
    outcomes = Counter(contents.outcomes.values()).most_common()
    counted = ", ".join(f"{count} {name.lower()}" for name, count in outcomes)
    console.print(f"\n{len(contents.outcomes)} runs recorded: {counted or 'none'}")
    for session in contents.sessions:
        parts = [printable(session.get(name, ""), 200) for name in ("begun", "command", "commit")]
        console.print("  " + "  ".join(parts).rstrip(), markup=False)
    for name, value in contents.decisions.items():
        console.print(f"decided: {printable(name)} is {printable(value)}", markup=False)
    console.print()
    for result in contents.results:
        _print_result(result, Console(highlight=False))


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print an error of lrtune as one sentence, and exit with its code."""
    try:
        yield
    except LrtuneError as error:
        plain = printable(error, 2000)  # the message may quote a stranger's file
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"Error: {plain}", markup=False)
        # A StudyError is a fault of the file; its subclasses, as all others, are wrong usage.
        raise SystemExit(FAILED if type(error) is StudyError else USAGE) from None


def print_error(error: Exception, console: Console) -> int:
    """Print an error, the user's own lines that it passed through, and its notes.

    Returns:
        The exit code.
    """
    usage_error = isinstance(error, ArgumentError | TargetError | OtherTaskError)
    what = str(error) if isinstance(error, LrtuneError) else f"{type(error).__name__}: {error}"
    console.print(f"[bold red]Error:[/] {escape(what)}", soft_wrap=True)
    for line in [*_user_lines(error), *getattr(error, "__notes__", [])]:
        console.print(f"  {escape(line)}", soft_wrap=True)
    return USAGE if usage_error else FAILED


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


def _safe(text: object) -> str:
    """Text of a result, which may come from a stranger's file, without markup or control codes."""
    return escape(printable(text, 1000))
