"""Sections to one HTML page. Everything that is not ours is escaped; only our scripts may run."""

import base64
import gzip
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from lrtune.errors import ArgumentError
from lrtune.reporting.comparison import comparison_section
from lrtune.reporting.load import BLOCK
from lrtune.reporting.range_test import range_test_section
from lrtune.reporting.search import search_section
from lrtune.reporting.sections import Chart, Section
from lrtune.reporting.trace import trace_section
from lrtune.results import ComparisonResult, RangeTestResult, Result, SearchResult, Trace
from lrtune.results.serialization import write

BUNDLE = "plotly-cartesian.min.js.gz"
"""plotly.js 4.1.1, the cartesian bundle: `plotly-cartesian.min.js` of the npm package
plotly.js-cartesian-dist-min 4.1.1, unchanged, gzipped. It needs no eval. Copyright Plotly, Inc.,
MIT licence, see plotly.LICENSE."""

POLICY = (
    "default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""Only our two scripts run; nothing is fetched. plotly sets styles, and saves images as blobs."""


SECTIONS: Mapping[type, Callable[[Any], Section]] = {
    RangeTestResult: range_test_section,
    SearchResult: search_section,
    ComparisonResult: comparison_section,
    Trace: trace_section,
}
"""Which function puts which kind of result into words."""


def render(results: Sequence[Result]) -> str:
    """The page, as text; the same results give the same text."""
    sections = [SECTIONS[type(result)](result) for result in results]
    scripts = [_bundle(), _text("page.js")]
    charts = [
        [(chart, _figure(chart)) for chart in section.charts]  # drawn here, so errors surface here
        for section in sections
    ]
    page: str = _template().render(
        policy=POLICY.format(hashes=" ".join(_hash(script) for script in scripts)),
        css=Markup(_text("page.css")),  # noqa: S704 - our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - our own files
        sections=list(zip(sections, charts, strict=True)),
        title=_title(sections),
        task=_task(sections),
        results=_embedded({"results": [result.to_dict() for result in results]}),
        block=BLOCK,
        version=version("lrtune"),
    )
    return page


def _title(sections: Sequence[Section]) -> str:
    return "; ".join(dict.fromkeys(section.headline for section in sections))


def _task(sections: Sequence[Section]) -> str:
    """The task in words, where all results are of one and the same."""
    words = ("model", "optimizer", "loss", "device")
    told = {
        " · ".join(section.manifest[name] for name in words if name in section.manifest)
        for section in sections
    }
    return told.pop() if len(told) == 1 else ""


def _figure(chart: Chart) -> Markup:
    figure = chart.draw()
    plain = json.loads(figure.to_json(engine="json"))  # NaN and infinities are null there
    return _embedded({"data": plain["data"], "layout": plain["layout"]})


def _embedded(value: Any) -> Markup:
    r"""JSON that can stand within a script element: nothing in it can end it.

    >>> print(_embedded({"name": "</script>&"}))
    {"name":"\u003c/script\u003e\u0026"}
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - no sign is left that HTML gives a meaning to


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


@cache
def _bundle() -> str:
    packed = files("lrtune.reporting").joinpath(BUNDLE).read_bytes()
    return gzip.decompress(packed).decode("utf-8")


@cache
def _text(name: str) -> str:
    return files("lrtune.reporting").joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> Any:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_text("page.html.jinja"))


def report(results: Result | Sequence[Result], path: str | os.PathLike[str]) -> Path:
    """Write one HTML file with words, charts and tables that opens without a network.

    The page holds the results themselves as well: `lrtune report report.html` reads them back.
    The same results give the same bytes.

    Args:
        results: What a verb returned, or several of them, in the order of the page.
        path: The file; what it held before is replaced once the new page is complete.

    Returns:
        The path.

    Raises:
        ArgumentError: There is no result, or it is none of ours.
        ResultsError: The file cannot be written there.
    """
    several = list(results) if isinstance(results, Sequence) else [results]
    kinds = ", ".join(kind.__name__ for kind in SECTIONS)
    if not several:
        raise ArgumentError(f"a report needs at least one result ({kinds}), got none.")
    for one in several:
        if type(one) not in SECTIONS:
            raise ArgumentError(
                f"a report is made of results ({kinds}), got {type(one).__name__}. Pass what "
                "lrtune.search or lrtune.range_test returned."
            )
    return write(Path(path), render(several))
