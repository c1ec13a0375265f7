"""What a page is made of: sections of words, charts and tables. No HTML here, and no results."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Table:
    """Cells as text.

    Attributes:
        caption: What the table holds.
        columns: Headings.
        rows: Cells, as many as there are headings.
        numeric: For each column whether it holds numbers.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[bool]


@dataclass(frozen=True)
class Chart:
    """A figure, what it shows, and the numbers behind it.

    Attributes:
        title: A heading.
        draw: Makes the figure.
        alt: What it shows, in a sentence or two, for those who cannot see it.
        caption: How to read it.
        tables: The numbers behind it.
    """

    title: str
    draw: Callable[[], "Figure"]
    alt: str
    caption: str
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Section:
    """One result in words.

    Attributes:
        kind: What it is, in a word or two.
        headline: The answer, in plain language.
        short: The same, for a list of contents.
        lead: Why, in a sentence or two.
        facts: Terms and what they are here.
        notes: What a reader should know.
        code: To paste; empty where there is none.
        limits: What this cannot tell; empty where there is nothing to say.
        charts: Figures.
        manifest: What it was made of: names and values.
        again: The call that makes it again; empty where there is none.
    """

    kind: str
    headline: str
    short: str
    lead: str
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    code: str = ""
    limits: str = ""
    charts: Sequence[Chart] = ()
    manifest: dict[str, str] = field(default_factory=dict)
    again: str = ""


def table_of(caption: str, frame: pd.DataFrame) -> Table:
    """The whole frame.

    >>> table_of("Rates", pd.DataFrame({"lr": [0.1], "tied": [True]})).rows
    [['0.1', 'yes']]
    """
    rows = [[cell(value) for value in row] for row in frame.itertuples(index=False)]
    types = pd.api.types
    numeric = [types.is_numeric_dtype(t) and not types.is_bool_dtype(t) for t in frame.dtypes]
    return Table(caption, [str(column) for column in frame.columns], rows, numeric)


def cell(value: object) -> str:
    """A value as text: four digits, yes and no.

    >>> cell(0.123456), cell(float("nan")), cell(False), cell(12345)
    ('0.1235', 'nan', 'no', '12345')
    """
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    return str(value)


_NUMBER = r"-?[\d.]+(?:e[-+]?\d+)?"
_NUMBERS = re.compile(rf"{_NUMBER}(?:, {_NUMBER})*")


def count(number: int, noun: str) -> str:
    """So many of them, in the right number.

    >>> count(1, "seed"), count(3000, "step")
    ('1 seed', '3,000 steps')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def sentence(text: str) -> str:
    """Beginning with a capital, ending with a full stop.

    >>> sentence("the best of 4")
    'The best of 4.'
    """
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def call(
    verb: str,
    manifest: Mapping[str, str],
    numbers: Sequence[str],
    sequences: Sequence[str] = (),
) -> str:
    """The call that makes a result again, from those settings of its manifest that are numbers.

    >>> call("search", {"steps": "400", "coarse": "0.1", "seed": "os.abort()"},
    ...      ["steps", "seed"], ["coarse"])
    'lrtune.search(task, steps=400, coarse=(0.1,))'
    """
    told = ["task"]
    for name in (*numbers, *sequences):
        value = manifest.get(name, "")
        if not _NUMBERS.fullmatch(value):
            continue
        if name in sequences:
            value = f"({value})" if "," in value else f"({value},)"
        told.append(f"{name}={value}")
    return f"lrtune.{verb}({', '.join(told)})"


def spoken(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its outcomes as words."""
    known = {outcome.name: outcome.name.lower() for outcome in Outcome}
    return frame.assign(outcome=[known.get(name, name) for name in frame["outcome"]])


def evenly(number: int, most: int) -> list[int]:
    """Positions of at most so many of them, evenly spread, the first and the last among them.

    >>> evenly(100, 4), evenly(3, 4)
    ([0, 33, 66, 99], [0, 1, 2])
    """
    if number <= most:
        return list(range(number))
    return sorted({round(position) for position in np.linspace(0, number - 1, most)})


def at_some_steps(frame: pd.DataFrame, index: str, values: str, most: int = 9) -> pd.DataFrame:
    """One row per run or rate, in the order of the frame, with the values at some of the steps.

    >>> long = pd.DataFrame({"run": ["a", "a"], "step": [0, 1], "loss": [2.0, 1.0]})
    >>> at_some_steps(long, "run", "loss")
      run  step 0  step 1
    0   a     2.0     1.0
    """
    order = frame[index].drop_duplicates()
    wide = frame.pivot_table(
        index=index, columns="step", values=values, aggfunc="first", dropna=False
    ).reindex(order)
    shown = wide[wide.columns[evenly(wide.shape[1], most)]]
    shown.columns = [f"step {step}" for step in shown.columns]
    return shown.reset_index()
