"""`lrtune check` and `lrtune diagnose`: what is seen of a task or of loss curves, in print."""

import json
import sys
import textwrap
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lrtune.cli import INTERRUPTED
from lrtune.cli.options import as_options, check_curves, check_folder
from lrtune.cli.output import FAILED, USAGE, print_error
from lrtune.cli.progress import ProgressDisplay
from lrtune.cli.task_file import task_of
from lrtune.diagnosis.check import check
from lrtune.diagnosis.diagnose import diagnose
from lrtune.errors import CheckpointError, LrtuneError, printable
from lrtune.reporting import report
from lrtune.results import Diagnosis
from lrtune.results.verdicts import verdicts
from lrtune.tuning.search import plan

COLOURS = {"error": "bold red", "warning": "bold yellow", "note": "bold"}


def run_check(target: str | None, device: str | None, *, as_json: bool) -> int:
    """Check the task of the command line, and print what was seen.

    Returns:
        The exit code: 1 where an error was found.
    """

    def look() -> Diagnosis:
        task = task_of(target, device)
        seen, held = check(task), plan(task).memory
        return replace(seen, facts=seen.facts | {"Runs of a search": str(held).partition(": ")[2]})

    return _shown(look, print_check, as_json=as_json)


def run_diagnose(
    target: str | None, device: str | None, *, out: Path, as_json: bool, **settings: Any
) -> int:
    """Diagnose the task of the command line, print what was found, and write the report.

    Returns:
        The exit code: 1 where an error was found, 130 after Ctrl-C.
    """
    display = ProgressDisplay(Console(stderr=True, highlight=False), lambda _: None)

    def tell(_stage: str, done: int, total: int) -> None:
        display.updates("diagnosis", done, total)

    def look() -> Diagnosis:
        check_folder("--out", out)
        task = task_of(target, device)
        display.start()
        try:
            return diagnose(task, progress=tell, **settings)
        finally:
            display.stop()

    def show(seen: Diagnosis, console: Console) -> None:
        print_findings(seen, console)
        console.print()
        console.print(escape(f"Cost: {seen.facts['Cost']}."))
        if "Could not be looked at" in seen.facts:
            failed = seen.facts["Could not be looked at"]
            console.print(escape(printable(f"Could not be looked at: {failed}.", 1000)))

    return _shown(look, show, as_json=as_json, out=out)


def run_verdicts(path: str, given: Mapping[str, object], *, as_json: bool) -> int:
    """Judge the loss curves of a file, and print a verdict for each.

    Args:
        path: The file.
        given: Options that need a task, which are refused.
        as_json: Whether to print JSON.
    """
    try:
        check_curves(path, given)
        judged = verdicts(path)
    except LrtuneError as error:
        return print_error(error, Console(stderr=True, highlight=False))
    if as_json:
        rows = json.loads(judged.to_json(orient="records"))  # NaN becomes null
        sys.stdout.write(json.dumps({"verdicts": rows}) + "\n")
        return 0
    console = Console(highlight=False)
    for row in judged.itertuples():
        named = row.lr != row.lr or f"{row.lr:g}" in str(row.run)
        rate = "" if named else f", lr {row.lr:.3g}"
        sure = "" if row.certain else " (not certain)"
        console.print(f"[bold]{escape(printable(row.run))}{rate}: {row.verdict}[/]{sure}")
        console.print(f"  {escape(printable(row.reason, 1000))}")
    return 0


def _shown(
    look: Callable[[], Diagnosis],
    show: Callable[[Diagnosis, Console], None],
    *,
    as_json: bool,
    out: Path | None = None,
) -> int:
    """Print what was seen, as text or JSON, and write a report; returns the exit code."""
    try:
        with redirect_stdout(sys.stderr):  # where what the user's code prints belongs
            seen = look()
        path = None if out is None else str(report(seen, out))
    except KeyboardInterrupt:
        Console(stderr=True).print("[bold]Interrupted[/], before anything was looked at.")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the user's file may raise anything
        code = print_error(error, Console(stderr=True, highlight=False))
        return USAGE if isinstance(error, CheckpointError) else code
    if as_json:
        found = {"results": [seen.to_dict()]} | ({} if path is None else {"report": path})
        sys.stdout.write(json.dumps(found, allow_nan=False) + "\n")
    else:
        show(seen, Console(highlight=False))
        if path is not None:
            Console(highlight=False, soft_wrap=True).print(f"Report: {escape(path)}")
    if seen.stopped:
        return INTERRUPTED
    return FAILED if seen.failed else 0


def print_check(seen: Diagnosis, console: Console) -> None:
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
    print_findings(seen, console)


def print_findings(seen: Diagnosis, console: Console) -> None:
    """Print what was found, worst first: its evidence, the likeliest cause, and what to do."""
    if seen.stopped:
        console.print(f"[bold]{escape(seen.summary)}[/]")
    for one in seen.findings:
        colour = COLOURS.get(one.severity, "bold")
        name = escape(printable(f"{one.severity}: {one.name}"))
        console.print(f"[{colour}]{name}[/]")
        console.print(f"  {escape(printable(one.sentence, 1000))}")
    if not seen.findings:
        if not seen.stopped:
            console.print(escape(seen.summary))
        _print_text(f"Looked at: {', '.join(seen.looked_at)}.", console)
    if seen.left_out:
        _print_text(as_options(seen.unseen), console)


def _print_text(text: str, console: Console) -> None:
    """Print a text in lines that fit, and divide no name at its hyphen."""
    lines = textwrap.wrap(printable(text, 3000), console.width - 1, break_on_hyphens=False)
    for line in lines:
        console.print(escape(line), soft_wrap=True)


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
