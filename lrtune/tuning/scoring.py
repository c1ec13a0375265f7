"""How the runs of one task are scored, and whether anything was learned."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrtune.analysis.curves import Floats
from lrtune.analysis.scores import Scale
from lrtune.tuning.history import Measured

LEAST_LEARNED = 0.01  # a share of what guessing leaves; a model that gains less has learned nothing
ROUNDING = 1e-12  # a share of a loss that means of equal losses may differ by


@dataclass(frozen=True)
class Baseline:
    """What a model that has learned nothing would reach: a loss and its standard error.

    Attributes:
        loss: Of the best prediction that does not look at the input; else before training.
        stderr: The error of that loss, of the data it was measured on.
        known: Whether it is the former.
    """

    loss: float
    stderr: float
    known: bool


@dataclass
class Scoring:
    """Scores final losses of one task.

    Attributes:
        scale: Where the zero of the loss is.
        start: The loss before training.
        guess: For the selection half; None without validation data.
    """

    scale: Scale
    start: float = math.nan
    guess: Baseline | None = None

    def scores(self, runs: Sequence[Measured]) -> Floats:
        """The score of each run; infinite where it failed."""
        losses = np.array([one.loss() for one in runs], float)
        if not len(losses):
            return losses
        finite = losses[np.isfinite(losses)]
        best = float(finite.min()) if len(finite) else math.nan
        return self.scale.scores(losses, self.start, best)

    def room(self, runs: Sequence[Measured]) -> float:
        """How far the best of these scores lies below that of guessing; NaN if not known."""
        finite = [one.loss() for one in runs if not one.failed]
        if not finite or self.guess is None:
            return math.nan
        both = self.scale.scores([min(finite), self.guess.loss], self.start, min(finite))
        return float(both[1] - both[0])

    def learned(self, one: Measured) -> bool:
        """Whether a run is below what a model that has learned nothing reaches, and no accident.

        Without validation data that is the training loss at the start.
        """
        if one.failed or not len(one.losses):
            return False
        below = self.start if self.guess is None else self.guess.loss
        error = one.stderr()
        least = ROUNDING * (abs(below) + abs(one.loss()))
        if self.scale.floor is not None and self.guess is not None and self.guess.known:
            least = max(least, LEAST_LEARNED * (below - self.scale.floor))
        return one.loss() + 2 * (0.0 if math.isnan(error) else error) < below - least
