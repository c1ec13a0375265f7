"""The memory policy: the share of a device's memory for each use; nothing else decides it."""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

CONTAINER = Path("/sys/fs/cgroup/memory.max")
"""Where Linux tells how much of the computer's memory a container may use, or `max`."""

UNKNOWN_BYTES = 4 * 2**30
"""Bytes of memory to reckon with where the system does not tell how much there is."""

DATA_SHARE = 1 / 4
"""Share of a GPU's free memory for training tensors: the models and activations need the rest."""

BATCH_CACHE_SHARE = 1 / 8
"""Share of the available memory for cached batches: they only save time, so runs come first."""

COPIES = 5
"""Copies of its weights that a run needs: weights, gradients, two moments, and for a moment the
copy that stacking the weights makes."""

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


def max_runs(nbytes: int, device: torch.device) -> int:
    """Return how many runs may be held at once, at least 1, for `nbytes` of weights per run."""
    return int(available_bytes(device) / (COPIES * nbytes)) or 1


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
