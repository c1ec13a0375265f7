"""Whether data give the same batches twice; data sets that do not are copied for each stream."""

import math
import time
from contextlib import suppress
from functools import partial
from itertools import islice, zip_longest
from typing import Any

import torch
from torch.utils.data import DataLoader

from lrtune.errors import TaskError
from lrtune.task.batches import digest
from lrtune.task.copies import LONG, parts_of
from lrtune.task.data import IterableData
from lrtune.task.epochs import Data
from lrtune.task.random_state import preserve_random_state

MOST_BATCHES = 20
"""So many batches of two passes are compared, side by side."""

LEAST_BATCHES, PATIENCE = 2, 5.0
"""After so many batches and seconds, no more are compared: a loader may be slow."""


def repeatable(data: Data) -> Data:
    """Return data that give the same batches for the same seed and epoch, whenever they are read.

    They are the same data, or read copies of a data set that has a state of its own. It is found
    out by reading two passes side by side.

    Raises:
        TaskError: Two passes differ, also with copies of the data set.
    """
    if not isinstance(data, IterableData) or isinstance(data.source, list):
        return data
    with preserve_random_state(), torch.inference_mode(mode=False):
        before = [(one, dict(one)) for one in _shared_attributes(data)]
        found = _first_difference(data)
        if found is None:
            return data
        for attributes, values in before:  # such as a counter
            attributes.clear()
            attributes.update(values)
        if isinstance(data.source, DataLoader) and not data.copies_dataset:
            copying = IterableData(
                data.source, data.what, own_loader=data.own_loader, copies_dataset=True
            )
            if _first_difference(copying) is None:
                return copying
    raise TaskError(
        f"{data.what} gives other batches when it is read again with the same seed and epoch "
        f"(batch {found} of two passes differs); every run of a seed needs the same ones. Draw "
        "random numbers from the global generators of torch, numpy or Python, which lrtune seeds, "
        "and let __iter__ start all that counts or is iterated."
    )


def _shared_attributes(data: IterableData) -> list[dict[str, Any]]:
    """Return the attributes of the user's data set, and of what is in it."""
    dataset = data.source.dataset if isinstance(data.source, DataLoader) else None
    parts = parts_of(dataset, longest=LONG)
    return [vars(part) for part in parts if hasattr(part, "__dict__")]


def _first_difference(data: IterableData) -> int | None:
    """Return the place of the first batch that differs in two passes; None if none does."""
    begin = time.monotonic()
    passes: list[Any] = [data.epoch(0, 0) for _ in range(2)]
    pairs = zip_longest(*(map(partial(digest, numbers=math.inf), one) for one in passes))
    with suppress(Exception):  # of the user's own: training raises it again, and names the batch
        for place, (one, other) in enumerate(islice(pairs, MOST_BATCHES)):
            if one != other:
                return place
            if place + 1 >= LEAST_BATCHES and time.monotonic() - begin > PATIENCE:
                break
    return None
