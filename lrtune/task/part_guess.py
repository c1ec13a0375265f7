"""The best constant prediction for a part of a task's data."""

import itertools
from collections.abc import Callable

from lrtune.errors import ArgumentError
from lrtune.results.schema import PARTS
from lrtune.task.batches import Batch
from lrtune.task.epochs import Data
from lrtune.task.guess import Guess, best_guess
from lrtune.task.losses import KnownLoss
from lrtune.task.validation import ValidationData

TRAIN = "train"  # the name of the training data, beside those of the validation data
TRAIN_BATCHES = 20  # by convention: of the training data, which are endless


def part_guess(
    known: KnownLoss | None,
    part: str,
    train: Data,
    val: ValidationData | None,
    weigh: Callable[[Batch], float],
) -> Guess | None:
    """Return the best guess for a part of a task's data; None without such data or loss.

    Args:
        known: The task's loss; None for one that is none of torch's.
        part: `selection` or `test`, the halves of the validation data, or `train`: the first 20
            training batches of seed 0.
        train: The training data.
        val: The validation data.
        weigh: The weight of a batch.

    Raises:
        ArgumentError: There is no such part.
    """
    if part not in (*PARTS, TRAIN):
        raise ArgumentError(f"part={part!r}; there are {', '.join((*PARTS, TRAIN))}.")
    if known is None:
        return None
    if part == TRAIN:
        return best_guess(known, itertools.islice(train.batches(0), TRAIN_BATCHES), weigh)
    if val is None:
        return None
    return best_guess(known, (batch for name, batch in val.batches() if name == part), weigh)
