"""Results in words: one module per kind of result, and the mapping that finds it.

A new kind of result is one module here and one line in `SECTIONS`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from lrtune._report.parts import Section
from lrtune._report.words.comparison import comparison_section
from lrtune._report.words.range_test import range_test_section
from lrtune._report.words.search import search_section
from lrtune._report.words.trace import trace_section
from lrtune.results import Comparison, RangeTest, Search, Trace

SECTIONS: Mapping[type, Callable[[Any], Section]] = {
    RangeTest: range_test_section,
    Search: search_section,
    Comparison: comparison_section,
    Trace: trace_section,
}
"""Which function puts which kind of result into words."""
