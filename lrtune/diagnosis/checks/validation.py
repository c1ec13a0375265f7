"""Whether the validation loss means what its owner thinks."""

from collections.abc import Iterator

from lrtune.diagnosis.observed import Observed
from lrtune.errors import quantity
from lrtune.results import Finding

RANDOM = "random-validation"
TRAINS = "trains-in-validation"
FEW = "few-validation-samples"

LEAST = 20
"""By convention: with fewer validation samples, chance decides which training is the best."""


def check_draws(seen: Observed) -> Iterator[Finding]:
    """An objective that draws random numbers in eval mode, and does not only count."""
    if seen.task.draws_in_eval and seen.task.drift is None:
        yield Finding(
            RANDOM,
            "warning",
            "The loss of the first validation batch differs between 2 evaluations in eval mode.",
            "The loss draws random numbers, such as mixup or augmentation, whatever mode the model "
            "is in.",
            "Draw only in train mode: if model.training: ...",
        )


def check_modes(seen: Observed) -> Iterator[Finding]:
    """A loss that puts the model back into train mode while it is validated."""
    parts = seen.task.trained_in_eval
    if parts:
        named = ", ".join(parts[:3]) + ", ..." * (len(parts) > 3)
        yield Finding(
            TRAINS,
            "warning",
            f"The loss of a validation batch puts {quantity(len(parts), 'part')} of the model into "
            f"train mode ({named}), so validation losses are those of train mode, and statistics "
            "of BatchNorm move with validation data.",
            "The objective or the model's forward calls model.train().",
            "Leave it out: lrtune calls train() and eval().",
        )


def check_count(seen: Observed) -> Iterator[Finding]:
    """Validation data that are too few to choose by."""
    count = sum(seen.task.val_counts.values())
    if seen.task.has_validation and count < LEAST:
        yield Finding(
            FEW,
            "warning",
            f"There are {quantity(count, 'validation sample')}, of which one half selects and the "
            "other gives the stated loss.",
            "",
            f"Give more, {LEAST} at least, or a share of the training data: val=0.1.",
        )
