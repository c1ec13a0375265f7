"""A hook of mkdocs: write the reference of the command line, from the command line itself."""

import html
import re
from typing import Any

import typer.main
from typer.cli import get_docs_for_click

from lrtune.cli.commands import app

MARKER = "<!-- commands -->"
"""Where a page wants the reference."""


def reference() -> str:
    """Every command of `lrtune` with its arguments, options, defaults and example, as Markdown."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="lrtune")
    lines = html.unescape(text).splitlines()[1:]  # the page has a title of its own
    return "\n".join(re.sub(r"^Example: (.*)$", r"Example: `\1`", line) for line in lines)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the reference where a page wants it."""
    return markdown.replace(MARKER, reference()) if MARKER in markdown else markdown
