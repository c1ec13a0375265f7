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

UNEVEN = 4  # by convention: a half that has less than a fourth of the samples


def check_draws(seen: Observed) -> Iterator[Finding]:
    """An objective that draws random numbers in eval mode, and does not only count."""
    if seen.task.draws_in_eval and seen.task.drift is None:
        supervised = seen.uses_targets  # others, such as a VAE, draw by their nature
        yield Finding(
            RANDOM,
            "warning" if supervised else "note",
            "The loss of the first validation batch differs between 2 evaluations in eval mode.",
            "The loss draws random numbers, such as mixup or augmentation, whatever mode the model "
            "is in."
            if supervised
            else "The loss draws random numbers, as those of a VAE, a diffusion model or of "
            "contrasts do. lrtune draws the same ones for every run.",
            "Draw only in train mode: if model.training: ..."
            if supervised
            else "Nothing is wrong where the numbers belong to the loss. Augment in train mode "
            "only.",
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
    counts = seen.task.val_counts
    count, least = sum(counts.values()), min(counts.values(), default=0)
    if not counts or (count >= LEAST and (least >= LEAST or UNEVEN * least >= count)):
        return
    if count < LEAST:
        evidence = (
            f"There are {quantity(count, 'validation sample')}, of which one half "
            "selects and the other gives the stated loss."
        )
        cause = ""
    else:
        parts = " and ".join(f"{count:,} for {part}" for part, count in counts.items())
        evidence = f"Of the validation samples there are {parts}, which gives the stated loss."
        cause = "Validation data that cannot be read by rows are divided by batches."
    yield Finding(
        FEW,
        "warning",
        evidence,
        cause,
        f"Give more, {LEAST} at least, in batches of one size, or a share of the training data: "
        "val=0.1.",
    )
