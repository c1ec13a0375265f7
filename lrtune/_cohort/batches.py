"""One stream of batches for each seed, fanned out to all its runs."""

from collections.abc import Iterator

from lrtune.data import Batch, digest
from lrtune.task import Task


class Streams:
    """The batches of every seed, drawn once per step, each with its digest kept."""

    def __init__(self, task: Task, seeds: list[int]) -> None:
        """Open one stream for each seed."""
        self._task = task
        self._streams: dict[int, Iterator[Batch]] = {seed: task.batches(seed) for seed in seeds}
        self.digests: dict[int, list[int]] = {seed: [] for seed in seeds}

    def draw(self, seed: int) -> Batch:
        """The seed's next batch, on the task's device."""
        try:
            batch = next(self._streams[seed])
        except Exception as error:
            error.add_note(f"while loading batch {len(self.digests[seed])} of seed {seed}")
            raise
        self.digests[seed].append(digest(batch))
        return self._task.place(batch)
