"""The memory policy: the share of a device's memory for each use; nothing else decides it."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

import torch

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
    """Return the bytes that may be used: what is free on a GPU, half of a computer's memory.

    The other half is left to the system, the user's data and the Python process itself.
    """
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return _total_bytes() / 2


def fits_beside_training(tensors: Iterable[torch.Tensor], device: torch.device) -> bool:
    """Return whether all training tensors may move to the device; a CPU holds them already."""
    if device.type != "cuda":
        return True
    return sum(tensor.nbytes for tensor in tensors) <= DATA_SHARE * available_bytes(device)


def batch_cache_bytes(device: torch.device) -> float:
    """Return how many bytes of batches may be kept for later cohorts."""
    return BATCH_CACHE_SHARE * available_bytes(device)


def max_runs(nbytes: int, device: torch.device) -> int:
    """Return how many runs may be held at once, at least 1, for `nbytes` of weights per run."""
    return int(available_bytes(device) / (COPIES * nbytes)) or 1


def max_vmapped_runs(saved_bytes: int, device: torch.device) -> int:
    """Return how many runs may share a backward pass, at least 1.

    Args:
        saved_bytes: Bytes that the forward pass of one run saves (`SavedBytes`).
        device: Where they train.
    """
    return int(available_bytes(device) / (BACKWARD_FACTOR * max(1, saved_bytes))) or 1


def _total_bytes() -> int:
    """Return the bytes of the computer's memory, or of its container's."""
    total = UNKNOWN_BYTES
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(ValueError, OSError):
        total = min(total, int(CONTAINER.read_text()))
    return total


class SavedBytes:
    """Counts the bytes that a forward pass saves for its backward pass.

    >>> with SavedBytes() as saved:
    ...     loss = (torch.ones(100, requires_grad=True) ** 2).sum()
    >>> saved.bytes
    400
    """

    def __init__(self) -> None:
        """Start at zero."""
        self.bytes = 0
        self._seen: set[int] = set()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def __enter__(self) -> Self:
        """Start counting."""
        self._hooks.__enter__()
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop counting."""
        self._hooks.__exit__()

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:  # several operations may save one tensor
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor
