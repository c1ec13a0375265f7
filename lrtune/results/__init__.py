"""Results: frozen records of frames whose columns are a contract; they show and save themselves.

Nothing here needs torch, so results can be read where nothing is trained.
"""

from lrtune.results.comparison import ComparisonResult
from lrtune.results.range_test import RangeTestResult
from lrtune.results.reading import KINDS, Result, read
from lrtune.results.search import SearchResult
from lrtune.results.trace import Trace, concat_traces

__all__ = [
    "KINDS",
    "ComparisonResult",
    "RangeTestResult",
    "Result",
    "SearchResult",
    "Trace",
    "concat_traces",
    "read",
]
