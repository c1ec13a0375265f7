"""Data: whatever yields batches, as endless streams that a seed decides."""

import copy
import itertools
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lrtune.errors import TaskError
from lrtune.task.batch import Batch, digest, tensor_to_device, to_device
from lrtune.task.random_state import ORDER, derive_seed, reseed_generator, seed_everything

DEFAULT_BATCH_SIZE = 64
DigestedBatch = tuple[Batch, int]
"""A batch on the device where it is needed, and its digest."""


class Data(Protocol):
    """Batches, in an order that a seed decides."""

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """One pass over the data, as they are."""

    def device_epoch(self, seed: int, epoch: int, device: torch.device) -> Iterator[DigestedBatch]:
        """The same pass, on the device."""


def as_data(source: object, batch_size: int | None, *, what: str, whole: bool = False) -> Data:
    """Take a DataLoader, a Dataset, a tuple of tensors, or any re-iterable of batches.

    Args:
        source: The data.
        batch_size: For a Dataset or tensors only; 64 when None.
        what: `train` or `val`, for the message.
        whole: Cut a Dataset or tensors into batches in their order, with a short last one.

    Raises:
        TaskError: It is empty, can be iterated only once, or is none of these.
    """
    if isinstance(source, DataLoader) or not isinstance(source, (tuple, Dataset)):
        if batch_size is not None:
            raise TaskError(
                f"batch_size={batch_size} goes with a Dataset or tensors, but {what} is a "
                f"{type(source).__name__} that makes its own batches. Leave batch_size out."
            )
        return LoaderData(source) if isinstance(source, DataLoader) else IterableData(source, what)
    size = DEFAULT_BATCH_SIZE if batch_size is None else batch_size
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise TaskError(f"batch_size must be a whole number >= 1, got {size!r}.")
    if isinstance(source, IterableDataset):
        return LoaderData(DataLoader(source, batch_size=size))
    if isinstance(source, Dataset):
        count = len(cast("Any", source))
        if not count:
            raise TaskError(f"{what} is an empty {type(source).__name__}. Check the path or split.")
        return LoaderData(
            DataLoader(source, size, shuffle=not whole, drop_last=not whole and count >= size)
        )
    return TensorData(source, size, what, whole=whole)


class TensorData:
    """Tensors with one row per example, cut into shuffled batches; a short last one is dropped.

    With `whole` they are neither shuffled nor is anything dropped.
    """

    def __init__(
        self, tensors: tuple[Any, ...], size: int, what: str, *, whole: bool = False
    ) -> None:
        """Check that all have the same number of rows."""
        try:
            self.tensors = tuple(torch.as_tensor(tensor) for tensor in tensors)
        except Exception as error:
            raise TaskError(
                f"{what} is a tuple of {', '.join(type(one).__name__ for one in tensors)}; "
                "expected tensors or arrays of numbers, (inputs, targets); "
                f"{type(error).__name__}: {error}. Batches go into a list."
            ) from error
        rows = {len(tensor) if tensor.ndim else 0 for tensor in self.tensors}
        if len(rows) != 1 or rows == {0}:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in self.tensors)
            raise TaskError(
                f"{what} is a tuple of tensors of shapes {shapes or '()'}; expected the same "
                "number (>= 1) of rows in each: (inputs, targets)."
            )
        self.rows, self.size, self.whole = rows.pop(), size, whole
        self._resident: dict[torch.device, tuple[Tensor, ...]] = {}

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Shuffled by the seed and the epoch, or whole and in order."""
        for rows in self._cut(self._order(seed, epoch)):
            yield tuple(tensor[rows] for tensor in self.tensors)

    def device_epoch(self, seed: int, epoch: int, device: torch.device) -> Iterator[DigestedBatch]:
        """The same; the tensors move to the device once, where a quarter of it holds them.

        A digest is of the numbers of the rows.
        """
        order = self._order(seed, epoch)
        digests = [zlib.crc32(rows.numpy().data) for rows in self._cut(order)]
        tensors = self._on(device)
        if tensors is None:
            yield from zip(_placed_all(self.epoch(seed, epoch), device), digests, strict=True)
            return
        for rows, known in zip(self._cut(order.to(device)), digests, strict=True):
            yield tuple([tensor[rows] for tensor in tensors]), known

    def _order(self, seed: int, epoch: int) -> Tensor:
        """The numbers of the rows of one pass, one batch after the other."""
        if self.whole:
            return torch.arange(self.rows)
        generator = torch.Generator().manual_seed(derive_seed(seed, ORDER, epoch))
        order = torch.randperm(self.rows, generator=generator)
        return order[: self.rows - self.rows % self.size or self.rows]

    def _cut(self, order: Tensor) -> list[Tensor]:
        return [order[start : start + self.size] for start in range(0, len(order), self.size)]

    def _on(self, device: torch.device) -> tuple[Tensor, ...] | None:
        """The tensors on the device; None where they would take too much of it."""
        if device not in self._resident:
            if sum(tensor.nbytes for tensor in self.tensors) > _room(device):
                return None
            self._resident[device] = tuple(
                tensor_to_device(tensor, device) for tensor in self.tensors
            )
        return self._resident[device]


def _room(device: torch.device) -> float:
    """Bytes of a device that data may take for good: a quarter of what is free."""
    return torch.cuda.mem_get_info(device)[0] / 4 if device.type == "cuda" else math.inf


def _placed_all(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    return (to_device(batch, device) for batch in batches)


def _digested(batches: Iterator[Batch], device: torch.device) -> Iterator[DigestedBatch]:
    for batch in batches:
        known = digest(batch)
        yield to_device(batch, device), known


class LoaderData:
    """A user's DataLoader; each pass goes over a copy with its own sampler and generators."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        """Keep the loader; it is never iterated itself."""
        self.loader = loader

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """In the order that the seed gives to the loader's generators, or to the global ones."""
        return _reseeded(self._copy(derive_seed(seed, ORDER, epoch)), seed, epoch)

    def device_epoch(self, seed: int, epoch: int, device: torch.device) -> Iterator[DigestedBatch]:
        """The same, on the device."""
        return _digested(self.epoch(seed, epoch), device)

    def _copy(self, seed: int) -> DataLoader[Any]:
        # The data set may be huge and is shared. What draws the order is not: a sampler with
        # state, and the loader's generator, would move on under the user's hands.
        loader = self.loader
        generator = None if loader.generator is None else torch.Generator(loader.generator.device)
        memo = {id(loader.dataset): loader.dataset, id(loader.generator): generator}
        try:
            samplers = copy.deepcopy((loader.sampler, loader.batch_sampler), memo)
        except Exception as error:
            raise TaskError(
                f"the sampler of the {type(loader).__name__} cannot be copied "
                f"({type(error).__name__}: {error}), and iterating yours would change its state. "
                "Pass the data set itself, or a sampler that copy.deepcopy can copy."
            ) from error
        for copied in list(memo.values()):  # among them every generator, however deep inside
            reseed_generator(copied, seed)
        sampler, batch_sampler = samplers
        twin = copy.copy(loader)
        # DataLoader forbids setting these after its construction; on a copy it does no harm.
        vars(twin).update(
            sampler=sampler, batch_sampler=batch_sampler, generator=generator, _iterator=None
        )
        return twin


