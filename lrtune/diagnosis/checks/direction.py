"""Whether training lowers the loss, or raises it."""

import math
from collections.abc import Iterator, Sequence

from lrtune.diagnosis.observations.far_outputs import FAR
from lrtune.diagnosis.observations.losses import LOGS
from lrtune.diagnosis.observations.updates import Moved
from lrtune.diagnosis.observed import Observed
from lrtune.results import Finding

WRONG_SIGN = "wrong-sign"

ALIKE = 2.0
"""By convention: times the smaller of two slopes; those of a smooth loss differ by some percent."""


FAR_BELOW = 3.0
"""By convention: a loss has no minimum that falls by so many times itself, and by so much, where
the outputs become large, whatever their sign."""


def check_sign(seen: Observed) -> Iterator[Finding]:
    """A loss that is negated, or an update that raises it."""
    first = seen.first_pass
    parts = [one for one in first.calls.losses if one.reversed is not None] if first else []
    if first and parts and all(one.reversed for one in parts):
        name = parts[-1].function
        what = "log-likelihood" if name in LOGS else f"{name} of the outputs"
        yield Finding(
            WRONG_SIGN,
            "error",
            f"The loss of the first batch, {first.loss:.4g}, falls where the {what} "
            f"{'falls' if name in LOGS else 'rises'}.",
            "A minus too many or too few, or a score that should be as high as possible.",
            "Return what should become small: the loss itself, or minus the score.",
        )
        return
    far, as_is = seen.losses_far_out, seen.losses_far_out.get(1.0, math.nan)
    if far and all(far[one] < as_is - FAR_BELOW * max(1.0, abs(as_is)) for one in FAR):
        more, less = (far[one] for one in FAR)
        yield Finding(
            WRONG_SIGN,
            "error",
            f"The loss of the first batch is {as_is:.4g}; with all outputs of the model multiplied "
            f"by {FAR[0]:g} it is {more:.4g}, and by {FAR[1]:g} {less:.4g}. It falls without end.",
            "A minus too many or too few: a log-likelihood or a score that should be as high as "
            "possible, or a negated error.",
            "Return what should become small: the loss itself, or minus the score.",
        )
        return
    moves = [one for one in seen.first_update if one.sign]
    if len(moves) > 1 and all(one.sign > 0 for one in moves) and _in_proportion(moves):
        one = moves[0]
        yield Finding(
            WRONG_SIGN,
            "error",
            f"The first update raises the loss of its own batch: moved by {one.size:.1%} of the "
            f"weights' norm, it is {one.ahead:.6g}; moved the other way, {one.behind:.6g}.",
            "The optimizer goes up (maximize=True), or an autograd function of your own has a "
            "backward() that does not fit its forward().",
            "Leave maximize out, as lrtune minimizes the loss; test functions of your own with "
            "torch.autograd.gradcheck.",
        )


def _in_proportion(moves: Sequence[Moved]) -> bool:
    """Whether the smallest two moves raise the loss as far as their sizes say.

    A chaotic model, or one of steps, raises it now and then, but not in proportion.
    """
    one, other = sorted(moves, key=lambda move: move.size)[:2]
    slopes = [(move.ahead - move.behind) / move.size for move in (one, other)]
    return max(slopes) < ALIKE * min(slopes)
