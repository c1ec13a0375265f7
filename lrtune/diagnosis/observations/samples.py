"""Samples of the training and validation data: some thousand of them, read once."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lrtune.task.batches import Batch, count_examples, map_leaves, named_tensors, tensors_of
from lrtune.task.epochs import FoundBatch
from lrtune.task.random_state import preserve_random_state
from lrtune.task.task import Task

SAMPLES = 4096  # by convention: enough for shares of one percent
BYTES = 2**27  # by convention: no more is kept in memory of each part
PATIENCE = 5.0  # by convention: seconds after which a slow loader is read no further

TARGETS = ("target", "targets", "label", "labels", "class", "classes", "y")
"""The usual names of targets in a batch that is a dict."""

IGNORED = -100
"""The label that torch's cross-entropy ignores."""


@dataclass(frozen=True)
class Samples:
    """The first batches of an epoch, on the CPU.

    Attributes:
        found: The batches, each with its place; copies.
        complete: Whether these are all of an epoch.
    """

    found: tuple[FoundBatch, ...]
    complete: bool

    @property
    def count(self) -> int:
        """The number of samples."""
        return sum(count_examples(one.batch) for one in self.found)

    @cached_property
    def targets(self) -> list[Tensor]:
        """The targets of each batch; empty where there is no such tensor, or more than one."""
        found = [target_of(one.batch) for one in self.found]
        known = [one for one in found if one is not None]
        return known if len(known) == len(found) else []


def training_samples(task: Task) -> Samples:
    """The first samples of the first epoch, as they are trained on."""
    with preserve_random_state(), torch.inference_mode(mode=False):
        return _read(task.train_data.found(0, [0]))


def validation_samples(task: Task) -> Samples:
    """The first validation samples; none without such data."""
    data = task.val_data
    if data is None:
        return Samples((), complete=True)
    with preserve_random_state(), torch.inference_mode(mode=False):
        named = enumerate(data.batches())
        return _read(
            FoundBatch(batch, f"batch {place} of the validation data ({part} part)")
            for place, (part, batch) in named
        )


def inputs_of(batch: Batch) -> dict[str, Tensor]:
    """The input tensors of a batch that have a row for each of its samples, with their names."""
    rows, target = count_examples(batch), target_of(batch)
    return {
        name: one
        for name, one in named_tensors(batch)
        if one is not target and one.ndim and len(one) == rows and one.layout is torch.strided
    }


def target_of(batch: Batch) -> Tensor | None:
    """The tensor of a batch that holds its targets; None where none, or several, look like them.

    It is the last one of a tuple, or that of a dict with a usual name.

    >>> target_of({"image": torch.zeros(2, 3), "label": torch.tensor([1, 0])})
    tensor([1, 0])
    """
    if isinstance(batch, Mapping):
        found = [one for key in batch if key in TARGETS for one in tensors_of(batch[key])]
    elif isinstance(batch, (tuple, list)) and len(batch) > 1:
        found = tensors_of(batch[-1])
    else:
        return None
    return found[0] if len(found) == 1 and found[0].layout is torch.strided else None


def counting_rows(batch: Batch) -> Tensor:
    """Which rows of a batch count: not those that a mask, or the label -100, leaves out.

    >>> counting_rows((torch.zeros(3, 2), torch.tensor([1, -100, 0])))
    tensor([ True, False,  True])
    """
    rows = count_examples(batch)
    counts = torch.ones(rows, dtype=torch.bool)
    for one in tensors_of(batch):
        if one.dtype is torch.bool and one.shape == (rows,):
            counts &= one.cpu()
    target = target_of(batch)
    if target is not None and not target.is_floating_point() and target.shape == (rows,):
        counts &= target.cpu() != IGNORED
    return counts


def _read(batches: Iterator[FoundBatch]) -> Samples:
    """Copy batches until there are enough, or until the data raise, which ends an epoch, too."""
    begin, kept, samples, size = time.monotonic(), list[FoundBatch](), 0, 0
    while samples < SAMPLES and size < BYTES and time.monotonic() - begin < PATIENCE:
        one = _next(batches)
        if one is None:
            return Samples(tuple(kept), complete=True)
        copied = map_leaves(one.batch, _copied)
        kept.append(FoundBatch(copied, one.where, one.rows))
        samples += count_examples(copied)
        size += sum(
            tensor.nbytes for tensor in tensors_of(copied) if tensor.layout is torch.strided
        )
    return Samples(tuple(kept), complete=bool(kept) and _next(batches) is None)


def _next(batches: Iterator[FoundBatch]) -> FoundBatch | None:
    try:
        return next(batches, None)
    except Exception:  # noqa: BLE001 - of the user's data; whatever trains on them raises it again
        return None


def _copied(leaf: object) -> object:
    return leaf.detach().to("cpu", copy=True) if isinstance(leaf, Tensor) else leaf
