"""How rows are divided: fixed, stratified by class, and the same in every process."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lrtune.task.random_state import SPLIT, derive_seed

GOLDEN = (5**0.5 - 1) / 2
"""Multiples of the golden ratio, modulo 1, lie evenly in [0, 1), however many there are."""


def class_labels(targets: Any, count: int) -> Tensor | None:
    """Return the class of each of `count` rows; None unless targets are one integer per row.

    >>> class_labels(torch.tensor([3, 1, 3]), 3), class_labels(torch.tensor([0.5, 0.1]), 2)
    (tensor([3, 1, 3]), None)
    """
    if not isinstance(targets, Tensor) or targets.shape != (count,):
        return None
    if targets.is_floating_point() or targets.is_complex():
        return None
    return targets.detach().cpu().long()


def fair_order(classes: Tensor) -> Tensor:
    """Return the rows in a fixed random order, of which every first part is a fair sample.

    Each class has about the same share in every first part as in the whole.

    Args:
        classes: The class of each row; equal numbers where there are no classes.

    >>> order = fair_order(torch.tensor([0] * 8 + [1] * 4))
    >>> (order[:6] < 8).sum().item()
    4
    """
    generator = _generator(0)
    order, counts = _grouped(classes, generator)
    # Row k of a class with n rows has its place at (k + offset) / n of the whole order.
    offsets = (torch.randperm(len(counts), generator=generator) + 0.5) / len(counts)
    places = (_ranks(counts) + offsets.double().repeat_interleave(counts)) / (
        counts.repeat_interleave(counts)
    )
    return order[places.argsort(stable=True)]


def split_in_halves(classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of two halves, each in a fair order (see `fair_order`).

    The halves differ by at most one row, and by at most one row of each class; the first is the
    larger one.

    >>> [sorted(half.tolist()) for half in split_in_halves(torch.tensor([7, 7, 3, 3, 3]))]
    [[0, 3, 4], [1, 2]]
    """
    generator = _generator(1)
    order, counts = _grouped(classes, generator)
    side = _ranks(counts) % 2
    # The last row of each class of odd size is left over; they go to both halves in turn.
    left = (counts.cumsum(0) - 1)[counts % 2 == 1]
    side[left[torch.randperm(len(left), generator=generator)]] = torch.arange(len(left)) % 2
    first, second = order[side == 0], order[side == 1]
    return first[fair_order(classes[first])], second[fair_order(classes[second])]


def _generator(purpose: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(0, SPLIT, purpose))


def _grouped(classes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the rows class by class, shuffled within each, and the number of rows per class."""
    shuffled = torch.randperm(len(classes), generator=generator)
    order = shuffled[classes[shuffled].argsort(stable=True)]
    _, counts = torch.unique(classes, return_counts=True)
    return order, counts


def _ranks(counts: Tensor) -> Tensor:
    """Return 0, 1, 2 ... for the rows of each class, one class after the other."""
    starts = counts.cumsum(0) - counts
    return torch.arange(int(counts.sum())) - starts.repeat_interleave(counts)


class StreamSplitter:
    """Divides rows into two halves as they stream by.

    Of each two consecutive rows of a class one goes to each half, and a fixed generator decides
    which. The very first row goes to the first half.
    """

    def __init__(self) -> None:
        self._next: dict[int, int] = {}  # classes with an odd number of rows: the half to come
        self._draw = _balanced_draws()

    def split(self, classes: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return the positions, among the next rows, of those of the two halves."""
        halves: tuple[list[int], list[int]] = [], []
        for position, each in enumerate(classes):
            half = self._next.pop(each, None)
            if half is None:
                half = next(self._draw)
                self._next[each] = 1 - half
            halves[half].append(position)
        return halves


def _balanced_draws() -> Iterator[int]:
    """Yield 0 and 1 at random, but one of each in every two; 0 comes first."""
    # Balanced, so that also many classes of one row each give halves of equal size.
    generator, first = random.Random(derive_seed(0, SPLIT, 2)), 0  # noqa: S311 - no secret
    while True:
        yield first
        yield 1 - first
        first = generator.getrandbits(1)


class StreamKeys:
    """Numbers in [0, 1) for rows that stream by.

    The rows with the n lowest numbers are a sample that is spread over the whole stream and over
    the classes, for any n and whatever the length of the stream.
    """

    def __init__(self) -> None:
        self._last: dict[int, float] = {}
        self._random = random.Random(derive_seed(0, SPLIT, 3))  # noqa: S311 - no secret

    def key(self, each: int) -> float:
        """Return the number of the next row, which is of this class."""
        last = self._last.get(each)
        self._last[each] = self._random.random() if last is None else (last + GOLDEN) % 1.0
        return self._last[each]
