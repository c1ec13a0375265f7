"""The parts of a report, free of HTML and of results: sections of words, charts and tables."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome
from lrtune.analysis.scores import digits_that_differ
from lrtune.results.schema import HEADINGS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Table:
    """A table in the report: a caption, and cells that are text."""

    caption: str
    columns: Sequence[str]  # headings
    rows: Sequence[Sequence[str]]
    numeric: Sequence[bool]  # for each column, whether it contains numbers


@dataclass(frozen=True)
class Chart:
    """A figure, its explanation, and its numbers."""

    title: str
    draw: Callable[[], "Figure"]
    alt: str  # a sentence or two for readers who cannot see the figure
    caption: str  # how to read it
    tables: Sequence[Table]


@dataclass(frozen=True)
class Section:
    """The part of a report about one result: text, charts and tables."""

    kind: str  # in a word or two
    headline: str  # the answer
    short: str  # the answer in a few words, for the links at the top
    lead: str  # the reason for the answer
    facts: Sequence[tuple[str, str]]  # terms and their values
    charts: Sequence[Chart]
    warnings: Sequence[str] = ()  # what counts against the answer
    tables: Sequence[Table] = ()  # that belong to no chart
    notes: Sequence[str] = ()
    code: str = ""  # Python to paste into a training script
    limits: str = ""  # what the result does not show
    manifest: Mapping[str, str] = field(default_factory=dict)
    call: str = ""  # the Python call that makes the result again


def text_table(caption: str, frame: pd.DataFrame) -> Table:
    """All rows of a frame, as text, under plain headings; outcomes as words."""
    if "outcome" in frame:
        frame = frame.assign(outcome=outcome_words(frame["outcome"]))
    types = pd.api.types
    digits = [digits_that_differ(c, 4) if types.is_float_dtype(c) else 4 for _, c in frame.items()]
    rows = [
        [format_cell(value, most) for value, most in zip(row, digits, strict=True)]
        for row in frame.itertuples(index=False)
    ]
    numeric = [types.is_numeric_dtype(t) and not types.is_bool_dtype(t) for t in frame.dtypes]
    headings = [HEADINGS.get(str(column), str(column)) for column in frame.columns]
    return Table(caption, headings, rows, numeric)


def format_cell(value: object, digits: int = 4) -> str:
    """A value as text: floats to so many digits, yes and no for booleans."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{value:.{digits}g}"
    return str(value)


def outcome_words(outcomes: pd.Series) -> list[str]:
    """The outcomes in lower case; a text that is no outcome stays as it is."""
    return [name.lower() if name in Outcome.__members__ else name for name in outcomes]


def outcome_counts(outcomes: pd.Series) -> str:
    """How often each outcome occurs, most frequent first.

    >>> outcome_counts(pd.Series(["DIVERGED", "FINISHED", "DIVERGED"]))
    '2 diverged, 1 finished'
    """
    counts = pd.Series(outcome_words(outcomes), dtype="str").value_counts()
    return ", ".join(f"{number} {outcome}" for outcome, number in counts.items()) or "none"


def as_sentence(text: str) -> str:
    """The text with a capital at the beginning and a full stop at the end.

    >>> as_sentence("the best of 4")
    'The best of 4.'
    """
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


_NUMBER = r"-?[\d.]+(?:e[-+]?\d+)?"
_NUMBERS = re.compile(rf"{_NUMBER}(?:, {_NUMBER})*")
_TEXT = re.compile(r"[\w.,=()' -]{1,200}", re.ASCII)


def python_call(
    function: str,
    manifest: Mapping[str, str],
    numbers: Sequence[str],
    sequences: Sequence[str] = (),
    *,
    texts: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The call that makes a result again, with its settings that are numbers, or names.

    >>> python_call("search", {"steps": "400", "coarse": "0.1", "seed": "os.abort()"},
    ...             ["steps", "seed"], ["coarse"], texts={"schedule": "wsd"})
    "lrtune.search(task, schedule='wsd', steps=400, coarse=(0.1,))"
    """
    # A manifest may come from a stranger's file, and a reader may paste the call: only numbers
    # enter it, and literals of simple texts.
    arguments = ["task"]
    arguments += [f"{name}={text!r}" for name, text in texts.items() if _TEXT.fullmatch(text)]
    for name in (*numbers, *sequences):
        value = manifest.get(name, "")
        if not _NUMBERS.fullmatch(value):
            continue
        if name in sequences:
            value = f"({value})" if "," in value else f"({value},)"
        arguments.append(f"{name}={value}")
    return f"lrtune.{function}({', '.join(arguments)})"


def spread_indices(number: int, most: int) -> list[int]:
    """At most `most` of `number` indices, evenly spread, with the first and the last.

    >>> spread_indices(100, 4), spread_indices(3, 4)
    ([0, 33, 66, 99], [0, 1, 2])
    """
    if number <= most:
        return list(range(number))
    return sorted({round(position) for position in np.linspace(0, number - 1, most)})


def values_by_step(frame: pd.DataFrame, index: str, values: str) -> pd.DataFrame:
    """One row per run or rate, in the order of the frame, with its values at up to nine steps."""
    order = frame[index].drop_duplicates()
    wide = frame.pivot_table(
        index=index, columns="step", values=values, aggfunc="first", dropna=False
    ).reindex(order)
    few = wide[wide.columns[spread_indices(wide.shape[1], 9)]]  # more would not fit on a screen
    few.columns = [f"step {step}" for step in few.columns]
    return few.reset_index()
