"""Batches: drawn once for each seed, fanned out to all its runs, and kept for later cohorts."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lrtune.task.batch import Batch, digest, nbytes
from lrtune.task.data import DigestedBatch
from lrtune.task.task import Task
from lrtune.training.memory import room

SHARE = 1 / 8
"""How much of the memory for runs may hold batches, as a share."""


@dataclass
class _Kept:
    """The first batches of a seed; their source goes to the reader that leaves them behind."""

    source: Iterator[DigestedBatch] | None
    batches: list[DigestedBatch] = field(default_factory=list)
    changed: bool = False


class Shelf:
    """The batches of a task, loaded once for all the cohorts that read them, while there is room.

    Tensors are not kept, as their rows are at hand anyway. What a loader has filled anew since it
    gave it, as one does that has a single buffer, is seen by its digest, and loaded again.

    Args:
        task: Whose batches they are.
        most: Bytes that may be kept; a share of the memory when None.

    >>> from lrtune.testing import bowl
    >>> shelf = Shelf(bowl(4.0))
    >>> next(shelf.read(seed=0))[1] == next(shelf.read(seed=0))[1]
    True
    """

    def __init__(self, task: Task, most: float | None = None) -> None:
        """Hold no batch yet."""
        self._task = task
        self._left = SHARE * room(task.device) if most is None else most
        self._kept: dict[int, _Kept] = {}

    def read(self, seed: int) -> Iterator[DigestedBatch]:
        """The batches of a seed, from its first one on, each with its digest; endless."""
        if not self._task.uses_loader:
            return self._task.device_batches(seed)
        kept = self._kept.setdefault(seed, _Kept(self._task.device_batches(seed)))
        return self._read(seed, kept)

    def _read(self, seed: int, kept: _Kept) -> Iterator[DigestedBatch]:
        for step in itertools.count():
            known = step < len(kept.batches)
            if self._changed(kept, step) if known else not self._add(seed, kept):
                break
            yield kept.batches[step]
        if step == len(kept.batches) and kept.source is not None:
            source, kept.source = kept.source, None
        else:  # somebody else is further on
            source = itertools.islice(self._task.device_batches(seed), step, None)
        yield from source

    def _add(self, seed: int, kept: _Kept) -> bool:
        """Load one more; False where there is no room, or another reader has gone on alone."""
        if self._left <= 0 or kept.changed or kept.source is None:
            return False
        try:
            kept.batches.append(next(kept.source))
        except BaseException:  # what is broken is not read on: the next reader begins afresh
            self._kept.pop(seed, None)
            raise
        self._left -= nbytes(kept.batches[-1][0])
        return True

    def _changed(self, kept: _Kept, step: int) -> bool:
        """Whether this batch is another by now; on other devices than a CPU it is a copy."""
        batch, known = kept.batches[step]
        kept.changed |= self._task.device.type == "cpu" and digest(batch) != known
        return kept.changed


class Streams:
    """The batches of every seed, drawn once per step, each with its digest kept."""

    def __init__(self, shelf: Shelf, seeds: Sequence[int]) -> None:
        """Open one stream for each seed."""
        self._streams = {seed: shelf.read(seed) for seed in seeds}
        self.digests: dict[int, list[int]] = {seed: [] for seed in seeds}

    def draw(self, seed: int) -> Batch:
        """The seed's next batch, on the task's device."""
        try:
            batch, known = next(self._streams[seed])
        except Exception as error:
            error.add_note(f"while loading batch {len(self.digests[seed])} of seed {seed}")
            raise
        self.digests[seed].append(known)
        return batch
