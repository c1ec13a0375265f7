"""Batches of any form: tensors, tuples, lists, dicts, or objects of the user's own."""

import itertools
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Batch = Any
"""The input of one step: usually a tuple of tensors whose last one is the target."""

DigestedBatch = tuple[Batch, int]
"""A batch on the device of the task, and its digest."""

DIGEST_NUMBERS = 256
"""`digest` reads at most this many numbers of a tensor: enough to notice a changed batch."""

SMALL = 10
"""By convention: up to this stride, odd ones will do, as others would leave out too much."""


def leaves(batch: Batch) -> Iterator[Any]:
    """Yield the tensors and other values of a batch, in order."""
    if isinstance(batch, (Mapping, tuple, list)):
        for value in batch.values() if isinstance(batch, Mapping) else batch:
            yield from leaves(value)
    else:
        yield batch


def tensors_of(batch: Batch) -> list[Tensor]:
    """Return the tensors of a batch, in order."""
    return [leaf for leaf in leaves(batch) if isinstance(leaf, Tensor)]


def named_tensors(batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a batch with names for a message.

    >>> [name for name, _ in named_tensors((torch.zeros(2, 3), torch.zeros(2)))]
    ['inputs', 'targets']
    """
    if isinstance(batch, Mapping):
        for key, value in batch.items():
            yield from ((f"{key!r}", tensor) for tensor in tensors_of(value))
    elif isinstance(batch, (tuple, list)) and len(batch) > 1:
        for number, value in enumerate(batch):
            name = "inputs" if len(batch) == 2 else f"inputs (tensor {number})"
            last = number == len(batch) - 1
            yield from (("targets" if last else name, tensor) for tensor in tensors_of(value))
    else:
        yield from (("inputs", tensor) for tensor in tensors_of(batch))


def map_leaves(batch: Batch, change: Callable[[Any], Any]) -> Batch:
    """Return the batch with every leaf changed by a function."""
    # Other mappings, such as those of tokenizers, are leaves with a method `to` of their own.
    if type(batch) is dict:
        return {key: map_leaves(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):  # a namedtuple
        return type(batch)(*(map_leaves(value, change) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(map_leaves(value, change) for value in batch)
    return change(batch)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on the device; a value without a `to` method stays as it is."""
    return map_leaves(batch, lambda leaf: _leaf_to_device(leaf, device))


def _leaf_to_device(leaf: Any, device: torch.device) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf.to(device) if hasattr(leaf, "to") else leaf
    if leaf.is_inference():  # a tensor made under inference_mode cannot take part in training
        leaf = leaf.clone()
    if leaf.device == device:
        return leaf
    # From pinned memory a copy does not wait for the device, nor the device for the next batch.
    pinned = leaf.pin_memory() if device.type == "cuda" and leaf.is_cpu else leaf
    return pinned.to(device, non_blocking=True)


def clone_batch(batch: Batch) -> Batch:
    """Return the batch with copies of its tensors, for a model that works in place."""
    return map_leaves(batch, lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf)


def digest(batch: Batch, numbers: float = DIGEST_NUMBERS) -> int:
    """Return a 32-bit checksum of a batch, from shapes and up to so many numbers of each tensor.

    >>> digest((torch.zeros(2, 3), torch.tensor([1, 2])))
    1776219203
    """
    crc = 0
    for leaf in leaves(batch):
        if isinstance(leaf, Tensor):
            crc = zlib.crc32(repr(leaf.shape).encode(), crc)
            crc = zlib.crc32(_sample_bytes(leaf, numbers), crc)
        else:  # the repr of other objects may hold their address, which differs between processes
            plain = isinstance(leaf, (str, int, float, bool, bytes, type(None)))
            crc = zlib.crc32(repr(leaf if plain else type(leaf)).encode(), crc)
    return crc


def _sample_bytes(tensor: Tensor, most: float) -> bytes | memoryview:
    """Return up to so many evenly spaced numbers of a tensor, as bytes."""
    numbers = tensor.detach()
    if numbers.layout is not torch.strided:
        numbers = (numbers.coalesce() if numbers.is_sparse else numbers).values()
    if not numbers.numel():
        return b""
    numbers = numbers.reshape(-1)[:: _stride(math.ceil(numbers.numel() / most))]
    return numbers.cpu().contiguous().view(torch.uint8).numpy().data  # numpy has no bfloat16


def _stride(least: int) -> int:
    """Return a stride of at least so many, which no usual width of an image is a multiple of.

    With other strides all numbers may come from one column, which is black in every image.

    >>> _stride(1), _stride(2), _stride(16), _stride(49)
    (1, 3, 17, 53)
    """
    primes = (2,) if least < SMALL else (2, 3, 5, 7)
    return next(one for one in itertools.count(least) if all(one % prime for prime in primes))


def row_counts(batch: Batch) -> list[int]:
    """Return the number of rows of each tensor of a batch, in order; scalars have none."""
    return [len(tensor) for tensor in tensors_of(batch) if tensor.ndim]


def count_examples(batch: Batch) -> int:
    """Return the number of rows that most tensors of a batch have; 1 if it has no tensor.

    >>> count_examples({"weights": torch.ones(10), "x": torch.zeros(300, 2), "y": torch.zeros(300)})
    300
    """
    counts = Counter(row_counts(batch))
    return max(counts, key=lambda rows: counts[rows], default=1)  # of several, the first one


def describe_batch(batch: Batch) -> str:
    """Return the types and shapes of a batch, for messages.

    >>> describe_batch((torch.zeros(2, 3), torch.tensor([1, 2])))
    '(float32[2, 3], int64[2])'
    """
    if isinstance(batch, Tensor):
        return f"{str(batch.dtype).removeprefix('torch.')}{list(batch.shape)}"
    if isinstance(batch, Mapping):
        items = ", ".join(f"{key}: {describe_batch(value)}" for key, value in batch.items())
        return f"{{{items}}}"
    if isinstance(batch, (tuple, list)):
        items = ", ".join(map(describe_batch, batch))
        return f"({items})" if isinstance(batch, tuple) else f"[{items}]"
    return type(batch).__name__
