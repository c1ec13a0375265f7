"""Results: frozen records of tables with fixed columns, which draw themselves and become JSON.

No module here imports torch, so that a machine without it reads and reports results.
"""

import json
from collections.abc import Mapping
from typing import Any

from lrtune.errors import ResultsError
from lrtune.results.comparison import ComparisonResult
from lrtune.results.diagnosis import Diagnosis, Finding
from lrtune.results.range_test import RangeTestResult
from lrtune.results.runs import Trace, concat_traces
from lrtune.results.search import SearchResult
from lrtune.results.serialization import from_builtins
from lrtune.results.transfer import TransferResult

__all__ = [
    "KINDS",
    "ComparisonResult",
    "Diagnosis",
    "Finding",
    "RangeTestResult",
    "Result",
    "SearchResult",
    "Trace",
    "TransferResult",
    "concat_traces",
    "read",
]

KINDS: Mapping[str, type] = {
    one.kind: one
    for one in (
        Trace, Diagnosis, RangeTestResult, SearchResult, ComparisonResult, TransferResult,
    )
}  # fmt: skip
"""The class of each kind of result, by its name in JSON."""

Result = Trace | Diagnosis | RangeTestResult | SearchResult | ComparisonResult | TransferResult


def read(text: str) -> list[Result]:
    """Read the results in a JSON text: one object with a kind, or one with a list `results`.

    Raises:
        ResultsError: It is not JSON, or not what `to_json` or `lrtune ... --json` wrote.
    """
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"this is no JSON text ({error}). Give what --json prints.") from error
    several = plain.get("results", [plain]) if isinstance(plain, dict) else None
    if not isinstance(several, list) or not several:
        raise ResultsError("expected one JSON object with results, as --json prints it.")
    return [_one(each) for each in several]


def _one(plain: Any) -> Result:
    kind = plain.get("kind") if isinstance(plain, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        got = f"of kind {kind[:40]!r}" if isinstance(kind, str) else "without a text `kind`"
        raise ResultsError(f"expected a result of kind {', '.join(KINDS)}; got one {got}.")
    result: Result = from_builtins(KINDS[kind], plain)
    return result
