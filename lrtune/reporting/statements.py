"""What a search found, in sentences: the terminal and the page use the same."""

import math

from lrtune.errors import LrtuneError
from lrtune.results import SearchResult
from lrtune.results.trained import BestRun

PEAK = "peak; for a constant rate: --schedule constant"
"""What a reader of a rate should know, unless it is that of the schedule `constant`."""

STOPPED = {
    "budget": "the budget holds no further training",
    "gain": "further trainings are expected to gain too little",
    "rate only": "only the rate was asked for",
    "time": "the time limit holds no further run",
    "interrupted": "it was interrupted",
}
"""Why a search ended, by `SearchResult.stopped`."""


def setting(lr: float, schedule: str) -> str:
    """A rate with its schedule; no rate is told without it.

    >>> setting(0.12345, "trapezoid")
    'lr 0.123 with trapezoid'
    """
    return f"lr {lr:.3g} with {schedule}"


def peak_note(schedule: str) -> str:
    """What kind of rate it is; empty for a constant one.

    >>> peak_note("trapezoid"), peak_note("constant")
    ('peak; for a constant rate: --schedule constant', '')
    """
    return "" if schedule in ("constant", "constant()") else PEAK


def range_of(low: float, high: float) -> str:
    """Two rates.

    >>> range_of(0.0123456, 0.5)
    '0.0123 to 0.5'
    """
    return f"{low:.3g} to {high:.3g}"


def certainty(found: SearchResult) -> str:
    """The interval, what verified it, and which rates are about as good."""
    return f"{found.confidence} About as good: {range_of(*found.good_range)}."


def stated_loss(best: BestRun, *, validated: bool) -> str:
    """The loss of the best training, and the data it was measured on.

    Args:
        best: The best training.
        validated: Whether it was chosen by a validation loss.
    """
    if math.isfinite(best.loss):
        error = f" (standard error {best.stderr:.2g})" if math.isfinite(best.stderr) else ""
        return (
            f"loss {best.loss:.3g}{error} on {best.samples:,} of {best.of:,} validation samples, "
            "which chose nothing"
        )
    chosen = "the training loss of its last fifth"
    if validated:
        chosen = f"its loss on {best.of:,} validation samples" if best.of else "its validation loss"
    return f"chosen by {chosen}, {best.selected:.3g}; no data are left to state a loss on"


def best_training(found: SearchResult) -> str:
    """The best training: its loss, its rate with the schedule, its seed; empty without one."""
    best = found.best
    if best is None:
        return ""
    validated = bool(found.runs["loss"].notna().any())
    trained = f"{setting(best.lr, found.schedule)}, seed {best.seed}"
    return f"{stated_loss(best, validated=validated)}. Trained at {trained}."


def retrained(found: SearchResult) -> str:
    """What to expect of a new training with the recommended setting; empty if unknown."""
    told = found.retrained
    if told is None:
        return ""
    runs = f"{told.runs} training{'s' * (told.runs != 1)}"
    low, high = min(told.low, told.high), max(told.low, told.high)
    return (
        f"expect a loss of {told.expected:.3g} ({low:.3g} to {high:.3g} in nine of ten), going by "
        f"{runs}."
    )


def cost(found: SearchResult) -> str:
    """What was spent, and why no more."""
    most = f"{found.budget:g} full training{'s' * (found.budget != 1)}"
    ended = STOPPED.get(found.stopped, found.stopped)
    return f"{found.cost:.2f} of at most {most} of {found.steps:,} updates; it ended as {ended}."


def code(found: SearchResult) -> str:
    """The snippet; empty for a schedule of the user's own, as only they have its code."""
    try:
        return found.snippet()
    except LrtuneError:
        return ""
