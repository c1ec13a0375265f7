"""The order of the training data, by seed and by epoch."""

import itertools
import math
from collections.abc import Iterable

from lrtune.task.batches import Batch, digest, tensors_of
from lrtune.task.random_state import preserve_random_state
from lrtune.task.task import Task

BATCHES = 3  # the first batches of an epoch, which tell one order from another

Orders = dict[tuple[int, int], tuple[int, ...]]
"""(seed, epoch) to digests of the first batches."""


def batch_orders(task: Task) -> Orders:
    """The orders of the seeds 0 and 1 in the epochs 0 and 1."""
    with preserve_random_state():
        return {(seed, epoch): _order(task, seed, epoch) for seed in (0, 1) for epoch in (0, 1)}


def validation_digests(task: Task) -> tuple[int, ...]:
    """The digests of the first validation batches; empty without such data."""
    if task.val_data is None:
        return ()
    with preserve_random_state():
        return _digests(task.val_data.read(BATCHES))


def _order(task: Task, seed: int, epoch: int) -> tuple[int, ...]:
    """The digests of the first batches of an epoch."""
    return _digests(itertools.islice(task.epoch(seed, epoch), BATCHES))


def _digests(batches: Iterable[Batch]) -> tuple[int, ...]:
    """Digests of all numbers of some batches; empty where a batch holds no tensor."""
    read = list(batches)
    if not all(map(tensors_of, read)):
        return ()
    return tuple(digest(one, math.inf) for one in read)
