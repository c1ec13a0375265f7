"""Losses that differ the next time, or depend on the batches before."""

import math
from collections.abc import Iterator

from lrtune.diagnosis.observations.repeats import RESOLUTION, Repeats
from lrtune.diagnosis.observed import Observed
from lrtune.results import Finding
from lrtune.task.trial import ROUNDING

NONDETERMINISTIC = "nondeterministic"
STATE = "state-between-batches"

CLEAR = 10.0  # by convention: times the scatter of losses that should be equal


def check_repeats(seen: Observed) -> Iterator[Finding]:
    """The same batch with the same random numbers, once more."""
    repeats = seen.repeats
    if repeats is None or _carries(repeats):
        return
    low, high = min(repeats.first), max(repeats.first)
    if math.isclose(low, high, rel_tol=ROUNDING, abs_tol=ROUNDING) or math.isnan(low + high):
        return
    if seen.task.drift is not None:
        return  # a loss that counts, of which check_drift tells
    cause = "Model or loss draw random numbers that no seed of torch, numpy or random decides: a "
    cause += "generator of their own, the system's, or the time."
    if not repeats.same_weights:
        cause = "The function that makes the model draws weights from a generator of its own."
    yield Finding(
        NONDETERMINISTIC,
        "warning",
        f"The loss of the first batch differs between {len(repeats.first)} new states with the "
        f"same seed: {low:.6g} to {high:.6g}.",
        cause,
        "Draw from the global generators of torch, numpy or random, which lrtune seeds. Runs of "
        "one seed are compared number by number, and an interrupted one is not continued alike.",
    )


def check_state(seen: Observed) -> Iterator[Finding]:
    """The loss of a batch after one batch, and after another."""
    repeats = seen.repeats
    if repeats is None or not _carries(repeats):
        return
    one, other = repeats.after_one[0], repeats.after_other[0]
    in_buffers = abs(repeats.exchanged - other) < abs(repeats.exchanged - one)
    yield Finding(
        STATE,
        "note" if in_buffers else "warning",
        f"The loss of a batch is {one:.6g} after one batch and {other:.6g} after another, without "
        "an update in between.",
        "A running mean or a queue of earlier batches in a buffer."
        if in_buffers
        else "A hidden state, a cache or a list that the model or the objective keeps from one "
        "batch to the next.",
        "If it is meant, nothing: each run has its own."
        if in_buffers
        else "Start each batch anew: reset the state in forward(), and let an objective keep "
        "nothing. If it is meant, keep it in a buffer (register_buffer), of which each run has its "
        "own, and which checkpoints save.",
    )


def _carries(repeats: Repeats) -> bool:
    """Whether the loss depends on the batch before, by more than it scatters by itself."""
    pairs = zip(repeats.after_one, repeats.after_other, strict=True)
    apart = min(abs(one - other) for one, other in pairs)
    scatter = max(max(some) - min(some) for some in (repeats.after_one, repeats.after_other))
    rounding = RESOLUTION * max(map(abs, repeats.after_one))
    return len(repeats.after_one) > 1 and apart > CLEAR * scatter + rounding
