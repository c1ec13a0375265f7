"""What a page is made of: sections of words, charts and tables. No HTML here, and no results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

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
