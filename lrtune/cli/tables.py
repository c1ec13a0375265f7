"""The tables that the command line prints, as wide as the terminal allows."""

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lrtune.cli.options import as_options
from lrtune.errors import printable, quantity
from lrtune.results import RangeTestResult, TransferResult
from lrtune.schedules import Recipe
from lrtune.schedules.recipes import RULES

INDENT = 16  # columns of the titles in front of the answers


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


def print_transfer(result: TransferResult, console: Console) -> None:
    """Print what the trends mean, and the best rate of each size."""
    for place, said in enumerate(result.statements):
        title = f"Over {result.over.replace('_', ' ')}" if not place else ""
        print_rows(console, title, [f"[bold]{escape(printable(said, 1000))}[/]"])
    cost = (
        f"{result.cost:.2f} of at most {result.budget:g} full trainings of "
        f"{quantity(result.steps, 'step')}"
    )
    print_rows(console, "Cost", [cost])
    notes = [f"- {escape(printable(as_options(note), 1000))}" for note in result.notes]
    print_rows(console, "Notes", notes)
    heads = ["at equal", "size", "updates", "best rate", "from", "to", "loss", ""]
    rows = [
        [
            row.equal,
            row.label,
            f"{row.updates:,}",
            *map(number, (row.lr, row.low, row.high)),
            number(row.loss, 4),
            f"at the {row.edge} edge" if row.edge else "",
        ]
        for row in result.table.itertuples()
    ]
    console.print()
    print_table(console, heads, rows, left=("at equal", ""))


def print_recipes(recipes: Sequence[Recipe], batch: int, steps: int, console: Console) -> None:
    """Print two lines for each recipe: its numbers, and below them its schedule and its source."""
    heads = ["recipe", "optimizer", "peak", "at batch", f"peak at {batch}", "rule"]
    rows = [
        [
            one.name,
            one.optimizer,
            f"{one.peak:g}",
            "not given" if one.batch is None else f"{one.batch:,g}{' tokens' * one.in_tokens}",
            "" if one.rule == "none" else f"{one.lr(batch):.3g}",
            one.rule,
        ]
        for one in recipes
    ]
    print_table(console, heads, rows, left=("recipe", "optimizer", "rule"))
    for rule, source in RULES.items():
        if source:
            console.print(f"[dim]{rule} rule: {escape(source)}[/]")
    console.print(f"\n[bold]schedules of {quantity(steps, 'step')}, and their sources[/]")
    for one in recipes:
        lines = [one.phases(steps), f"[dim]{escape(f'{one.source} ({one.year})')}[/]"]
        print_rows(console, one.name, lines, indent=23)


def print_recipe(recipe: Recipe, batch: int, steps: int, console: Console) -> None:
    """Print everything about one recipe."""
    scaled = "not scaled" if recipe.rule == "none" else f"{recipe.lr(batch):.3g} for {batch}"
    size = "not given" if recipe.batch is None else f"{recipe.batch:,g} {recipe.batch_unit}"
    why = f", by the {recipe.rule} rule ({RULES[recipe.rule]})" * (recipe.rule != "none")
    moments = {
        "momentum": recipe.momentum, "beta1": recipe.beta1, "beta2": recipe.beta2,
        "weight decay": recipe.weight_decay,
    }  # fmt: skip
    settings = [f"{name} {value:g}" for name, value in moments.items() if value is not None]
    facts = {
        "Recipe": f"{recipe.name}: {recipe.title}",
        "Source": f"{recipe.authors}, {recipe.year}. {recipe.source}",
        "Optimizer": ", ".join([recipe.optimizer, *["Nesterov"] * recipe.nesterov, *settings]),
        "Peak": f"{recipe.peak:g} for a batch of {size}; {scaled}{why}",
        "Length": f"{recipe.length:,g} {recipe.unit}",
        "Schedule": f"{recipe.phases()}; of {steps} steps: {recipe.phases(steps)}",
        "Call": repr(recipe.schedule()),
        "Note": recipe.note,
    }
    for title, text in facts.items():
        print_rows(console, title, [escape(text)] if text else [])


def recipes_object(recipes: Sequence[Recipe], batch: int, steps: int) -> dict[str, Any]:
    """The object of `lrtune recipes --json`."""
    return {
        "batch": batch,
        "steps": steps,
        "recipes": [
            {
                **vars(one),
                "every": one.every if math.isfinite(one.every) else None,
                "at": list(one.at),
                "rule": one.rule,
                "rule_source": RULES[one.rule] or None,
                "lr": one.lr(batch),
                "phases": one.phases(steps),
                "schedule": repr(one.schedule()),
            }
            for one in recipes
        ],
    }


def print_rows(console: Console, title: str, rows: Sequence[str], indent: int = INDENT) -> None:
    """Print a title, and beside it rows of markup that wrap within their own column."""
    for row in rows:
        for line in Text.from_markup(row).wrap(console, max(console.width - indent, 20)):
            line.rstrip()
            console.print(Text(f"{title:<{indent}}") + line)
            title = ""
