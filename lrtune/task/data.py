"""Data in every form a user may bring, as endless streams of batches that a seed determines."""

import copy
import itertools
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lrtune.errors import TaskError
from lrtune.task.batch import Batch, digest, leaf_to_device, to_device
from lrtune.task.memory import fits_beside_training
from lrtune.task.random_state import ORDER, derive_seed, reseed_generator, seed_everything

DEFAULT_BATCH_SIZE = 64
DigestedBatch = tuple[Batch, int]
"""A batch on the device of the task, and its digest."""


class Data(ABC):
    """Batches in an order that depends on nothing but a seed and the number of the epoch."""

    @abstractmethod
    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""

    def device_epoch(self, seed: int, epoch: int, device: torch.device) -> Iterator[DigestedBatch]:
        """Yield the batches of one epoch on the device, with their digests."""
        for batch in self.epoch(seed, epoch):
            known = digest(batch)
            yield to_device(batch, device), known

    def batches(self, seed: int) -> Iterator[Batch]:
        """Yield the batches of one epoch after the other, without end."""
        return _endless(partial(self.epoch, seed))

    def device_batches(self, seed: int, device: torch.device) -> Iterator[DigestedBatch]:
        """Yield the same batches on the device, with their digests."""
        return _endless(lambda epoch: self.device_epoch(seed, epoch, device))


def _endless(epochs: Callable[[int], Iterator[Any]]) -> Iterator[Any]:
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


def as_data(source: object, batch_size: int | None, *, what: str, whole: bool = False) -> Data:
    """Return a DataLoader, a Dataset, a tuple of tensors or an iterable of batches as `Data`.

    Args:
        source: The data.
        batch_size: For a Dataset or tensors only; 64 when None.
        what: `train` or `val`, for messages.
        whole: Keep the order of a Dataset or tensors, and a last batch that is shorter.

    Raises:
        TaskError: The data are empty, can be iterated only once, or have none of these forms.
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


class TensorData(Data):
    """Tensors with one row per example, cut into shuffled batches without a short last one.

    With `whole` the rows keep their order, and a short last batch stays.
    """

    def __init__(
        self, tensors: tuple[Any, ...], size: int, what: str, *, whole: bool = False
    ) -> None:
        """Check that all tensors have the same number of rows."""
        try:
            self.tensors = tuple(map(torch.as_tensor, tensors))
        except Exception as error:
            raise TaskError(
                f"{what} is a tuple of {', '.join(type(one).__name__ for one in tensors)}; "
                "expected tensors or arrays of numbers, (inputs, targets); "
                f"{type(error).__name__}: {error}. Put batches into a list, not a tuple."
            ) from error
        rows = {len(tensor) if tensor.ndim else 0 for tensor in self.tensors}
        if len(rows) != 1 or rows == {0}:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in self.tensors)
            raise TaskError(
                f"{what} is a tuple of tensors of shapes {shapes or '()'}; expected the same "
                "number (>= 1) of rows in each: (inputs, targets)."
            )
        self.rows, self.size, self.whole = rows.pop(), size, whole
        self._on_device: dict[torch.device, tuple[Tensor, ...]] = {}

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        for rows in self._cut(self._order(seed, epoch)):
            yield tuple(tensor[rows] for tensor in self.tensors)

    def device_epoch(self, seed: int, epoch: int, device: torch.device) -> Iterator[DigestedBatch]:
        """Yield the batches of one epoch on the device; the digest is that of the row numbers."""
        order = self._order(seed, epoch)
        digests = [zlib.crc32(rows.numpy().data) for rows in self._cut(order)]
        tensors = self._move_all(device)
        if tensors is None:
            batches = (to_device(batch, device) for batch in self.epoch(seed, epoch))
            yield from zip(batches, digests, strict=True)
            return
        for rows, known in zip(self._cut(order.to(device)), digests, strict=True):
            yield tuple([tensor[rows] for tensor in tensors]), known

    def _order(self, seed: int, epoch: int) -> Tensor:
        """Return the row numbers of one epoch, one batch after the other."""
        if self.whole:
            return torch.arange(self.rows)
        generator = torch.Generator().manual_seed(derive_seed(seed, ORDER, epoch))
        order = torch.randperm(self.rows, generator=generator)
        return order[: self.rows - self.rows % self.size or self.rows]

    def _cut(self, order: Tensor) -> list[Tensor]:
        return [order[start : start + self.size] for start in range(0, len(order), self.size)]

    def _move_all(self, device: torch.device) -> tuple[Tensor, ...] | None:
        """Move the tensors to the device once; None where they do not fit beside the training."""
        if device not in self._on_device:
            if not fits_beside_training(self.tensors, device):
                return None
            self._on_device[device] = tuple(leaf_to_device(one, device) for one in self.tensors)
        return self._on_device[device]


class LoaderData(Data):
    """A DataLoader of the user's; each epoch iterates over a copy with its own generators."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        """Keep the loader, which itself is never iterated."""
        self.loader = loader

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        return _seeded_epoch(self._copy(derive_seed(seed, ORDER, epoch)), seed, epoch)

    def _copy(self, seed: int) -> DataLoader[Any]:
        # The data set may be huge, so the copy shares it. It must not share the sampler and the
        # generator: both have a state, which would move on in the user's own loader.
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
        for copied in list(memo.values()):  # deepcopy lists here every generator it has copied
            reseed_generator(copied, seed)
        made = copy.copy(loader)
        # DataLoader.__setattr__ refuses to replace these after construction; this goes around it.
        vars(made).update(
            sampler=samplers[0], batch_sampler=samplers[1], generator=generator, _iterator=None
        )
        return made


class IterableData(Data):
    """An iterable of batches; if it draws from the global generators, the seed decides."""

    def __init__(self, source: object, what: str) -> None:
        """Refuse a source that can be iterated only once."""
        if not isinstance(source, Iterable) or (isinstance(source, Tensor) and not source.ndim):
            raise TaskError(
                f"{what} is a {type(source).__name__}; expected a DataLoader, a Dataset, a tuple "
                "of tensors (inputs, targets), or something to iterate that yields batches."
            )
        if isinstance(source, Iterator):
            raise TaskError(
                f"{what} is a {type(source).__name__}, which can be iterated only once; "
                "every run needs the same batches from the start. Pass list(...) of it, or an "
                "object whose __iter__ starts again."
            )
        self.source = source

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        return _seeded_epoch(self.source, seed, epoch)


def _seeded_epoch(source: Iterable[Batch], seed: int, epoch: int) -> Iterator[Batch]:
    """Seed before each batch, so that what runs between two batches does not change the next."""
    seed_everything(derive_seed(seed, ORDER, epoch))
    batches = iter(source)
    for position in itertools.count(1):
        seed_everything(derive_seed(seed, ORDER, epoch, position))
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield batch
