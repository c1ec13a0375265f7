"""What the command line prints: answers as text or as one object, and errors without our stack."""

import math
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lrtune.errors import ArgumentError, LrtuneError, OtherTaskError, StudyError, TargetError
from lrtune.results import ComparisonResult, RangeTestResult, Result, SearchResult, Trace
from lrtune.schedules import FEEDBACK, SCHEDULES, Schedule, multipliers, parse
from lrtune.study.location import shown

if TYPE_CHECKING:
    from lrtune.study.archive import Archive, Entry

FAILED, USAGE = 1, 2
"""Exit codes."""

BLOCKS = "▁▂▃▄▅▆▇█"
"""Eight heights of a sparkline."""

OWN = str(Path(__file__).parents[1])


def summary(results: Sequence[Result], path: Path | None) -> dict[str, Any]:
    """One object for programs: the answer first, then every result as it is."""
    searches = [result for result in results if isinstance(result, SearchResult)]
    sweeps = [result for result in results if isinstance(result, RangeTestResult)]
    answer: dict[str, Any] = {}
    if searches:
        found = searches[-1]
        answer = {"lr": found.lr, "interval": list(found.interval), "verified": found.verified}
        answer |= {"steps": found.steps, "confidence": found.confidence}
        answer |= {"schedule": found.schedule, "call": str(parse(found.schedule))}
        answer |= {"peak": found.peak, "winner": None, "snippet": found.snippet()}
    elif sweeps:
        said = sweeps[-1].suggestion
        answer = {"lr": said.lr, "interval": list(said.interval)}
    compared = [result for result in results if isinstance(result, ComparisonResult)]
    if compared:
        best = compared[-1]
        answer |= {"schedule": best.schedule, "call": best.call, "peak": best.lr}
        answer |= {"winner": best.winner or None, "snippet": snippet_of(best)}
    answer["report"] = None if path is None else str(path)
    return answer | {"results": [result.to_dict() for result in results]}


def print_result(result: Result) -> None:
    """The answer of one result on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    if isinstance(result, RangeTestResult):
        said = result.suggestion
        console.print(_line("Range test", said.lr, said.interval) + f"  {_safe(said.because)}")
    elif isinstance(result, SearchResult):
        console.print(
            _line("Learning rate", result.lr, result.interval) + f"  {_safe(result.because)}"
        )
        held = {
            "held": "held over that length",
            "not held": "[bold]did not hold[/] over that length",
            "not tried": "not trained to that length",
        }[result.check]
        console.print(f"{'':<15} for a training of {result.steps} steps; {held}")
        console.print(f"{'':<15} {_safe(result.confidence)}")
        if len(result.spending):
            spent = int(result.spending["spent"].sum())
            told = f"{spent:,} updates, {spent / result.steps:.2f} full trainings"
            console.print(f"{'':<15} Spent {told}")
    elif isinstance(result, ComparisonResult):
        console.print(
            f"{'Schedule':<15} [bold]{_safe(result.schedule)}[/] at a peak of {result.lr:.3g}"
        )
        console.print(f"{'':<15} {_safe(result.because)}")
    if not isinstance(result, Trace):
        for note in result.notes:
            console.print(f"{'':<15} - {_safe(note)}")
    if isinstance(result, ComparisonResult):
        print_ranking(result, console)


def print_schedule(results: Sequence[Result]) -> None:
    """The schedule that comes with a search, where no comparison has named one."""
    searches = [result for result in results if isinstance(result, SearchResult)]
    if not searches or any(isinstance(result, ComparisonResult) for result in results):
        return
    found, console = searches[-1], Console(highlight=False, soft_wrap=True)
    console.print(f"{'Schedule':<15} [bold]{found.schedule}[/] at a peak of {found.peak:.3g}")
    console.print(f"{'':<15} none were compared, but this usually ends lower than a constant rate")
    console.print()
    console.print(found.snippet(), markup=False)


def print_ranking(result: ComparisonResult, console: Console) -> None:
    """The table, and the recommended schedule as code."""
    ranking = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "schedule", "peak", "loss", "behind by", "between", "early", "plateau"):
        ranking.add_column(name, justify="left" if name == "schedule" else "right", no_wrap=True)
    for row in result.table.itertuples():
        behind = not row.failed and row.difference > 0
        ranking.add_row(
            "=" if row.tied else str(row.rank),
            _safe(row.schedule),
            f"{row.lr:.3g}",
            "diverged" if row.failed else f"{row.final:.3g}",
            f"{row.difference:.2g}" if behind else "",
            f"{row.low:.2g}, {row.high:.2g}" if behind else "",
            f"{row.early:.0%}" if math.isfinite(row.early) else "",
            "" if math.isnan(row.onset) else f"from {row.onset:.0f}",
        )
    console.print()
    console.print(ranking)
    code = snippet_of(result)
    if code is not None:
        console.print()
        console.print(code, markup=False)


def print_schedules() -> None:
    """Print one line for each schedule: name, shape, what it does."""
    width = max(map(len, (*SCHEDULES, *FEEDBACK)))
    for name, entry in SCHEDULES.items():
        typer.echo(f"{name:<{width}}  {sparkline(entry())}  {entry.summary}")
    for name, make in FEEDBACK.items():
        about = (make.__doc__ or "").splitlines()[0]
        typer.echo(f"{name:<{width}}  {'reacts to the loss':<24}  {about}")


def sparkline(schedule: Schedule, width: int = 24) -> str:
    """Return the shape of a schedule as `width` blocks of eight heights.

    >>> from lrtune.schedules import linear, one_cycle
    >>> sparkline(linear(), 8), sparkline(one_cycle(), 8)
    ('█▇▆▅▅▄▃▂', '▁▄██▇▅▃▂')
    """
    rates = multipliers(schedule, width)
    highest = max(rates)
    places = [round(rate / highest * (len(BLOCKS) - 1)) if highest else 0 for rate in rates]
    return "".join(BLOCKS[place] for place in places)


def print_studies(entries: "Sequence[Entry]") -> None:
    """One line per study."""
    console = Console(highlight=False, soft_wrap=True)
    if not entries:
        console.print("There is no study here. `lrtune search` begins one.")
    for one in entries:
        held = ", ".join(one.results) or "no result yet"
        told = one.fault or f"{one.runs:>6} runs  {one.created}  {held}"
        console.print(f"{one.place:<24} {told}", markup=False)


def print_archive(archive: "Archive") -> None:
    """The task, the sessions and the results of a study."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{archive.name}, begun {shown(archive.created)}", markup=False)
    for name, value in archive.task.items():
        if value:
            console.print(f"  {shown(name):<12} {shown(value, 200)}", markup=False)
    outcomes = archive.measured["outcome"].value_counts()
    counted = ", ".join(f"{count} {name.lower()}" for name, count in outcomes.items())
    console.print(f"\n{len(archive.measured)} runs recorded: {counted or 'none'}")
    for session in archive.sessions:
        told = [shown(session.get(name, ""), 200) for name in ("begun", "command", "commit")]
        console.print("  " + "  ".join(told).rstrip(), markup=False)
    for name, value in archive.decisions.items():
        console.print(f"decided: {shown(name)} is {shown(value)}", markup=False)
    console.print()
    for result in archive.results:
        print_result(result)


