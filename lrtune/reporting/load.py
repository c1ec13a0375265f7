"""Results from files: reports and JSON."""

import os
from html.parser import HTMLParser
from pathlib import Path

from lrtune.errors import ResultsError
from lrtune.results import Result, read

BLOCK = "lrtune-results"
"""The id of the script element with the results of a page."""


def load(path: str | os.PathLike[str]) -> list[Result]:
    """The results in a report, or in a JSON file that `--json` or `to_json` wrote.

    Args:
        path: A report (HTML), or JSON. Nothing in the file is executed.

    Returns:
        The results, in their order.

    Raises:
        ResultsError: The file cannot be read, or contains no results.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ResultsError(
            f"cannot read {path}: {error.strerror or error}. Give a report or a JSON file."
        ) from error
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path} is not a text file. Give a report or a JSON file.") from error
    block = _results_block(text) if text.lstrip().startswith("<") else text
    if block is None:
        raise ResultsError(f"{path} is not a report of lrtune: it contains no results.")
    try:
        return read(block)
    except ResultsError as error:
        raise ResultsError(f"{path}: {error}") from error


class _ResultsParser(HTMLParser):
    """Collects the text of the first script element with the id of the results."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.inside, self.found, self.parts = False, False, list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag == "script" and ("id", BLOCK) in attrs and not self.found
        self.found = self.found or self.inside

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "script"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.parts.append(data)


def _results_block(text: str) -> str | None:
    parser = _ResultsParser()
    parser.feed(text)
    parser.close()
    return "".join(parser.parts) if parser.found else None
