"""The JSON object that the command line prints: the answer first, then every result in full."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lrtune.errors import LrtuneError
from lrtune.reporting import statements
from lrtune.results import (
    ComparisonResult,
    RangeTestResult,
    Result,
    SearchResult,
    Trace,
    TransferResult,
)
from lrtune.schedules import parse


def answer_object(
    results: Sequence[Result],
    *,
    report: Path | None = None,
    saved: Path | None = None,
    error: str = "",
) -> dict[str, Any]:
    """The object of `--json`: the answer first, then every result in full."""
    answer: dict[str, Any] = {"error": error} if error else {}
    others = [*of_kind(results, RangeTestResult), *of_kind(results, TransferResult)]
    answer["warnings"] = warnings_of(last_answers(results) or others)
    for one in of_kind(results, TransferResult)[-1:]:
        answer |= {"over": one.over, "statements": list(one.statements)}
    searches = of_kind(results, SearchResult)
    sweeps = of_kind(results, RangeTestResult)
    if searches:
        answer |= _search_object(searches[-1])
    elif sweeps:
        told = sweeps[-1].suggestion
        answer |= {"lr": told and told.lr, "interval": told and list(told.interval)}
    for ranked in of_kind(results, ComparisonResult)[-1:]:  # it measured what a search only assumes
        if answer.get("schedule") != ranked.schedule:
            answer |= {"interval": None, "good_range": None}  # those of another schedule's peak
        answer |= _shared_object(ranked, ranked.schedule)
        answer |= {"call": ranked.call, "winner": ranked.winner or None}
    answer["saved"] = None if saved is None else str(saved)
    answer["report"] = None if report is None else str(report)
    return answer | {"results": [result.to_dict() for result in results]}


def _search_object(found: SearchResult) -> dict[str, Any]:
    return _shared_object(found, found.schedule) | {
        "call": _call(found.schedule),
        "interval": list(found.interval),
        "good_range": list(found.good_range),
        "confidence": found.confidence,
    }


def _shared_object(answer: statements.Answer, schedule: str) -> dict[str, Any]:
    """What searches and comparisons have in common."""
    best, told = answer.best, answer.retrained
    return {
        "lr": answer.lr,
        "schedule": schedule,
        "rate": "peak" if statements.peak_note(schedule) else "constant",
        "steps": answer.steps,
        "best": None if best is None else _without_nan(vars(best)),
        "retrained": None if told is None else _without_nan(vars(told)),
        "because": answer.because,
        "notes": list(answer.notes),
        "cost": answer.cost,
        "budget": answer.budget,
        "stopped": answer.stopped,
        "snippet": statements.code(answer) or None,
    }


def _call(schedule: str) -> str | None:
    """The call that makes a schedule; None for one of the user's own."""
    try:
        return str(parse(schedule))
    except LrtuneError:
        return None


def _without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with None for a number that JSON does not have."""
    bad = [
        name for name, one in values.items() if isinstance(one, float) and not math.isfinite(one)
    ]
    return {**values, **dict.fromkeys(bad)}


def of_kind(results: Sequence[Result], kind: type[Any]) -> list[Any]:
    """The results of one kind."""
    return [result for result in results if isinstance(result, kind)]


def last_answers(results: Sequence[Result]) -> list[SearchResult | ComparisonResult]:
    """The last search, and the last comparison, which follows from it."""
    return [*of_kind(results, SearchResult)[-1:], *of_kind(results, ComparisonResult)[-1:]]


def warnings_of(results: Sequence[Result]) -> list[str]:
    """What counts against any of these results, each sentence once."""
    given = [one.warnings for one in results if not isinstance(one, Trace)]
    return list(dict.fromkeys(itertools.chain(*given)))
