"""The data in any form a user may bring: a seed determines the stream of batches."""

import copy
import functools
import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lrtune.errors import TaskError, shown
from lrtune.task.batches import Batch, DigestedBatch, count_examples, to_device
from lrtune.task.copies import EPOCHS_APART, OwnCopy, copy_iterable
from lrtune.task.epochs import Data, ReadEpoch, RowsOf, endless, odd_rows
from lrtune.task.loaders import copy_loader, goes_by_index, record_rows, short_last_batch
from lrtune.task.memory import fits_beside_training
from lrtune.task.random_state import ORDER, derive_seed, seed_everything


def as_data(source: object, batch_size: int | None, *, what: str) -> Data:
    """Return a DataLoader, a Dataset, a tuple of tensors or an iterable of batches as `Data`.

    `what` is `train` or `val`, for messages.
    """
    if isinstance(source, str | Path):
        raise TaskError(
            f"{what}={shown(source)} is text; expected the data themselves"
            f"{', or a share such as 0.1' * (what == 'val')}. Read them, and pass a DataLoader, a "
            "Dataset or a tuple of tensors (inputs, targets)."
        )
    if isinstance(source, DataLoader) or not isinstance(source, (tuple, Dataset)):
        if batch_size is not None:
            raise TaskError(
                f"batch_size={batch_size} goes with a Dataset or tensors, but {what} is a "
                f"{type(source).__name__} that makes its own batches. Leave batch_size out."
            )
        return IterableData(source, what)
    size = 64 if batch_size is None else batch_size
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise TaskError(f"batch_size must be a whole number >= 1, got {size!r}.")
    if isinstance(source, IterableDataset):
        return IterableData(DataLoader(source, size), what)
    if isinstance(source, tuple):
        return TensorData(source, size, what)
    count = len(cast("Any", source))
    if not count:
        raise TaskError(f"{what} is an empty {type(source).__name__}. Check the path or split.")
    loader = DataLoader(source, size, shuffle=True, drop_last=count >= size)
    return IterableData(loader, what, own_loader=False)


