"""Data: whatever yields batches, as endless streams that a seed decides."""

import copy
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lrtune.errors import TaskError
from lrtune.randomness import ORDER, derive, reseed, seed_all

Batch = Any
"""What one step takes: usually a tuple of tensors, the target last; or a dict; or anything."""

DEFAULT_BATCH_SIZE = 64
SAMPLE = 256
"""A digest reads at most so many numbers of a tensor: it tells batches apart, it proves nothing."""

PLAIN = {torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool}
"""What numpy knows as it is; the rest, such as bfloat16, is read as bytes."""


class Data(Protocol):
    """Batches, in an order that a seed decides."""

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """One pass over the data."""


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
        return Loader(source) if isinstance(source, DataLoader) else Batches(source, what)
    size = DEFAULT_BATCH_SIZE if batch_size is None else batch_size
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise TaskError(f"batch_size must be a whole number >= 1, got {size!r}.")
    if isinstance(source, IterableDataset):
        return Loader(DataLoader(source, batch_size=size))
    if isinstance(source, Dataset):
        count = len(cast("Any", source))
        if not count:
            raise TaskError(f"{what} is an empty {type(source).__name__}. Check the path or split.")
        return Loader(
            DataLoader(source, size, shuffle=not whole, drop_last=not whole and count >= size)
        )
    return Tensors(source, size, what, whole=whole)


class Tensors:
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

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Shuffled by the seed and the epoch, or whole and in order."""
        generator = torch.Generator().manual_seed(derive(seed, ORDER, epoch))
        order = torch.randperm(self.rows, generator=generator)
        last = self.rows - self.rows % self.size or self.rows
        if self.whole:
            order, last = torch.arange(self.rows), self.rows
        for start in range(0, last, self.size):
            rows = order[start : start + self.size]
            yield tuple(tensor[rows] for tensor in self.tensors)


class Loader:
    """A user's DataLoader; each pass goes over a copy with its own sampler and generators."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        """Keep the loader; it is never iterated itself."""
        self.loader = loader

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """In the order that the seed gives to the loader's generators, or to the global ones."""
        return _reseeded(self._copy(derive(seed, ORDER, epoch)), seed, epoch)

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
            reseed(copied, seed)
        sampler, batch_sampler = samplers
        twin = copy.copy(loader)
        # DataLoader forbids setting these after its construction; on a copy it does no harm.
        vars(twin).update(
            sampler=sampler, batch_sampler=batch_sampler, generator=generator, _iterator=None
        )
        return twin


class Batches:
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


def _reseeded(source: Iterable[Batch], seed: int, epoch: int) -> Iterator[Batch]:
    """Draw each batch under its own seed: what runs between two batches does not matter."""
    seed_all(derive(seed, ORDER, epoch))
    batches, position = iter(source), 0
    while True:
        position += 1
        seed_all(derive(seed, ORDER, epoch, position))
        try:
            batch = next(batches)
        except StopIteration:
            return
        yield batch


def stream(data: Data, seed: int) -> Iterator[Batch]:
    """The batches of one seed, endlessly: at the end of the data it begins the next epoch."""
    epoch = 0
    while True:
        empty = True
        for batch in data.epoch(seed, epoch):
            empty = False
            yield batch
        if empty:
            raise TaskError(
                f"the training data gave no batch in epoch {epoch}. A loader with drop_last=True "
                "and fewer examples than one batch does that; so does an empty data set."
            )
        epoch += 1


def leaves(batch: Batch) -> Iterator[Any]:
    """The tensors and other values of a batch, in order."""
    if isinstance(batch, Mapping):
        for value in batch.values():
            yield from leaves(value)
    elif isinstance(batch, (tuple, list)):
        for value in batch:
            yield from leaves(value)
    else:
        yield batch


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device; what has no `to` stays as it is."""
    return _mapped(batch, lambda leaf: _placed(leaf, device))


def cloned(batch: Batch) -> Batch:
    """The batch with tensors of its own, for a model that works in place."""
    return _mapped(batch, lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf)


def _placed(leaf: Any, device: torch.device) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf.to(device) if hasattr(leaf, "to") else leaf
    # Made under inference_mode it could not be trained on.
    return (leaf.clone() if leaf.is_inference() else leaf).to(device, non_blocking=True)


def _mapped(batch: Batch, change: Callable[[Any], Any]) -> Batch:
    if type(batch) is dict:
        return {key: _mapped(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_mapped(value, change) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(_mapped(value, change) for value in batch)
    return change(batch)


def digest(batch: Batch) -> int:
    """A 32-bit fingerprint of a batch, from shapes and up to 256 numbers of each tensor.

    >>> digest((torch.zeros(2, 3), torch.tensor([1, 2])))
    1776219203
    """
    crc = 0
    for leaf in leaves(batch):
        if isinstance(leaf, Tensor):
            crc = zlib.crc32(_sample(leaf), zlib.crc32(repr(leaf.shape).encode(), crc))
        else:  # an object's repr may hold its address, which differs from run to run
            plain = isinstance(leaf, (str, int, float, bool, bytes, type(None)))
            crc = zlib.crc32(repr(leaf if plain else type(leaf)).encode(), crc)
    return crc


def _sample(tensor: Tensor) -> bytes | memoryview:
    """Up to so many numbers, evenly spread, as bytes."""
    numbers = tensor.detach()
    if numbers.is_cpu and numbers.layout is torch.strided and numbers.dtype in PLAIN:
        flat = numbers.numpy().reshape(-1)  # numpy's views cost a fraction of torch's
        return flat[:: max(1, -(-flat.size // SAMPLE))].tobytes()
    if numbers.layout is not torch.strided:
        numbers = (numbers.coalesce() if numbers.is_sparse else numbers).values()
    if numbers.numel() > SAMPLE:
        numbers = numbers.reshape(-1)[:: -(-numbers.numel() // SAMPLE)]
    numbers = numbers.cpu().contiguous()
    return numbers.reshape(-1).view(torch.uint8).numpy().data if numbers.numel() else b""


def length(batch: Batch) -> int:
    """How many examples a batch holds: the rows of its first tensor; 1 if it has none."""
    sizes = (len(leaf) for leaf in leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim)
    return next(sizes, 1)


def described(batch: Batch) -> str:
    """Types and shapes, for messages.

    >>> described((torch.zeros(2, 3), torch.tensor([1, 2])))
    '(float32[2, 3], int64[2])'
    """
    if isinstance(batch, Tensor):
        return f"{str(batch.dtype).removeprefix('torch.')}{list(batch.shape)}"
    if isinstance(batch, Mapping):
        return "{" + ", ".join(f"{key}: {described(value)}" for key, value in batch.items()) + "}"
    if isinstance(batch, (tuple, list)):
        inside = ", ".join(described(value) for value in batch)
        return f"({inside})" if isinstance(batch, tuple) else f"[{inside}]"
    return type(batch).__name__
