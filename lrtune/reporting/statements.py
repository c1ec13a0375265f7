"""What was found, in sentences: the terminal and the page use the same."""

import math

import numpy as np

from lrtune.analysis.scores import digits_that_differ
from lrtune.errors import LrtuneError, quantity
from lrtune.results import ComparisonResult, SearchResult
from lrtune.schedules import parse
from lrtune.schedules.registry import schedule_text

Answer = SearchResult | ComparisonResult
"""The results that recommend a rate with a schedule."""

PEAK = "peak, the schedule's highest rate; for a constant rate: schedule='constant'"
"""What a reader of a rate should know, unless it is that of the schedule `constant`."""

STOPPED = {
    "budget": "the budget allows no further training",
    "gain": "further trainings are expected to gain too little",
    "rate only": "only the rate was asked for",
    "time": "the time limit allows no further run",
    "interrupted": "it was interrupted",
}
"""Why a search ended, by `SearchResult.stopped`."""


def setting(lr: float, schedule: str) -> str:
    """A rate with its schedule; no rate is told without it.

    >>> setting(0.12345, "trapezoid")
    'lr 0.123 with trapezoid'
    """
    return f"lr {lr:.3g} with {schedule}"


def schedule_name(text: str) -> str:
    """The shortest text of a schedule; that of a user's own function stays as it is.

    >>> schedule_name("constant()"), schedule_name("cosine(floor=0.1)"), schedule_name("mine")
    ('constant', 'cosine(floor=0.1)', 'mine')
    """
    try:
        return schedule_text(parse(text))
    except LrtuneError:
        return text


def peak_note(schedule: str) -> str:
    """What kind of rate it is; empty for a constant one.

    >>> peak_note("trapezoid"), peak_note("constant")
    ("peak, the schedule's highest rate; for a constant rate: schedule='constant'", '')
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
    low, high = found.good_range
    if low == high:
        return found.confidence
    kind = "Peaks" if peak_note(found.schedule) else "Rates"
    near = f"{kind} from {low:.3g} to {high:.3g} are expected to end within 5 % of the lowest loss."
    return f"{found.confidence} {near}"


def loss_text(loss: float, answer: Answer) -> str:
    """A loss with the digits that tell the runs of a result apart, whatever constant is on top."""
    runs = answer.runs
    start = float(runs["start"].max())
    # Of a run that exploded, only that it ended above the start.
    fallen = np.minimum(runs[["start", "train", "loss", "test"]].to_numpy(float), start)
    digits = digits_that_differ(fallen, least=3)
    return f"{loss:.{digits + (digits > 3)}g}"


def stated_loss(answer: Answer) -> str:
    """The stated loss of the best training, and on how many samples; empty without one."""
    best = answer.best
    if best is None or not math.isfinite(best.loss):
        return ""
    error = f" (standard error {best.stderr:.2g})" if math.isfinite(best.stderr) else ""
    samples = f"{best.samples:,} of {best.of:,} validation samples"
    loss = loss_text(best.loss, answer)
    return f"loss {loss}{error} on the {samples} that were not used to choose it"


def best_training(answer: Answer) -> str:
    """The best training: its loss, its rate with the schedule, its seed; empty without one."""
    best, told = answer.best, stated_loss(answer)
    if best is None:
        return ""
    if not told:
        chosen = "the training loss of its last fifth"
        if answer.runs["loss"].notna().any():
            chosen = "its validation loss"
        loss = loss_text(best.selected, answer)
        told = f"chosen by {chosen}, {loss}; no other data are left to measure it on"
    return f"{told}. Trained at {setting(best.lr, best.schedule)}, seed {best.seed}."


def retrained(answer: Answer) -> str:
    """What to expect of a new training with the recommended setting; empty if unknown."""
    told = answer.retrained
    if told is None:
        return ""
    low, high = (loss_text(end, answer) for end in sorted((told.low, told.high)))
    runs = quantity(told.runs, "training")
    where = "nearly this rate" if told.near else "other rates, as none was near this one"
    return (
        f"expect a loss of {loss_text(told.expected, answer)} (90 % interval {low} to {high}), "
        f"estimated from {runs} at {where}."
    )


def cost(answer: Answer) -> str:
    """What was spent, and why no more."""
    most = f"{answer.budget:g} full training{'s' * (answer.budget != 1)}"
    ended, length = STOPPED.get(answer.stopped, answer.stopped), quantity(answer.steps, "step")
    return f"{answer.cost:.2f} of at most {most} of {length}. It ended because {ended}."


def code(answer: Answer) -> str:
    """The snippet; empty where a result from a file has a schedule of the user's own."""
    try:
        return answer.snippet()
    except LrtuneError:
        return ""