class IterableData:
    """Any re-iterable of batches; what shuffles from the global generators obeys the seed."""

    def __init__(self, source: object, what: str) -> None:
        """Refuse what can be gone through only once."""
        if not isinstance(source, Iterable) or (isinstance(source, Tensor) and not source.ndim):
            raise TaskError(
                f"{what} is a {type(source).__name__}; expected a DataLoader, a Dataset, a tuple "
                "of tensors (inputs, targets), or something to iterate that yields batches."
            )
        if isinstance(source, Iterator):
            raise TaskError(
                f"{what} is a {type(source).__name__}, which can be gone through only once; "
                "every run needs the same batches from the start. Pass list(...) of it, or an "
                "object whose __iter__ starts afresh."
            )
        self.source = source

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """One pass."""
        return _reseeded(self.source, seed, epoch)

    def device_epoch(self, seed: int, epoch: int, device: torch.device) -> Iterator[DigestedBatch]:
        """The same, on the device."""
        return _digested(self.epoch(seed, epoch), device)


def _reseeded(source: Iterable[Batch], seed: int, epoch: int) -> Iterator[Batch]:
    """Draw each batch under its own seed: what runs between two batches does not matter."""
    seed_everything(derive_seed(seed, ORDER, epoch))
    batches, position = iter(source), 0
    while True:
        position += 1
        seed_everything(derive_seed(seed, ORDER, epoch, position))
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield batch


def endless_batches(data: Data, seed: int) -> Iterator[Batch]:
    """The batches of one seed, endlessly: at the end of the data it begins the next epoch."""
    return _endless(lambda epoch: data.epoch(seed, epoch))


def endless_device_batches(data: Data, seed: int, device: torch.device) -> Iterator[DigestedBatch]:
    """The same, each on the device and with its digest."""
    return _endless(lambda epoch: data.device_epoch(seed, epoch, device))


def _endless(passes: Callable[[int], Iterator[Any]]) -> Iterator[Any]:
    for epoch in itertools.count():
        empty = True
        for batch in passes(epoch):
            empty = False
            yield batch
        if empty:
            raise TaskError(
                f"the training data gave no batch in epoch {epoch}. A loader with drop_last=True "
                "and fewer examples than one batch does that; so does an empty data set."
            )
