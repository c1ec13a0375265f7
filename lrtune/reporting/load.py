"""Files with results: read without executing anything."""

import os
from html.parser import HTMLParser
from pathlib import Path

from lrtune.errors import ResultsError
from lrtune.results import Result, read

BLOCK = "lrtune-results"
"""The id of the element of a page that holds the results."""


def load(path: str | os.PathLike[str]) -> list[Result]:
    """The results in a report, or in a JSON file that `--json` or `to_json` made.

    Args:
        path: An HTML page that `report` wrote, or JSON. Nothing in it is executed.

    Returns:
        The results, in their order.

    Raises:
        ResultsError: The file cannot be read, or holds no results.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ResultsError(
            f"cannot read {path}: {error.strerror or error}. Name a report or a JSON file."
        ) from error
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path} is no text. Name a report or a JSON file.") from error
    page = text.lstrip().startswith("<")
    block = _results_block(text) if page else text
    if block is None:
        raise ResultsError(f"{path} is no report of lrtune: it holds no results. Name another one.")
    try:
        return read(block)
    except ResultsError as error:
        raise ResultsError(f"{path}: {error}") from error


class _Finder(HTMLParser):
    """Collects the text of the element that holds the results."""

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
    finder = _Finder()
    finder.feed(text)
    finder.close()
    return "".join(finder.parts) if finder.found else None
