"""The loss before training, against that of outputs that say nothing."""

import math
from collections.abc import Iterator

from lrtune.diagnosis.observed import Observed
from lrtune.results import Finding

START = "start-loss"

FAR = {"cross-entropy": 2.2, "negative log likelihood": 2.2, "binary cross-entropy": 2.2}
"""By convention: a start so many times above guessing is far. Healthy classifiers start at 0.9 to
1.6 times; with outputs that are twenty and more times too large, at 2.4 to 23 times."""
FAR_OTHERWISE = 8.0
"""The same for other losses: a squared error grows with the square of the outputs, and targets may
be smaller than the outputs of a new layer. Healthy tasks start at 3.3 times at most."""


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
    guess, plain = seen.training_guess, seen.plain_loss
    known = [one for one in (plain, math.nan if guess is None else guess.loss) if one > 0]
    if not known or not math.isfinite(start):
        return
    reference = max(known)
    if start < FAR.get(task.loss_kind.name, FAR_OTHERWISE) * reference:
        return
    yield Finding(
        START,
        "warning",
        f"The loss of the first batch before training is {start:.4g}, "
        f"{start / reference:.3g} times the {reference:.4g} of outputs that say nothing.",
        "The untrained model is sure of wrong answers: its outputs are too large. Inputs that are "
        "not scaled, weights that start too large (a layer without its default initialisation), or "
        "a factor in front of the outputs.",
        "Scale the inputs to about 1, and begin with small outputs: weights and bias of the last "
        "layer near 0, or its bias at the mean of the targets.",
    )
