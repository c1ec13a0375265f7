"""How much memory there is for runs, so that what does not fit at once is done in parts."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

import torch

CONTAINER = Path("/sys/fs/cgroup/memory.max")
"""Where Linux tells how much of the computer's memory a container may use, or `max`."""

UNTOLD = 4 * 2**30
"""Bytes of memory to reckon with where the system does not tell how much there is."""


def room(device: torch.device) -> float:
    """Bytes that may be used on the device: what is free on a GPU, half of a computer's memory."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return _memory() / 2


def _memory() -> int:
    """Bytes of the computer's memory, or of its container's."""
    total = UNTOLD
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(ValueError, OSError):
        total = min(total, int(CONTAINER.read_text()))
    return total


class Saved:
    """Counts the bytes that a forward pass keeps for its backward pass.

    >>> with Saved() as saved:
    ...     loss = (torch.ones(100, requires_grad=True) ** 2).sum()
    >>> saved.bytes
    400
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self.bytes = 0
        self._seen: set[int] = set()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def __enter__(self) -> Self:
        """Count from here."""
        self._hooks.__enter__()
        return self

    def __exit__(self, *_error: object) -> None:
        """Up to here."""
        self._hooks.__exit__()

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor
