"""The engine that takes the faster way, timed on the runs' own updates."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from lrtune.errors import EngineError
from lrtune.results.runs import Run
from lrtune.task.batch import Batch
from lrtune.task.task import Task
from lrtune.training.engines import Pace
from lrtune.training.engines.benchmark import Trial, Way, ways
from lrtune.training.engines.loop import Loop
from lrtune.training.engines.vmapped import Stacked

LEAST = 3
"""Fewer runs have little to share; they go through the loop, as the user's own would."""


class Auto(Stacked):
    """Loop or stack, with all threads for an operation or one: whichever was faster.

    The updates that are timed are the runs' own, so a trial costs no more than what the slower
    ways take longer.

    Args:
        task: What is trained.
        trials: What earlier cohorts of this task have found; new trials are added.
    """

    def __init__(self, task: Task, trials: list[Trial] | None = None) -> None:
        """Hold no run yet."""
        super().__init__(task)
        self.trials = [] if trials is None else trials
        self._under_trial: tuple[int, Trial] | None = None

    def update(
        self, runs: Sequence[Run], batch: Batch, paces: Sequence[Pace], noise: int
    ) -> Tensor:
        """One optimizer update of each run on the placed batch; losses before the update."""
        if len(runs) < LEAST:
            return Loop.update(self, runs, batch, paces, noise)
        found = next((trial for trial in self.trials if trial.suits(len(runs))), None)
        if found is not None:
            return self._by(found.best, runs, batch, paces, noise)
        seed, trial = self._trial_of(runs)
        way = trial.next()
        if way is None:
            self.trials.append(trial)
            self._under_trial = None
            return self._by(trial.best, runs, batch, paces, noise)
        if seed != runs[0].seed:  # the other seeds wait for what comes out
            return self._by(trial.ways[0], runs, batch, paces, noise)
        begin = self._now()
        try:
            losses = self._by(way, runs, batch, paces, noise)
        except EngineError as error:
            trial.refuse(str(error))
            return self._by(trial.ways[0], runs, batch, paces, noise)
        trial.note(way, self._now() - begin)
        return losses

    def _trial_of(self, runs: Sequence[Run]) -> tuple[int, Trial]:
        if self._under_trial is None or not self._under_trial[1].suits(len(runs)):
            on_cpu = self._task.device.type == "cpu"
            trial = Trial(len(runs), ways(torch.get_num_threads(), on_cpu=on_cpu))
            self._under_trial = runs[0].seed, trial
        return self._under_trial

    def _by(
        self, way: Way, runs: Sequence[Run], batch: Batch, paces: Sequence[Pace], noise: int
    ) -> Tensor:
        threads = torch.get_num_threads()
        torch.set_num_threads(way.threads)
        try:
            if way.stacked:
                return self.together(runs, batch, paces, noise)
            self.part(runs)
            return Loop.update(self, runs, batch, paces, noise)
        finally:
            torch.set_num_threads(threads)

    def _now(self) -> float:
        if self._task.device.type == "cuda":
            torch.cuda.synchronize(self._task.device)
        return time.perf_counter()