@contextmanager
def usage() -> Iterator[None]:
    """Tell an error of ours in one sentence, and leave with its exit code."""
    try:
        yield
    except LrtuneError as error:
        plain = shown(error, 2000)
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"Error: {plain}", markup=False)
        raise SystemExit(FAILED if type(error) is StudyError else USAGE) from None


def snippet_of(result: ComparisonResult) -> str | None:
    """Code to paste; None for a schedule whose code only the user has."""
    try:
        return result.snippet()
    except ArgumentError:
        return None


def _safe(text: object) -> str:
    """Text of a result, which may come from anywhere, as a terminal can be given it."""
    return escape(shown(text, 1000))


def _line(title: str, lr: float, interval: tuple[float, float]) -> str:
    between = f"{interval[0]:.2g} to {interval[1]:.2g}"
    return f"{title:<15} [bold]{lr:<8.3g}[/] ({between})"


def tell(error: Exception, console: Console) -> int:
    """Print what went wrong and where, without our stack; returns the exit code."""
    usage = isinstance(error, ArgumentError | TargetError | OtherTaskError)
    what = str(error) if isinstance(error, LrtuneError) else f"{type(error).__name__}: {error}"
    console.print(f"[bold red]Error:[/] {escape(what)}", soft_wrap=True)
    for line in _places(error):
        console.print(f"  {escape(line)}", soft_wrap=True)
    for note in getattr(error, "__notes__", []):
        console.print(f"  {escape(note)}", soft_wrap=True)
    return USAGE if usage else FAILED


def _places(error: BaseException) -> Iterator[str]:
    """The last lines of the user's own code that the error passed through."""
    while isinstance(error, LrtuneError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, SyntaxError) and error.filename:
        yield f"{error.filename}:{error.lineno}: {(error.text or '').strip()}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((OWN, "<frozen"))
        and "site-packages" not in frame.filename
        and "importlib" not in frame.filename
    ]
    for frame in frames[-3:]:
        yield f"{frame.filename}:{frame.lineno}, in {frame.name}: {frame.line}"
