"""Functions on batches of any form: tensors, tuples, lists, dicts, or objects of the user's own."""

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Batch = Any
"""The input of one step: usually a tuple of tensors whose last one is the target."""

DIGEST_NUMBERS = 256
"""`digest` reads at most this many numbers of a tensor: enough to notice a changed batch."""

# numpy reads these types directly; all others, such as bfloat16, are read as bytes.
_NUMPY_DTYPES = {torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool}


def leaves(batch: Batch) -> Iterator[Any]:
    """Yield the tensors and other values of a batch, in order."""
    if isinstance(batch, Mapping):
        for value in batch.values():
            yield from leaves(value)
    elif isinstance(batch, (tuple, list)):
        for value in batch:
            yield from leaves(value)
    else:
        yield batch


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on the device; a value without a `to` method stays as it is."""
    if _is_tuple_of_tensors(batch):
        return tuple([leaf_to_device(leaf, device) for leaf in batch])
    return _map_leaves(batch, lambda leaf: leaf_to_device(leaf, device))


def _is_tuple_of_tensors(batch: Batch) -> bool:
    """Return whether a batch has the usual form, for which each step takes a faster way."""
    return type(batch) is tuple and all([type(leaf) is Tensor for leaf in batch])  # noqa: C419


def clone_batch(batch: Batch) -> Batch:
    """Return the batch with copies of its tensors, for a model that works in place."""
    return _map_leaves(batch, lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf)


def leaf_to_device(leaf: Any, device: torch.device) -> Any:
    """Return a tensor, or any value with a `to` method, on the device."""
    if not isinstance(leaf, Tensor):
        return leaf.to(device) if hasattr(leaf, "to") else leaf
    if leaf.is_inference():  # a tensor made under inference_mode cannot take part in training
        leaf = leaf.clone()
    if leaf.device == device:
        return leaf
    # From pinned memory a copy does not wait for the device, nor the device for the next batch.
    pinned = leaf.pin_memory() if device.type == "cuda" and leaf.is_cpu else leaf
    return pinned.to(device, non_blocking=True)


def _map_leaves(batch: Batch, change: Callable[[Any], Any]) -> Batch:
    if type(batch) is dict:
        return {key: _map_leaves(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):  # a namedtuple
        return type(batch)(*(_map_leaves(value, change) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(_map_leaves(value, change) for value in batch)
    return change(batch)


def digest(batch: Batch) -> int:
    """Return a 32-bit checksum of a batch, from shapes and up to 256 numbers of each tensor.

    >>> digest((torch.zeros(2, 3), torch.tensor([1, 2])))
    1776219203
    """
    crc = 0
    for leaf in batch if _is_tuple_of_tensors(batch) else leaves(batch):
        if isinstance(leaf, Tensor):
            crc = zlib.crc32(_sample_bytes(leaf), zlib.crc32(_shape_bytes(leaf.shape), crc))
        else:  # the repr of other objects may hold their address, which differs between processes
            plain = isinstance(leaf, (str, int, float, bool, bytes, type(None)))
            crc = zlib.crc32(repr(leaf if plain else type(leaf)).encode(), crc)
    return crc


@functools.lru_cache(maxsize=256)
def _shape_bytes(shape: torch.Size) -> bytes:
    return repr(shape).encode()


def _sample_bytes(tensor: Tensor) -> bytes | memoryview:
    """Return up to `DIGEST_NUMBERS` evenly spaced numbers of a tensor, as bytes."""
    if tensor.is_cpu and tensor.dtype in _NUMPY_DTYPES and tensor.layout is torch.strided:
        # numpy's views cost a fraction of torch's, and every batch of every step is read here.
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
    """Return the memory of the tensors of a batch, in bytes."""
    return sum(leaf.nbytes for leaf in leaves(batch) if isinstance(leaf, Tensor))


def count_examples(batch: Batch) -> int:
    """Return the number of rows of the first tensor of a batch; 1 if it has no tensor."""
    sizes = (len(leaf) for leaf in leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim)
    return next(sizes, 1)


def tensor_versions(batch: Batch) -> list[int]:
    """Return how often each tensor of a batch was changed in place."""
    return [leaf._version for leaf in leaves(batch) if isinstance(leaf, Tensor)]  # noqa: SLF001


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
