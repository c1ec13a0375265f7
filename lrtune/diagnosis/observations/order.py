"""The order of the training data, by seed and by epoch."""

import itertools
import math

from lrtune.task.batches import digest
from lrtune.task.random_state import preserve_random_state
from lrtune.task.task import Task

BATCHES = 3  # the first batches of an epoch, which tell one order from another

Orders = dict[tuple[int, int], tuple[int, ...]]
"""(seed, epoch) to digests of the first batches."""


def batch_orders(task: Task) -> Orders:
    """The orders of the seeds 0 and 1 in the epochs 0 and 1."""
    with preserve_random_state():
        return {(seed, epoch): _order(task, seed, epoch) for seed in (0, 1) for epoch in (0, 1)}


def _order(task: Task, seed: int, epoch: int) -> tuple[int, ...]:
    """The digests of the first batches of an epoch, of all their numbers: most may be zeros."""
    batches = itertools.islice(task.epoch(seed, epoch), BATCHES)
    return tuple(digest(one, math.inf) for one in batches)
