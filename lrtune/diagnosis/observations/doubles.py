"""Samples that are there more than once: among the training data, and in the validation data."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from lrtune.diagnosis.observations.samples import Samples, counting_rows, inputs_of
from lrtune.task.epochs import FoundBatch

RICH = 16  # by convention: an input of so many different numbers is the same by no chance


@dataclass(frozen=True)
class Doubles:
    """How many different inputs there are, and how many of them come again.

    Inputs are the same where they are equal in every number. Each counts once, however often it is
    there: many patches of a night sky are the same black.

    Attributes:
        training: Different inputs among the training samples that were read.
        repeated: Those of them that several training samples have.
        validation: Different inputs among the validation samples that were read.
        shared: Those of them that a training sample has, too.
        rich: Those of the shared ones that hold so many different numbers that chance makes no two
            samples the same.
        example: The places of such a validation sample and training sample; empty without any.
    """

    training: int
    repeated: int
    validation: int
    shared: int
    rich: int
    example: tuple[str, ...]


def doubles(training: Samples, validation: Samples) -> Doubles:
    """Compare the inputs of samples.

    A training sample that was drawn twice counts once, as samplers with replacement draw. Zeros at
    the end of a row make no difference, as batches are padded to lengths of their own.
    """
    counts, places, drawn = Counter[bytes](), dict[bytes, str](), set[object]()
    for one in training.found:
        for row, known in _keys(one):
            number = None if one.rows is None else one.rows[row]
            if number is None or number not in drawn:
                drawn.add(number)
                counts[known] += 1
                places.setdefault(known, _place(one, row))
    asked, rich = dict[bytes, str](), 0
    for one in validation.found:
        for row, known in _keys(one):
            if known not in asked:
                asked[known] = _place(one, row)
                rich += known in counts and _is_rich(one, row)
    shared = [known for known in asked if known in counts]
    example = (asked[shared[0]], places[shared[0]]) if shared else ()
    repeated = sum(count > 1 for count in counts.values())
    return Doubles(len(counts), repeated, len(asked), len(shared), rich, example)


def _is_rich(found: FoundBatch, row: int) -> bool:
    inputs = inputs_of(found.batch).values()
    numbers = [one[row].reshape(-1) for one in inputs if one.is_floating_point()]
    return len({number for one in numbers for number in one.tolist()}) >= RICH


def _place(found: FoundBatch, row: int) -> str:
    number = None if found.rows is None else found.rows[row]
    return f"row {row} of {found.where}" if number is None else f"training sample {number}"


def _keys(found: FoundBatch) -> Iterator[tuple[int, bytes]]:
    """The number of each row that counts, and the bytes of all its inputs."""
    inputs = [
        one.contiguous().reshape(len(one), -1).view(torch.uint8).numpy()
        for one in inputs_of(found.batch).values()
        if one.numel()
    ]
    if not inputs:
        return
    for row in counting_rows(found.batch).nonzero().flatten().tolist():
        yield row, b"|".join(one[row].tobytes().rstrip(b"\0") for one in inputs)
