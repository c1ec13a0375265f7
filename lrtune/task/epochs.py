"""`Data`: batches epoch by epoch, in an order that a seed determines."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lrtune.errors import TaskError
from lrtune.task.batches import Batch, DigestedBatch, digest, to_device

LOOK = 2**16
"""So many rows are looked at together."""


@dataclass(frozen=True)
class FoundBatch:
    """A batch, and where it is.

    Attributes:
        batch: The batch.
        where: Its place in words, such as `batch 3 of epoch 0 (seed 0)`.
        rows: The numbers of its rows in the data set; None where nobody knows them.
    """

    batch: Batch
    where: str
    rows: Sequence[object] | None = None


ReadEpoch = Callable[[int], Iterator[Batch]]
"""Yields the batches of an epoch."""

RowsOf = Callable[[int, int], Sequence[object] | None]
"""Returns the numbers of the rows of a batch that was read, given the epoch and its place there."""


def odd_rows(tensors: Sequence[Tensor]) -> Tensor:
    """Return for each row whether one of the tensors holds NaN or infinite numbers there."""
    odd = []
    for tensor in tensors:
        if tensor.is_floating_point() and tensor.layout is torch.strided:
            pieces = torch.split(tensor, LOOK)  # the whole may leave no memory for as much again
            rows = [(~torch.isfinite(some)).reshape(len(some), -1).any(1) for some in pieces]
            odd.append(torch.cat(rows))
    odd = odd or [torch.zeros(len(tensors[0]), dtype=torch.bool)]
    return torch.stack([one.cpu() for one in odd]).any(0)


class Data(ABC):
    """Batches in an order that depends on nothing but a seed and the number of the epoch."""

    @abstractmethod
    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""

    @property
    @abstractmethod
    def epoch_steps(self) -> int | None:
        """How many batches come before any example comes again; None where that is not known."""

    @property
    def batches_in_epoch(self) -> int | None:
        """How many batches an epoch has, as far as its owner says; None where nobody knows."""
        return self.epoch_steps

    def smallest_batch(self) -> Batch | None:
        """Return a batch with fewer rows than the others; None where nobody knows of one."""
        return None

    def odd_step(self) -> int | None:
        """Return the first step of seed 0 whose batch holds NaN or infinite numbers.

        None where there is none in the first epoch, or where nobody knows without reading all.
        """
        return None

    def batches(self, seed: int) -> Iterator[Batch]:
        """Yield the batches of one epoch after the other, without end."""
        return endless(lambda epoch: self.epoch(seed, epoch))

    def found(self, seed: int, epochs: Iterable[int]) -> Iterator[FoundBatch]:
        """Yield the batches of these epochs of one stream, each with its place."""
        read, rows_of = self._tracked(seed)
        for epoch in epochs:
            for place, batch in enumerate(read(epoch)):
                where = f"batch {place} of epoch {epoch} (seed {seed})"
                yield FoundBatch(batch, where, rows_of(epoch, place))

    def find(self, seed: int, step: int) -> FoundBatch:
        """Return the batch of a step, and where it is; all batches before it are read."""
        return next(itertools.islice(self.found(seed, itertools.count()), step, None))

    def _tracked(self, seed: int) -> tuple[ReadEpoch, RowsOf]:
        """Return functions that read the epochs of a stream, and tell which rows were read."""
        return (lambda epoch: self.epoch(seed, epoch)), (lambda _epoch, _place: None)

    def device_batches(self, seed: int, device: torch.device) -> Iterator[DigestedBatch]:
        """Yield the same batches on the device, with their digests."""
        for batch in self.batches(seed):
            known = digest(batch)
            yield to_device(batch, device), known


def endless(epochs: Callable[[int], Iterator[Any]]) -> Iterator[Any]:
    """Yield the batches of one epoch after the other; raise a TaskError where one has none."""
    for epoch in itertools.count():
        empty = True
        for batch in epochs(epoch):
            empty = False
            yield batch
        if empty:
            raise TaskError(
                f"the training data gave no batch in epoch {epoch}. A loader with drop_last=True "
                "and fewer examples than one batch does that; so does an empty data set."
            )
