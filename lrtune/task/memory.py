"""The memory policy: the share of a device's memory for each use; nothing else decides it."""

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

CONTAINER = Path("/sys/fs/cgroup/memory.max")
"""Where Linux tells how much of the computer's memory a container may use, or `max`."""

UNKNOWN_BYTES = 4 * 2**30
"""Bytes of memory to reckon with where the system does not tell how much there is."""

DATA_SHARE = 1 / 4
"""Share of a GPU's free memory for training tensors: the models and activations need the rest."""

BATCH_CACHE_SHARE = 1 / 8
"""Share of the available memory for cached batches: they only save time, so runs come first."""

BACKWARD_FACTOR = 2
"""A backward pass needs what the forward pass saved, and as much again for its gradients."""


def available_bytes(device: torch.device) -> float:
    """Return the bytes that may be used: what is free on a GPU, half of a computer's memory."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    total = UNKNOWN_BYTES
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(ValueError, OSError):
        total = min(total, int(CONTAINER.read_text()))
    return total / 2  # the system, the user's data and Python itself have the other half


def fits_beside_training(tensors: Iterable[Tensor], device: torch.device) -> bool:
    """Return whether all training tensors may move to the device; a CPU holds them already."""
    size = sum(tensor.nbytes for tensor in tensors)
    return device.type != "cuda" or size <= DATA_SHARE * available_bytes(device)


def batch_cache_bytes(device: torch.device) -> float:
    """Return how many bytes of batches may be kept for later cohorts."""
    return BATCH_CACHE_SHARE * available_bytes(device)


class RunBytes(NamedTuple):
    """What one run holds between two updates, in bytes."""

    weights: int  # with buffers
    gradients: int
    optimizer: int  # its state

    @property
    def total(self) -> int:
        """All of it, while the run trains."""
        return sum(self)

    @property
    def checkpoint(self) -> int:
        """A checkpoint, which has no gradients."""
        return self.weights + self.optimizer


def run_bytes(weights: Iterable[Tensor], optimizer: Optimizer) -> RunBytes:
    """Return what a run holds, given the weights and the optimizer of one that has made an update.

    >>> layer = torch.nn.Linear(9, 1)
    >>> adam = torch.optim.Adam(layer.parameters())
    >>> layer(torch.ones(1, 9)).sum().backward()
    >>> adam.step()
    >>> run_bytes(layer.parameters(), adam)  # ten numbers, two moments of each, and two counters
    RunBytes(weights=40, gradients=40, optimizer=88)
    """
    weights = list(weights)
    gradients = [one.grad for one in weights if isinstance(one, nn.Parameter)]
    state: Any = {}
    with suppress(Exception):  # one without a state_dict gets no checkpoints either
        state = optimizer.state_dict()
    return RunBytes(*(sum(map(_nbytes, _tensors_in(some))) for some in (weights, gradients, state)))


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for inside in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors_in(inside)


def _nbytes(tensor: Tensor) -> int:
    if tensor.layout is torch.sparse_coo:  # `nbytes` would be that of the dense tensor
        return tensor._values().nbytes + tensor._indices().nbytes  # noqa: SLF001
    return tensor.nbytes


def max_runs(one: RunBytes, device: torch.device) -> int:
    """Return how many runs may be held at once, at least 1, if each takes so much."""
    # Stacking the weights of runs, as the vmapped engine does, makes a copy for a moment.
    return int(available_bytes(device) / (one.total + one.weights)) or 1


def max_vmapped_runs(saved: int, device: torch.device) -> int:
    """Return how many runs, each of which saves so many bytes, may share a backward pass."""
    return int(available_bytes(device) / (BACKWARD_FACTOR * max(1, saved))) or 1


def saved_bytes(forward: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """Return what a forward pass returns, and the bytes that it saves for its backward pass.

    >>> saved_bytes(lambda: (torch.ones(100, requires_grad=True) ** 2).sum())[1]
    400
    """
    sizes: dict[int, int] = {}  # by address, because several operations may save one tensor

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes.setdefault(storage.data_ptr(), storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = forward()
    return result, sum(sizes.values())


# --- when there is no more ------------------------------------------------------------------------

OUT_OF_MEMORY = ("DefaultCPUAllocator: ", "MPS backend out of memory", "_STATUS_ALLOC_FAILED")
"""Parts of the messages of allocators that raise a plain RuntimeError: torch's own on a CPU, that
of Apple's GPUs, those of NVIDIA's libraries."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that an allocation failed.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(ValueError("out of memory"))
    (True, False)
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in OUT_OF_MEMORY)


def free_memory(device: torch.device) -> None:
    """Give back the memory of whatever is no longer used."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
