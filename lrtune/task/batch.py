"""Batches: whatever a step takes, without knowing its form."""

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Batch = Any
"""What one step takes: usually a tuple of tensors, the target last; or a dict; or anything."""

DIGEST_NUMBERS = 256
"""A digest reads at most so many numbers of a tensor: it tells batches apart, it proves nothing."""

NUMPY_DTYPES = {torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool}
"""What numpy knows as it is; the rest, such as bfloat16, is read as bytes."""


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


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device; what has no `to` stays as it is."""
    if _flat(batch):
        return tuple([tensor_to_device(leaf, device) for leaf in batch])
    return _mapped(batch, lambda leaf: tensor_to_device(leaf, device))


def _flat(batch: Batch) -> bool:
    """Whether it is a tuple of tensors, as nearly all are: then each step can be brief."""
    return type(batch) is tuple and all([type(leaf) is Tensor for leaf in batch])  # noqa: C419


def clone_batch(batch: Batch) -> Batch:
    """The batch with tensors of its own, for a model that works in place."""
    return _mapped(batch, lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf)


def tensor_to_device(leaf: Any, device: torch.device) -> Any:
    """One tensor, or whatever has a `to`, on the device."""
    if not isinstance(leaf, Tensor):
        return leaf.to(device) if hasattr(leaf, "to") else leaf
    if leaf.is_inference():  # made under inference_mode it could not be trained on
        leaf = leaf.clone()
    if leaf.device == device:
        return leaf
    # From pinned memory a copy need not wait for the device, nor the device for the next batch.
    pinned = leaf.pin_memory() if device.type == "cuda" and leaf.is_cpu else leaf
    return pinned.to(device, non_blocking=True)


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
    for leaf in batch if _flat(batch) else leaves(batch):
        if isinstance(leaf, Tensor):
            crc = zlib.crc32(_sample(leaf), zlib.crc32(_shape(leaf.shape), crc))
        else:  # an object's repr may hold its address, which differs from run to run
            plain = isinstance(leaf, (str, int, float, bool, bytes, type(None)))
            crc = zlib.crc32(repr(leaf if plain else type(leaf)).encode(), crc)
    return crc


@functools.lru_cache(maxsize=256)
def _shape(shape: torch.Size) -> bytes:
    return repr(shape).encode()


def _sample(tensor: Tensor) -> bytes | memoryview:
    """Up to so many numbers, evenly spread, as bytes."""
    if tensor.is_cpu and tensor.dtype in NUMPY_DTYPES and tensor.layout is torch.strided:
        # numpy's views cost a fraction of torch's
        flat = (tensor.detach() if tensor.requires_grad else tensor).numpy().reshape(-1)
        return flat[:: max(1, -(-flat.size // DIGEST_NUMBERS))].tobytes()
    numbers = tensor.detach()
    if numbers.layout is not torch.strided:
        numbers = (numbers.coalesce() if numbers.is_sparse else numbers).values()
    if numbers.numel() > DIGEST_NUMBERS:
        numbers = numbers.reshape(-1)[:: -(-numbers.numel() // DIGEST_NUMBERS)]
    numbers = numbers.cpu().contiguous()
    return numbers.reshape(-1).view(torch.uint8).numpy().data if numbers.numel() else b""


def nbytes(batch: Batch) -> int:
    """What its tensors take of the memory."""
    return sum(leaf.nbytes for leaf in leaves(batch) if isinstance(leaf, Tensor))


def count_examples(batch: Batch) -> int:
    """How many examples a batch holds: the rows of its first tensor; 1 if it has none."""
    sizes = (len(leaf) for leaf in leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim)
    return next(sizes, 1)


def describe_batch(batch: Batch) -> str:
    """Types and shapes, for messages.

    >>> describe_batch((torch.zeros(2, 3), torch.tensor([1, 2])))
    '(float32[2, 3], int64[2])'
    """
    if isinstance(batch, Tensor):
        return f"{str(batch.dtype).removeprefix('torch.')}{list(batch.shape)}"
    if isinstance(batch, Mapping):
        return (
            "{" + ", ".join(f"{key}: {describe_batch(value)}" for key, value in batch.items()) + "}"
        )
    if isinstance(batch, (tuple, list)):
        inside = ", ".join(describe_batch(value) for value in batch)
        return f"({inside})" if isinstance(batch, tuple) else f"[{inside}]"
    return type(batch).__name__
