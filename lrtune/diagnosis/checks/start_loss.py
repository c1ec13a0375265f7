"""The loss before training, against that of outputs that say nothing."""

import math
from collections.abc import Iterator

from lrtune.diagnosis.observed import Observed
from lrtune.results import Finding

START = "start-loss"

FAR = {"cross-entropy": 2.2, "negative log likelihood": 2.2, "binary cross-entropy": 2.2}
"""By convention: a start so many times above that of equal probabilities is far. Healthy ones are
at 0.9 to 1.6 times; with outputs that are twenty and more times too large, at 2.4 to 23."""
FAR_OTHERWISE = 10.0
"""The same for other losses, of the best constant. A squared error begins with the square of the
targets' mean, too: healthy tasks start at 5 times at most, targets of 170 +- 10 at 290 times."""


def check_start(seen: Observed) -> Iterator[Finding]:
    """A start that is not finite in eval mode, or far above guessing."""
    task, start = seen.task, seen.start
    if task.has_validation and not math.isfinite(seen.start_in_eval) and math.isfinite(start):
        yield Finding(
            START,
            "error",
            f"The loss of the first batch before training is {start:.4g} in train mode and "
            f"{seen.start_in_eval} in eval mode.",
            "A layer that computes something else in eval mode, such as a normalisation without "
            "running statistics.",
            "Call model.eval() and look for the first layer whose output is not finite.",
        )
        return
    reference = _reference(seen)
    if not start >= FAR.get(task.loss_kind.name, FAR_OTHERWISE) * reference > 0:
        return
    yield Finding(
        START,
        "warning",
        f"The loss of the first batch before training is {start:.4g}, "
        f"{start / reference:.3g} times the {reference:.4g} of guessing.",
        "The untrained model is sure of wrong answers: its outputs are too large (inputs that are "
        "not scaled, a layer without its default initialisation, a factor in front of the "
        "outputs), or the targets are far from zero.",
        "Scale inputs and targets to about 1, and begin with small outputs: weights and bias of "
        "the last layer near 0, or its bias at the mean of the targets.",
    )


def _reference(seen: Observed) -> float:
    """The loss of guessing for a batch; NaN where nobody knows it."""
    guess, plain = seen.training_guess, seen.plain_loss
    if guess is None:
        return plain
    constant = guess.loss * seen.task.loss_kind.summed
    # Of unequal classes the best constant knows which are rare, and a new model does not.
    return max(plain, constant) if seen.task.loss_kind.name in FAR else constant
