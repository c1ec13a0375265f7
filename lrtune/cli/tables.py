"""The tables that the command line prints, as wide as the terminal allows."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lrtune.errors import printable
from lrtune.results import RangeTestResult


def print_table(
    console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str] = ()
) -> None:
    """Print rows of texts, numbers to the right; the columns named in `left` hold words."""
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for head in heads:
        table.add_column(head, justify="left" if head in left else "right")
    for row in rows:
        table.add_row(*(escape(printable(cell, 300)) for cell in row))
    console.print(table)


def number(value: float, digits: int = 3) -> str:
    """A number for a table; empty where it is not finite.

    >>> number(0.12345), number(math.nan)
    ('0.123', '')
    """
    return f"{value:.{digits}g}" if math.isfinite(value) else ""


def print_varied(result: RangeTestResult, console: Console) -> None:
    """Print what each value of a setting that was varied suggests, and how low its loss gets."""
    heads = ["setting", "value", "rate", "from", "to", "lowest loss", "difference", ""]
    rows = [
        [
            row.setting if place == 0 or row.setting != before else "",
            f"{row.value:g}" + "*" * bool(row.own),
            *map(number, (row.lr, row.low, row.high)),
            number(row.loss, 4),
            number(row.difference, 2),
            row.verdict,
        ]
        for place, (row, before) in enumerate(
            zip(result.varied.itertuples(), result.varied["setting"].shift(), strict=True)
        )
    ]
    console.print()
    print_table(console, heads, rows, left=("setting", ""))
    console.print("[dim]* the task's own; the loss is the lowest smoothed one of a sweep[/]")
