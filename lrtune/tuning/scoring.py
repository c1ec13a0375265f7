"""How the runs of one task are scored, and whether anything was learned."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrtune.analysis.curves import Floats, end_level_stderr
from lrtune.analysis.scores import Scale
from lrtune.analysis.short_runs import ROUNDING
from lrtune.errors import SearchError
from lrtune.tuning.history import Measured

ERRORS = 2.0  # standard errors by which a validation loss has to lie below that of guessing
ERRORS_OF_TRAINING = 2.5  # the same for a training loss, whose noise is less well known
BY_HEART = 0.5  # by convention: of the loss of guessing, which a training loss has to be below
ENDLESS = 1000.0  # by convention: times the loss at the start, or 1, below zero
ENDLESS_CAUSES = (
    "Look for targets that the loss does not take (binary cross-entropy needs 0 ... 1), a wrong "
    "sign, scores where it takes logs (NLLLoss needs log_softmax), or the log of a density."
)
LEAST_LEARNED = 0.01  # a share of what guessing leaves; a model that gains less has learned nothing


@dataclass(frozen=True)
class Baseline:
    """What a model that has learned nothing would reach: a loss and its standard error.

    Attributes:
        loss: Of the best prediction that does not look at the input; else before training.
        stderr: The error of that loss, where runs are measured on other data; else 0.
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
        guess: On the data that runs are scored on; `start` where it is None.
        drifts: Whether the loss changes by itself. Then only training losses without that change
            are held against those before training.
    """

    scale: Scale
    start: float = math.nan
    guess: Baseline | None = None
    drifts: bool = False

    def scores(self, runs: Sequence[Measured]) -> Floats:
        """The score of each run; infinite where it failed."""
        losses = np.array([one.loss() for one in runs], float)
        if not len(losses):
            return losses
        finite = losses[np.isfinite(losses)]
        best = float(finite.min()) if len(finite) else math.nan
        return self.scale.scores(losses, self.start_of(runs, best), best)

    def start_of(self, runs: Sequence[Measured], best: float) -> float:
        """The loss before training that the losses of runs are held against; the lowest is `best`.

        Where a loss changes by itself, it lies above the best one by the fall of the training loss.
        """
        finite = [one.train for one in runs if not one.failed]
        if not self.drifts or not finite:
            return self.start
        return best + self.start - min(finite)

    def room(self, runs: Sequence[Measured]) -> float:
        """How far the best of these scores lies below that of guessing; NaN if not known."""
        finite = [one.loss() for one in runs if not one.failed]
        if not finite or self.guess is None:
            return math.nan
        start = self.start_of(runs, min(finite))
        guess = start if self.drifts else self.guess.loss
        both = self.scale.scores([min(finite), guess], start, min(finite))
        return float(both[1] - both[0])

    def judged(self, one: Measured) -> float:
        """The loss that tells whether a run has learned anything."""
        return one.train if self.drifts else one.loss()

    def by_heart(self, one: Measured) -> bool:
        """Whether a run is far below guessing on training data, and not below it on others."""
        floor, guess = self.scale.floor, self.guess
        if one.failed or floor is None or guess is None or not guess.known or self.learned(one):
            return False
        return one.train - floor < BY_HEART * (guess.loss - floor)

    def learned(self, one: Measured) -> bool:
        """Whether a run is below what a model that has learned nothing reaches, and no accident."""
        if one.failed or not len(one.losses):
            return False
        guess = self.guess or Baseline(self.start, 0.0, known=False)
        loss, below = self.judged(one), guess.loss
        error, errors = one.stderr(), ERRORS
        # One of a single batch is of the same size.
        if self.drifts or not one.validations or math.isnan(error):
            error, errors = end_level_stderr(one.losses), ERRORS_OF_TRAINING
        least = ROUNDING * (abs(below) + abs(loss))
        if self.scale.floor is not None and guess.known:
            least = max(least, LEAST_LEARNED * (below - self.scale.floor))
        return loss + errors * math.hypot(error, guess.stderr) < below - least


def refuse_endless(scoring: Scoring, runs: Sequence[Measured]) -> None:
    """Raise a SearchError where the losses of runs show that there is no lowest one."""
    ended = [one for one in runs if one.finished and not one.failed]
    lowest = min(ended, key=lambda one: one.train, default=None)
    if lowest is not None and endless(scoring.scale.floor, scoring.start, lowest.train):
        raise falling_without_end(lowest)


def endless(floor: float | None, start: float, loss: float) -> bool:
    """Whether a training loss is lower than one that has a lowest value comes.

    A log density may well fall from 5 to -30; without end, it falls to a power of ten.

    >>> endless(None, 5.0, -30.0), endless(None, -1.1, -1e17), endless(0.0, 1.0, -1e17)
    (False, True, False)
    """
    return floor is None and loss / ENDLESS < -max(1.0, abs(start))


def falling_without_end(one: Measured, which: str = "") -> SearchError:
    """The error to raise where the loss of a run shows that there is no lowest one.

    Args:
        one: The run.
        which: What rate it has, to be said behind it.
    """
    return SearchError(
        f"the loss falls without end: at lr = {one.run.lr:.3g}{which} from {one.losses[0]:.6g} to "
        f"{one.losses[-1]:.6g} in {len(one.losses)} steps; expected one that has a lowest value. "
        f"{ENDLESS_CAUSES}"
    )
