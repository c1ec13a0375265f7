"""How much memory there is for runs, so that what does not fit at once is done in parts."""

import os
from typing import Self

import torch


def room(device: torch.device) -> float:
    """Bytes that may be used on the device: what is free on a GPU, half of a computer's memory."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2


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
