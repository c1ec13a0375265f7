"""report(): one result or several, as one HTML file that needs nothing else."""

import os
from collections.abc import Sequence
from pathlib import Path

from lrtune._report.page import render
from lrtune._report.words import SECTIONS
from lrtune.errors import ArgumentError
from lrtune.results import Result
from lrtune.writing import write


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
