"""One HTML page from results, and the results from a page.

Every text of a result is escaped, and the page's policy lets only the two scripts of lrtune run:
a report may be made from a stranger's file.
"""

import base64
import gzip
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html.parser import HTMLParser
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from lrtune.errors import ArgumentError, ResultsError
from lrtune.reporting.comparison import comparison_section
from lrtune.reporting.curves import range_test_section, trace_section
from lrtune.reporting.diagnosis import diagnosis_section
from lrtune.reporting.search import search_section
from lrtune.reporting.sections import Chart, Section
from lrtune.reporting.transfer import transfer_section
from lrtune.results import (
    ComparisonResult,
    Diagnosis,
    RangeTestResult,
    Result,
    SearchResult,
    Trace,
    TransferResult,
    read,
)
from lrtune.results.serialization import write

# plotly.js 4.1.1: `plotly-cartesian.min.js` of the npm package plotly.js-cartesian-dist-min 4.1.1,
# unchanged, gzipped. It works without eval. Copyright Plotly, Inc., MIT, see plotly.LICENSE.
BUNDLE = "plotly-cartesian.min.js.gz"

# Nothing is fetched, and only the two scripts with these hashes run. plotly needs to set styles,
# and saves pictures as blobs.
POLICY = (
    "default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)

BLOCK = "lrtune-results"  # the id of the script element with the results of a page

SECTIONS: Mapping[type, Callable[[Any], Section]] = {
    RangeTestResult: range_test_section,
    SearchResult: search_section,
    ComparisonResult: comparison_section,
    Diagnosis: diagnosis_section,
    Trace: trace_section,
    TransferResult: transfer_section,
}
"""The function that makes the section of each kind of result."""


def report(results: Result | Sequence[Result], path: str | os.PathLike[str]) -> Path:
    """Write one HTML file with the text, charts and tables of results; it needs no network.

    The page also contains the results themselves, which `lrtune report page.html` reads back. The
    same results give the same bytes.

    Args:
        results: One result, or several in the order of the page.
        path: The file; an old file is replaced as soon as the new page is complete.

    Returns:
        The path.

    Raises:
        ArgumentError: `results` is empty, or contains something that is not a result.
        ResultsError: The file cannot be written.
    """
    several = list(results) if isinstance(results, Sequence) else [results]
    kinds = ", ".join(kind.__name__ for kind in SECTIONS)
    if not several:
        raise ArgumentError("a report needs at least one result. Give a saved result or a study.")
    for one in several:
        if type(one) not in SECTIONS:
            raise ArgumentError(
                f"a report consists of results ({kinds}), got {type(one).__name__}. Pass what "
                "lrtune.search or lrtune.range_test returned."
            )
    return write(Path(path), render(several))


def answers_first(results: Sequence[Result]) -> list[Result]:
    """The results in the order of a reader: the last word first, then what it rests on."""
    order = (ComparisonResult, SearchResult, TransferResult, Diagnosis, RangeTestResult, Trace)
    return sorted(results, key=lambda result: order.index(type(result)))


def render(results: Sequence[Result]) -> str:
    """The page as text; the same results give the same text."""
    sections = [SECTIONS[type(result)](result) for result in results]
    scripts = [_bundle(), _text("page.js")]
    # Drawn before the template is filled, so that an error names the figure and not the template.
    charts = [[(chart, _figure_json(chart)) for chart in section.charts] for section in sections]
    page: str = _template().render(
        policy=POLICY.format(hashes=" ".join(map(_policy_hash, scripts))),
        css=Markup(_text("page.css")),  # noqa: S704 - a file of this package
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - files of this package
        sections=list(zip(sections, charts, strict=True)),
        title="; ".join(dict.fromkeys(section.headline for section in sections)),
        task=_task_description(sections),
        results=_embedded_json({"results": [result.to_dict() for result in results]}),
        block=BLOCK,
        version=version("lrtune"),
    )
    return page


def _task_description(sections: Sequence[Section]) -> str:
    """Model, optimizer, loss and device, if all results are about the same task."""
    names = ("model", "optimizer", "loss", "device")
    tasks = {
        " · ".join(section.manifest[name] for name in names if name in section.manifest)
        for section in sections
    }
    return tasks.pop() if len(tasks) == 1 else ""


def _figure_json(chart: Chart) -> Markup:
    # plotly's own encoder writes null for NaN and infinities, which JSON does not have.
    plain = json.loads(chart.draw().to_json(engine="json"))
    return _embedded_json({"data": plain["data"], "layout": plain["layout"]})


def _embedded_json(value: Any) -> Markup:
    r"""JSON for a script element, without any character that could end the element.

    >>> print(_embedded_json({"name": "</script>&"}))
    {"name":"\u003c/script\u003e\u0026"}
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - no character is left that has a meaning in HTML


def _policy_hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


@cache
def _bundle() -> str:
    packed = files("lrtune.reporting").joinpath(BUNDLE).read_bytes()
    return gzip.decompress(packed).decode("utf-8")


def _text(name: str) -> str:
    return files("lrtune.reporting").joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_text("page.html.jinja"))


# --- back to results


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
