"""Whether something outside of the task has a say in its training."""

import math
from collections.abc import Iterator

from lrtune.diagnosis.observed import Observed
from lrtune.results import Finding

SHARED = "shared-state"

ROUNDING = 1e-4
"""By convention: losses this close differ by rounding, which some GPUs do differently each time."""

CAUSE = (
    "Something outside of the model and the loss module keeps a state or draws random numbers, "
    "such as a teacher or a counter in a global variable, or a generator of the module."
)
REMEDY = (
    "Let the model or a loss module hold it, as every run has a copy of these; and draw from the "
    "global generators of torch, numpy or random, which lrtune seeds at each step."
)


def check_repeats(seen: Observed) -> Iterator[Finding]:
    """A run that has other losses when it is made again."""
    runs = seen.reruns
    if runs is None or seen.task.drift is not None:  # a drift is told by itself
        return
    first, again = runs.first, runs.again
    if len(first) != len(again) or not all(map(_close, first, again)):
        ends = " and ".join(f"{one[-1]:.6g}" if one else "no loss" for one in (first, again))
        yield Finding(
            SHARED,
            "warning",
            f"The same run of {len(first)} updates ends otherwise when it is made again: {ends}.",
            CAUSE,
            REMEDY,
        )


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=ROUNDING) or (math.isnan(one) and math.isnan(other))
