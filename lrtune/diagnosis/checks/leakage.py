"""Validation samples that are trained on."""

import math
from collections.abc import Iterator

from lrtune.diagnosis.observed import Observed
from lrtune.results import Finding

LEAKAGE = "leakage"

LEAST = 3  # by convention: fewer shared inputs are chance
SHARE = 0.01
"""By convention: a smaller share changes no validation loss that anybody would notice. Of the
digits, 0 of 359 validation images are training images; where somebody forgot to split, all are."""
REPEATED = 0.05
"""By convention: the share of validation inputs, rich in numbers, that are training inputs, too,
where training inputs repeat as much: nature repeats no such input."""
MOST = 0.5  # by convention: from here on the validation loss is a training loss
SURE = 3.0  # by convention: standard errors


def check_leakage(seen: Observed) -> Iterator[Finding]:
    """Identical inputs in training and validation data, more than training data repeat."""
    found = seen.doubles
    if found.shared < LEAST or not found.training:
        return
    usual, share = found.repeated / found.training, found.shared / found.validation
    chance = SURE * math.sqrt(usual * (1 - usual) * (1 / found.validation + 1 / found.training))
    repeats = share < max(SHARE, 2 * usual, usual + chance)
    if repeats and found.rich < REPEATED * found.validation:
        return
    validated, trained = found.example
    yield Finding(
        LEAKAGE,
        "error" if share >= MOST else "warning",
        f"{found.shared:,} of {found.validation:,} different validation inputs ({share:.1%}) are "
        f"training inputs, too, such as {validated} and {trained}. Among themselves {usual:.1%} "
        f"of {found.training:,} different training inputs repeat.",
        "Samples were repeated before the split: oversampled, drawn with replacement, or read "
        "twice."
        if repeats
        else "Both parts were taken from the same samples, and nobody removed those of one from "
        "the other.",
        "Split first, by different samples; repeat those of the training part after that. Until "
        "then the validation loss is too low by what the model remembers."
        if repeats
        else "Split once, by rows: val=0.1, or torch.utils.data.random_split. Until then the "
        "validation loss is too low by what the model remembers.",
    )
