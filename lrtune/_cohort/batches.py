"""One stream of batches for each seed, fanned out to all its runs."""

from lrtune.batch import Batch
from lrtune.task import Task


class Streams:
    """The batches of every seed, drawn once per step, each with its digest kept."""

    def __init__(self, task: Task, seeds: list[int]) -> None:
        """Open one stream for each seed."""
        self._streams = {seed: task.drawn(seed) for seed in seeds}
        self.digests: dict[int, list[int]] = {seed: [] for seed in seeds}

    def draw(self, seed: int) -> Batch:
        """The seed's next batch, on the task's device."""
        try:
            batch, digest = next(self._streams[seed])
        except Exception as error:
            error.add_note(f"while loading batch {len(self.digests[seed])} of seed {seed}")
            raise
        self.digests[seed].append(digest)
        return batch
