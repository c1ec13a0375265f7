"""The unfinished runs that an evaluator holds between its calls: as many as there is memory for."""

from collections.abc import Mapping, Sequence

from lrtune.errors import ArgumentError, CheckpointError, shown, whole_number
from lrtune.results.runs import Run
from lrtune.task.memory import max_runs
from lrtune.task.task import Task
from lrtune.training.checkpoint_keeper import CheckpointKeeper
from lrtune.training.checkpoints import Checkpoint
from lrtune.training.cohort import Cohort


class OffloadedRuns:
    """The live runs of a cohort, as checkpoints on the CPU from which they can go on."""

    def __init__(self, cohort: Cohort) -> None:
        self.steps, self.step, self.live = cohort.steps, cohort.step, cohort.live
        self._saved = {run.name: cohort.checkpoint(run.name) for run in self.live}

    def checkpoint(self, name: str) -> Checkpoint:
        """Return the checkpoint of a run."""
        return self._saved[name]


Idle = Cohort | OffloadedRuns


def check_memory_options(max_runs: int | None, offload: str | None) -> None:
    """Raise an `ArgumentError` unless it is a number of runs, and the CPU, if given."""
    if max_runs is not None:
        whole_number("max_runs", max_runs, least=1)
    if offload not in (None, "cpu"):
        raise ArgumentError(
            f"offload={shown(offload)}; expected 'cpu', where runs wait that do not train, or None "
            "to leave them on the device. Leave it out, or give offload='cpu'."
        )


class IdleRuns:
    """Unfinished runs that can be continued, in the cohorts in which they were trained.

    Args:
        task: What is trained.
        most: The most runs to hold at once; what memory allows if that is less, or when None.
        offload: `cpu` to keep idle runs as checkpoints on the CPU; None to leave them where they
            are.
        keeper: Gives the warning where a run cannot be saved.

    Attributes:
        limit: How many runs may be held in the memory of the device, those that train included.
    """

    def __init__(
        self, task: Task, most: int | None, offload: str | None, keeper: CheckpointKeeper
    ) -> None:
        check_memory_options(most, offload)
        self._offloads, self._keeper = offload is not None, keeper
        self._on_cpu = task.device.type == "cpu"
        fitting = max_runs(task.run_bytes, task.device)
        self.limit = fitting if most is None else min(most, fitting)
        self.groups: list[Idle] = []

    @property
    def count(self) -> int:
        """How many idle runs are in the memory of the device."""
        return sum(len(one.live) for one in self._on_device)

    @property
    def _on_device(self) -> list[Idle]:
        return [one for one in self.groups if self._on_cpu or isinstance(one, Cohort)]

    def take(
        self, runs: Sequence[Run], steps: int, until: int
    ) -> tuple[Cohort | Mapping[str, Checkpoint], list[Run]] | None:
        """Return a cohort, or checkpoints, of some of these runs that can go on; and those runs.

        A cohort is held no longer, as it may break. Checkpoints are, until they are dropped.
        """
        for one in self.groups:
            known = [run for run in runs if run in one.live]
            if known and one.steps == steps and one.step <= until:
                if isinstance(one, OffloadedRuns):
                    return {run.name: one.checkpoint(run.name) for run in known}, known
                self.groups.remove(one)
                return one, known
        return None

    def drop(self, runs: Sequence[Run], steps: int, until: int) -> None:
        """Forget the checkpoints that `take` gives for these runs, and of those beside them."""
        self.groups = [
            one
            for one in self.groups
            if isinstance(one, Cohort)
            or (one.steps, one.step > until) != (steps, False)
            or not any(run in one.live for run in runs)
        ]

    def make_room(self, new: int) -> None:
        """Drop the oldest groups until so many runs can be added to what is held.

        Dropped runs that are asked for again train from their start, or from the checkpoint that
        a folder has of them.
        """
        while self._on_device and self.count + new > self.limit:
            self.groups.remove(self._on_device[0])

    def add(self, cohort: Cohort) -> None:
        """Hold what is unfinished of a cohort."""
        if not cohort.live or cohort.step == cohort.steps:
            return
        if self._offloads:
            try:
                self.groups.append(OffloadedRuns(cohort))
            except CheckpointError as error:
                self._keeper.warn(error, "Its run is not offloaded.")
            else:
                return
        self.groups.append(cohort)
