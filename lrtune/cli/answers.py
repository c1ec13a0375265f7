"""What the command line prints of results: one answer first."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from lrtune.analysis.prior_table import prior_source, prior_table
from lrtune.analysis.scores import digits_that_differ
from lrtune.cli.answer_json import last_answers, of_kind, warnings_of
from lrtune.cli.options import as_options
from lrtune.cli.tables import print_rows, print_transfer, print_varied
from lrtune.errors import printable, quantity
from lrtune.reporting import statements
from lrtune.results import (
    ComparisonResult,
    RangeTestResult,
    Result,
    SearchResult,
    TransferResult,
)

LEAST_COLUMNS = 4  # of the table of a comparison: place, schedule, peak, verdict
PRIORS = 5  # schedules whose losses on other tasks the terminal shows


def print_results(results: Sequence[Result], *, saved: Path | None = None) -> None:
    """Print the answer, what it rests on, and code to paste.

    Args:
        results: What a command found. The answer is that of the last comparison, else of the last
            search; the search comes first, and the comparison that follows from it.
        saved: The file with the best model, if it was written.
    """
    console = Console(highlight=False)
    answers = last_answers(results)
    print_warnings(answers, console)
    for answer in answers[-1:]:
        print_headline(answer, console)
    others = [one for kind in (RangeTestResult, TransferResult) for one in of_kind(results, kind)]
    for place, result in enumerate([*answers, *others]):
        if place:
            console.print()
        if result not in answers:
            print_warnings([result], console)
        print_result(result, console, named=len(answers) > 1, last=result in answers[-1:])
    if saved is not None:
        text = f"{saved}; torch.load(path, weights_only=True) reads it"
        print_rows(console, "Saved", [_safe(text)])
    for answer in answers[-1:]:
        code = statements.code(answer)
        if code:
            console.print()
            console.print(f"{code.rstrip()}\n", markup=False, soft_wrap=True)
    if len(answers) == 1 and isinstance(answers[0], SearchResult):
        _print_prior(answers[0], console)


def print_headline(answer: statements.Answer, console: Console) -> None:
    """Print the answer: the rate, its schedule, and that the rate is a peak."""
    rate = printable(statements.setting(answer.lr, answer.schedule), 300)
    note = as_options(statements.peak_note(answer.schedule))
    console.print(f"[bold]{escape(rate)}[/]", end="", soft_wrap=True)
    if note:
        # On one line with the rate where it fits; whole in any case.
        fits = len(rate) + len(note) + 3 <= console.width
        console.print((" " if fits else "\n") + f"({escape(note)})", end="", soft_wrap=True)
    console.print("\n")


def print_result(
    result: Result, console: Console, *, named: bool = True, last: bool = True
) -> None:
    """Print the facts of one result.

    Args:
        result: The result; one that has no answer is left out.
        console: Where to.
        named: Whether to begin with its answer; without, a headline has told it.
        last: Whether no comparison follows, which also tells the best training and what to expect.
    """
    match result:
        case RangeTestResult(suggestion=told, notes=notes):
            rows = ["no rate"]
            if told is not None:
                between = f"nine of ten answers: {statements.range_of(*told.interval)}"
                rows = [f"begin near lr {told.lr:.2g} with constant ({between})"]
                rows.append(_safe(told.because))
            print_rows(console, "Range test", [*rows, *_bullets(notes)])
            if len(result.varied):
                print_varied(result, console)
        case TransferResult():
            print_transfer(result, console)
        case SearchResult() | ComparisonResult():
            title = "Search" if isinstance(result, SearchResult) else "Comparison"
            if named:
                answer = statements.setting(result.lr, result.schedule)
                print_rows(console, title, [f"[bold]{_safe(answer)}[/]"])
            for name, fact in _facts(result).items():
                if fact and (last or name in ("Certainty", "Cost")):
                    print_rows(console, name, [_safe(fact)])
            print_rows(console, "Reason", [_safe(result.because), *_bullets(result.notes)])
            if isinstance(result, ComparisonResult):
                _print_ranking(result, console)


def print_warnings(results: Sequence[Result], console: Console) -> None:
    """Print what counts against these results; it comes before the answer."""
    warnings = warnings_of(results)
    for warning in warnings:
        print_rows(console, "Warning", [f"[bold]{_safe(warning)}[/]"])
    if warnings:
        console.print()


def _facts(answer: statements.Answer) -> dict[str, str]:
    certainty = statements.certainty(answer) if isinstance(answer, SearchResult) else ""
    return {
        "Certainty": certainty,
        "Best training": statements.best_training(answer),
        "Retrained": statements.retrained(answer),
        "Cost": statements.cost(answer),
    }


def _bullets(notes: Sequence[str]) -> list[str]:
    return [f"- {_safe(note)}" for note in notes]


def _print_prior(found: SearchResult, console: Console) -> None:
    """How schedules of this length ended on other tasks, in a few lines."""
    if found.steps < 1:
        return
    known = prior_table(found.steps)
    wanted = {found.schedule, "constant", "linear", "cosine"}
    known = known[(known.index < PRIORS) | known["schedule"].isin(wanted)]
    told = (
        f"The final loss of schedules of {quantity(found.steps, 'step')} over that of trapezoid, "
        "each at its own best rate; in brackets the range that holds nine tasks of ten. "
        f"{prior_source(known)}"
    )
    rows = [told]
    width = max(map(len, known["schedule"]))
    for row in known.itertuples():
        scatter = f"  ({row.low:.2f} to {row.high:.2f})"
        text = f"{row.schedule:{width}}  {row.loss:.2f}" + scatter * (row.low < row.high)
        rows.append(_safe(text))
    print_rows(console, "Other tasks", rows)


def _print_ranking(ranked: ComparisonResult, console: Console) -> None:
    """Print as many columns of the ranking as the terminal is wide: whole names and numbers."""
    heads = [head for head, _ in RANKING.values()]
    rows = [
        [form(row[name]) for name, (_, form) in RANKING.items()]
        for row in _with_final_texts(ranked.table).sort_values("rank").to_dict("records")
    ]
    console.print()
    while True:
        table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
        for head in heads:
            left = head in ("schedule", "verdict")
            table.add_column(head, justify="left" if left else "right", no_wrap=True)
        for cells in rows:
            table.add_row(*cells[: len(heads)])
        needed = Measurement.get(console, console.options.update(width=1000), table).maximum
        if needed <= console.width or len(heads) <= LEAST_COLUMNS:
            break
        heads.pop()
    console.print(table)
    unit = "share of the fall of the loss that is left"
    if "shares" not in ranked.scores:
        unit = "log of the loss (-0.1 is about 10 % less)"
    legend = {
        "peak": "the peak rate of the schedule",
        "verdict": "ahead or behind, where whole trainings show it and other tasks do not "
        "contradict; else tied",
        "loss": "the mean of these runs on the selection part of the validation data",
        "difference": f"to the recommended schedule, in the {unit}, by whole trainings; of "
        "schedules that were not trained, as estimated before",
        "from": "the 90 % interval of the difference",
        "elsewhere": "the difference on other tasks",
    }
    for head, meaning in legend.items():
        if head in heads:
            print_rows(console, "from, to" if head == "from" else head, [f"[dim]{meaning}[/]"])


def _with_final_texts(ranking: pd.DataFrame) -> pd.DataFrame:
    """The final losses with the digits that tell them apart."""
    digits = digits_that_differ(ranking["final"], least=3)
    return ranking.assign(final=ranking["final"].map(_number(digits)))


def _number(digits: int) -> Callable[[float], str]:
    return lambda value: f"{value:.{digits}g}" if math.isfinite(value) else ""


def _safe(text: object) -> str:
    """Text of a result, which may come from a stranger's file, without markup or control codes."""
    return escape(as_options(printable(text, 1000)))


RANKING: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "rank": ("", str),
    "schedule": ("schedule", _safe),
    "lr": ("peak", _number(3)),
    "verdict": ("verdict", _safe),
    "final": ("loss", str),
    "runs": ("runs", str),
    "estimate": ("difference", _number(2)),
    "low": ("from", _number(2)),
    "high": ("to", _number(2)),
    "prior": ("elsewhere", _number(2)),
}
"""The printed columns of a ranking, the most important first, with their headings."""
