"""How labels are spread over batches and classes."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lrtune.diagnosis.observations.samples import IGNORED, Samples
from lrtune.diagnosis.observed import Observed
from lrtune.results import Finding
from lrtune.results.diagnosis import Chart

SINGLE_CLASS = "single-class-batches"
IMBALANCE = "class-imbalance"

LEAST_BATCHES, LEAST_ROWS = 3, 4  # by convention: fewer show no order
POOR = 0.5
"""By convention: batches are poor in classes that have less than half as many as shuffled ones.
Shuffled data have about all (1.0); sorted ones of ten classes, in batches of 64, have 0.16."""
LEAST_CLASSES = 1.5  # by convention: where shuffled batches have fewer, chance makes single classes
FEW_CLASSES = 2.0
"""By convention: some losses (of triplets, of contrasts) want few classes in a batch, but more."""

MOST_CLASSES = 1000  # by convention: whole numbers of more values than that are no classes
EVEN = 0.25
"""By convention: below this evenness there is hardly more than one class. Two classes of 50 % each
have 1, of 90 % and 10 % 0.38, of 95 % and 5 % 0.22, of 99 % and 1 % 0.06."""
MOST, MOST_DENSE = 0.94, 0.98
"""By convention: a class with a larger share is nearly all; of pixels and words the background and
the padding may have more than of samples."""
LEAST_LABELS = 32  # by convention: fewer are the same by chance
LARGE = 0.9  # by convention: a class with this share of the samples is worth a note
RARE = 20.0  # by convention: a class that is seen so much less than another one is rare
MANY = 20  # by convention: of more classes (words, species) some are always rare


@dataclass(frozen=True)
class Labels:
    """The labels of each batch.

    Attributes:
        batches: Whole numbers, one or more for each sample.
        per_sample: Whether each sample has one.
        binary: Whether they are numbers 0 and 1 and not the numbers of classes.
    """

    batches: Sequence[Tensor]
    per_sample: bool
    binary: bool

    @property
    def count(self) -> int:
        """How many labels there are."""
        return sum(map(len, self.batches))

    @property
    def counts(self) -> Counter[int]:
        """How often each label is there."""
        counts = Counter[int]()
        for one in self.batches:
            values, number = torch.unique(one, return_counts=True)
            counts.update(dict(zip(values.tolist(), number.tolist(), strict=True)))
        return counts


def labels_of(samples: Samples) -> Labels | None:
    """The labels of training samples; None where their targets are something else."""
    targets = samples.targets
    if not targets:
        return None
    if any(one.is_complex() or not one.ndim for one in targets):
        return None
    whole = not any(one.is_floating_point() for one in targets)
    if not whole and not all(bool(((one == 0) | (one == 1)).all()) for one in targets):
        return None
    several = {one[0].numel() > 1 if len(one) else False for one in targets}
    dense = any(one.ndim > 2 for one in targets)
    if not whole and True in several and not dense:  # several yes-or-no questions, or one-hot
        return None
    flat = [one.reshape(-1).long() for one in targets]
    kept = [one[one != IGNORED] for one in flat]
    if not all(len(one) for one in kept):
        return None
    return Labels(kept, several == {False}, not whole)


def check_batches(seen: Observed) -> Iterator[Finding]:
    """Batches of a single class, while the data have several."""
    labels = labels_of(seen.training_samples)
    if labels is None or not labels.per_sample:
        return
    batches = [one for one in labels.batches if len(one) >= LEAST_ROWS]
    counts = _all_counts(seen, labels)
    if len(batches) < LEAST_BATCHES or not 1 < len(counts) <= MOST_CLASSES:
        return
    there = [len(torch.unique(one)) for one in batches]
    expected = [_expected_classes(counts, len(one)) for one in batches]
    mean, shuffled = (sum(one) / len(batches) for one in (there, expected))
    few = FEW_CLASSES if seen.task.known_loss is None else math.inf
    if shuffled < LEAST_CLASSES or mean >= POOR * shuffled + (1 - POOR) or mean > few:
        return
    single = sum(one == 1 for one in there)
    yield Finding(
        SINGLE_CLASS,
        "warning",
        f"A batch holds {mean:.1f} of {len(counts)} classes on average, where shuffled ones would "
        f"hold {shuffled:.1f}; {single} of {len(batches)} batches hold a single class.",
        "The data are sorted by class, and the loader does not shuffle; or a sampler draws class "
        "by class.",
        "Shuffle: DataLoader(..., shuffle=True). Otherwise each update unlearns what the last "
        "ones learned, and BatchNorm sees one class at a time.",
        Chart(
            "batch",
            "classes in it",
            {
                "classes": tuple(enumerate(map(float, there))),
                "shuffled": tuple(enumerate(expected)),
            },
        ),
    )


def check_imbalance(seen: Observed) -> Iterator[Finding]:
    """A class that nearly all labels belong to."""
    labels = labels_of(seen.training_samples)
    if labels is None or _is_weighted(seen):
        return
    counts = labels.counts
    if len(counts) == 1 and labels.count >= LEAST_LABELS:
        yield _single_label(counts)
    if not 1 < len(counts) <= MOST_CLASSES:
        return
    (top, most), (rare, least) = counts.most_common()[0], counts.most_common()[-1]
    total, few = sum(counts.values()), labels.per_sample and len(counts) <= MANY
    poor = most / total >= (MOST if labels.per_sample else MOST_DENSE)
    poor |= few and evenness(list(counts.values())) < EVEN
    unequal = few and (most >= RARE * least or most / total >= LARGE)
    if not poor and not unequal:
        return
    yield Finding(
        IMBALANCE,
        "warning" if poor else "note",
        f"Of {total:,} labels {most / total:.1%} are {top}; the rarest, {rare}, makes "
        f"{least / total:.2%} ({least}).",
        "The classes are as unequal in the data. A model that always says the largest one has an "
        f"accuracy of {most / total:.1%}, so the loss falls at first without anything learned.",
        "Compare with that accuracy, or use one that is balanced. To train more on rare classes: "
        "weights in the loss (weight=, pos_weight=) or a WeightedRandomSampler.",
    )


def _single_label(counts: Counter[int]) -> Finding:
    (label, count) = counts.most_common()[0]
    return Finding(
        IMBALANCE,
        "error",
        f"All {count:,} labels that were read are {label}.",
        "Another class is missing, or the labels are lost on the way (a wrong column, a mask of "
        "another size, a transform that sets them to 0).",
        "Look at ten samples with their labels. A model has nothing to tell apart.",
    )


def evenness(counts: Sequence[int]) -> float:
    """How even counts are: 1 where all are the same, 0 where one is everything.

    It is (exp(entropy) - 1) / (classes - 1).

    >>> round(evenness([50, 50]), 2), round(evenness([95, 5]), 2), round(evenness([99, 1]), 2)
    (1.0, 0.22, 0.06)
    """
    total = sum(counts)
    entropy = -sum(one / total * math.log(one / total) for one in counts)
    return (math.exp(entropy) - 1) / (len(counts) - 1)


def _all_counts(seen: Observed, labels: Labels) -> Counter[int]:
    """How often each label is there; where sorted data were not read to their end, in val."""
    held_out = None if seen.training_samples.complete else labels_of(seen.validation_samples)
    return labels.counts if held_out is None else held_out.counts


def _expected_classes(counts: Counter[int], rows: int) -> float:
    """How many classes a batch of so many rows holds that are drawn at random."""
    total = sum(counts.values())
    return sum(1 - (1 - one / total) ** rows for one in counts.values())


def _is_weighted(seen: Observed) -> bool:
    """Whether the loss weighs its classes already."""
    known = seen.task.known_loss
    options = {} if known is None else known.options
    return any(isinstance(options.get(name), torch.Tensor) for name in ("weight", "pos_weight"))
