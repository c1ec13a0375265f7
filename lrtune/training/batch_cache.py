"""Batches of each seed: drawn once, handed to all its runs, and cached for later cohorts."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lrtune.errors import CheckpointError
from lrtune.task.batches import Batch, DigestedBatch, digest, tensors_of
from lrtune.task.memory import batch_cache_bytes
from lrtune.task.task import Task


@dataclass
class _CachedBatches:
    """The first batches of a seed; the reader that passes the last of them takes over `source`."""

    source: Iterator[DigestedBatch] | None
    batches: list[DigestedBatch] = field(default_factory=list)
    changed: bool = False


class BatchCache:
    """Loads the batches of a task once for all cohorts that read them, while memory allows.

    At most `most` bytes are cached; `lrtune.task.memory` decides when None.
    """

    def __init__(self, task: Task, most: float | None = None) -> None:
        self._task = task
        self._left = batch_cache_bytes(task.device) if most is None else most
        self._kept: dict[int, _CachedBatches] = {}

    def read(self, seed: int) -> Iterator[DigestedBatch]:
        """Yield the batches of a seed with their digests, from the first one on, without end."""
        if not self._task.uses_loader:  # tensors are in memory anyway
            return self._task.device_batches(seed)
        kept = self._kept.setdefault(seed, _CachedBatches(self._task.device_batches(seed)))
        return self._read(seed, kept)

    def clear(self) -> bool:
        """Forget all batches, and cache none from now on; return whether there were any."""
        there = any(kept.batches for kept in self._kept.values())
        for kept in self._kept.values():  # readers load on by themselves
            kept.batches.clear()
            kept.source = None
        self._kept, self._left = {}, 0.0
        return there

    def _read(self, seed: int, kept: _CachedBatches) -> Iterator[DigestedBatch]:
        for step in itertools.count():
            known = step < len(kept.batches)
            if self._changed(kept, step) if known else not self._add(seed, kept):
                break
            yield kept.batches[step]
        # Nothing more can be cached. The first reader to get here reads the loader on.
        if step == len(kept.batches) and kept.source is not None:
            source, kept.source = kept.source, None
        else:  # another reader has taken the source over: load this far again
            source = itertools.islice(self._task.device_batches(seed), step, None)
        yield from source

    def _add(self, seed: int, kept: _CachedBatches) -> bool:
        """Cache one more batch; False where memory is short or another reader took the source."""
        if self._left <= 0 or kept.changed or kept.source is None:
            return False
        try:
            batch, known = next(kept.source)
        except BaseException:  # a broken loader is not read on: the next reader starts anew
            self._kept.pop(seed, None)
            raise
        kept.batches.append((batch, known))
        self._left -= sum(tensor.nbytes for tensor in tensors_of(batch))
        return True

    def _changed(self, kept: _CachedBatches, step: int) -> bool:
        """Return whether the loader has overwritten a cached batch.

        A loader may reuse one buffer for all its batches. On a GPU the cache holds a copy.
        """
        batch, known = kept.batches[step]
        kept.changed |= self._task.device.type == "cpu" and digest(batch) != known
        return kept.changed


class BatchStreams:
    """One endless stream of batches for each seed; records the digest of every batch drawn.

    `seen` are the digests of the batches that runs were trained on before they were resumed. They
    are skipped when the first one after them is drawn.
    """

    def __init__(
        self,
        cache: BatchCache,
        seeds: Sequence[int],
        seen: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        self._streams = {seed: cache.read(seed) for seed in seeds}
        self.digests: dict[int, list[int]] = {seed: [*(seen or {}).get(seed, [])] for seed in seeds}
        self._to_skip = {seed: list(known) for seed, known in self.digests.items() if known}

    def draw(self, seed: int) -> Batch:
        """Return the seed's next batch, on the task's device.

        Raises:
            CheckpointError: The batches that are skipped are not those of the checkpoint.
        """
        for place, known in enumerate(self._to_skip.pop(seed, [])):
            if self._next(seed, place)[1] != known:
                raise CheckpointError(
                    f"batch {place} of seed {seed} is not the one that the checkpoint has seen."
                )
        batch, known = self._next(seed, len(self.digests[seed]))
        self.digests[seed].append(known)
        return batch

    def _next(self, seed: int, place: int) -> DigestedBatch:
        try:
            return next(self._streams[seed])
        except Exception as error:
            error.add_note(f"while loading batch {place} of seed {seed}")
            raise