class TensorData(Data):
    """Tensors with one row per example, cut into shuffled batches of `size`.

    `rows` holds the numbers of the rows that are drawn: all of them, but for `part`.
    """

    def __init__(self, tensors: tuple[Any, ...], size: int, what: str) -> None:
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
        self.rows, self.size = torch.arange(rows.pop()), size
        self._on_device: dict[torch.device, tuple[Tensor, ...]] = {}

    def part(self, rows: Tensor) -> "TensorData":
        """Return the same tensors, of which only these rows are drawn."""
        made = copy.copy(self)
        made.rows = rows
        return made

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        for rows in torch.split(self._order(seed, epoch), self.size):
            yield tuple(tensor[rows] for tensor in self.tensors)

    def device_batches(self, seed: int, device: torch.device) -> Iterator[DigestedBatch]:
        """Yield the same batches on the device; the digest is that of the row numbers."""
        return endless(lambda epoch: self._device_epoch(seed, epoch, device))

    def _device_epoch(self, seed: int, epoch: int, device: torch.device) -> Iterator[DigestedBatch]:
        order, tensors = self._order(seed, epoch), self._tensors_on(device)
        digests = [zlib.crc32(rows.numpy().data) for rows in torch.split(order, self.size)]
        if tensors is not self.tensors:  # unmoved tensors may lie anywhere: a CPU index fits all
            order = order.to(device)
        for rows, known in zip(torch.split(order, self.size), digests, strict=True):
            yield to_device(tuple(tensor[rows] for tensor in tensors), device), known

    @property
    def epoch_steps(self) -> int | None:
        """How many batches come before any example comes again."""
        return max(1, len(self.rows) // self.size)

    def odd_step(self) -> int | None:
        """Return the first step of seed 0 whose batch holds NaN or infinite numbers."""
        odd = odd_rows(self.tensors)[self._order(0, 0)].nonzero().flatten().tolist()
        return odd[0] // self.size if odd else None

    def _tracked(self, seed: int) -> tuple[ReadEpoch, RowsOf]:
        @functools.lru_cache(maxsize=1)
        def batches_of(epoch: int) -> Sequence[Tensor]:
            return torch.split(self._order(seed, epoch), self.size)

        def rows_of(epoch: int, place: int) -> Sequence[object]:
            rows: list[int] = batches_of(epoch)[place].tolist()
            return rows

        return super()._tracked(seed)[0], rows_of

    def _order(self, seed: int, epoch: int) -> Tensor:
        """Return the row numbers of one epoch, one batch after the other."""
        # A generator of its own, so that the order does not depend on what else draws numbers.
        generator = torch.Generator().manual_seed(derive_seed(seed, ORDER, epoch))
        count = len(self.rows)
        order = self.rows[torch.randperm(count, generator=generator)]
        return order[: count - count % self.size or count]

    def _tensors_on(self, device: torch.device) -> tuple[Tensor, ...]:
        """Return the tensors on the device, moved once; unmoved where they would not fit."""
        if device not in self._on_device:
            if not fits_beside_training(self.tensors, device):
                return self.tensors
            self._on_device[device] = to_device(self.tensors, device)
        return self._on_device[device]


class IterableData(Data):
    """A DataLoader or another iterable of batches, copied; each epoch draws from seeded generators.

    A stream of batches reads a copy of its own, from its first epoch on. So a state that the loader
    has, such as a counter of epochs, moves on within the stream, and nowhere else.

    Attributes:
        source: A copy of the user's, which is copied again for each stream.
        what: `train` or `val`, for messages.
        own_loader: False where the loader was made here, of a Dataset.
        copies_dataset: Whether streams also copy the data set, which has a state of its own.
    """

    def __init__(
        self, source: object, what: str, *, own_loader: bool = True, copies_dataset: bool = False
    ) -> None:
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
        self.source, self.what = source, what
        self.own_loader, self.copies_dataset = own_loader, copies_dataset
        self.source = self._copied().source  # whoever uses theirs later does not change ours

    @property
    def epoch_steps(self) -> int | None:
        """How many batches come before any example comes again; None where that is not known."""
        return len(cast("Any", self.source)) if goes_by_index(self.source) else None

    @property
    def batches_in_epoch(self) -> int | None:
        """How many batches the loader says that it has; None where it does not."""
        try:
            return len(cast("Any", self.source))
        except TypeError:  # a stream has no length
            return None

    def smallest_batch(self) -> Batch | None:
        """Return a short last batch of a loader, or the smallest batch of a list.

        No other batch is read. Call it inside `preserve_random_state()`.
        """
        if isinstance(self.source, list):
            return min(self.source, key=count_examples, default=None)
        if not isinstance(self.source, DataLoader):
            return None
        own, first = self._copied(), derive_seed(0, ORDER, 0)
        own.begin_epoch(first, 0)
        seed_everything(first)
        last = short_last_batch(cast("DataLoader[Any]", own.source))
        return None if last is None else next(read_epoch(OwnCopy(last, own.parts), 0, 0), None)

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch, read as the first one."""
        return read_epoch(self._copied(), seed, epoch)

    def batches(self, seed: int) -> Iterator[Batch]:
        """Yield the batches of one epoch after the other, without end."""
        own = self._copied()
        return endless(lambda epoch: read_epoch(own, seed, epoch))

    def _tracked(self, seed: int) -> tuple[ReadEpoch, RowsOf]:
        own = self._copied()
        drawn = record_rows(own.source)
        return (lambda epoch: read_epoch(own, seed, epoch)), (lambda _epoch, place: drawn(place))

    def _copied(self) -> OwnCopy:
        if isinstance(self.source, DataLoader):
            return copy_loader(self.source, self.what, with_dataset=self.copies_dataset)
        return copy_iterable(self.source, self.what)


def read_epoch(own: OwnCopy, seed: int, epoch: int) -> Iterator[Batch]:
    """Yield the batches of one epoch of a stream."""
    first = derive_seed(seed, ORDER, epoch)
    own.begin_epoch(first, epoch + EPOCHS_APART * seed)
    seed_everything(first)
    batches = iter(own.source)
    for position in itertools.count(1):
        # What runs between two batches, such as Dropout, must not change the next one.
        seed_everything(derive_seed(seed, ORDER, epoch, position))
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield batch
