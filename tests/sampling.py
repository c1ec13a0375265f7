"""Laws of which the quick tests try a few cases, and the slow ones all, or a share of all."""

import inspect
import os

import pytest
from hypothesis import Phase, given, settings

SHARE = float(os.environ.get("LRTUNE_CASES", "1"))
"""The share of all cases that the slow tests try; `make test-sample` sets it."""


def law(*, few, cases, phases=tuple(Phase), **strategies):
    """Test a law on a few cases, and on all of them in a slow test named `..._on_all_cases`."""

    def both(body):
        def slow(*args, **drawn):
            body(*args, **drawn)

        slow.__name__ = slow.__qualname__ = f"{body.__name__}_on_all_cases"
        slow.__module__, slow.__doc__ = body.__module__, body.__doc__
        slow.__signature__ = inspect.signature(body)
        tried = settings(max_examples=max(few, round(SHARE * cases)), phases=phases)(
            given(**strategies)(slow)
        )
        body.__globals__[slow.__name__] = pytest.mark.slow(tried)
        return settings(max_examples=few, phases=phases)(given(**strategies)(body))

    return both
