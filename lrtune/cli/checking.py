"""`lrtune check`: what will be trained, printed before it is."""

import json
import sys
from contextlib import redirect_stdout
from dataclasses import replace

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lrtune.cli.output import FAILED, print_error
from lrtune.cli.task_file import task_of
from lrtune.diagnosis.check import check
from lrtune.errors import printable
from lrtune.results import Diagnosis
from lrtune.tuning.search import plan

COLOURS = {"error": "bold red", "warning": "bold yellow", "note": "bold"}


def run_check(target: str | None, device: str | None, *, as_json: bool) -> int:
    """Check the task of the command line, and print what was seen.

    Returns:
        The exit code: 1 where an error was found.
    """
    try:
        with redirect_stdout(sys.stderr):  # where what the user's code prints belongs
            task = task_of(target, device)
            seen, held = check(task), plan(task).memory
        seen = replace(seen, facts=seen.facts | {"Runs of a search": str(held).partition(": ")[2]})
    except Exception as error:  # noqa: BLE001 - the user's file may raise anything
        return print_error(error, Console(stderr=True, highlight=False))
    if as_json:
        sys.stdout.write(json.dumps({"results": [seen.to_dict()]}, allow_nan=False) + "\n")
    else:
        print_diagnosis(seen, Console(highlight=False))
    return FAILED if seen.failed else 0


def print_diagnosis(seen: Diagnosis, console: Console) -> None:
    """Print the facts, the parameter groups, and the findings."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(no_wrap=True)
    facts.add_column()
    for term, value in seen.facts.items():
        facts.add_row(escape(printable(term)), escape(printable(value, 300)))
    console.print(facts)
    console.print()
    console.print(_groups(seen))
    console.print()
    for one in seen.findings:
        colour = COLOURS.get(one.severity, "bold")
        name = escape(printable(f"{one.severity}: {one.name}"))
        console.print(f"[{colour}]{name}[/]")
        console.print(f"  {escape(printable(one.sentence, 1000))}")
    if not seen.findings:
        console.print(escape(printable(seen.nothing, 1000)))


def _groups(seen: Diagnosis) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("group", justify="right")
    table.add_column("rate")
    table.add_column("weight decay", justify="right")
    table.add_column("parameters", justify="right")
    for row in seen.groups.itertuples():
        rate = f"{row.lr:g}, whatever lr is" if row.fixed else f"{row.lr:g} x lr"
        decay = "" if row.weight_decay != row.weight_decay else f"{row.weight_decay:g}"
        table.add_row(str(row.group), rate, decay, f"{row.parameters:,}")
    return table
