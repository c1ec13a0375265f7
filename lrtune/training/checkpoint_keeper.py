"""The checkpoints of an evaluator's runs: named, saved, found again. A failure is a warning."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Protocol

from lrtune.errors import ArgumentError, CheckpointError
from lrtune.results import Trace
from lrtune.results.runs import Run
from lrtune.results.schema import RUNS, as_table
from lrtune.training.checkpoint_stores import CheckpointStore, checkpoint_name
from lrtune.training.checkpoints import Checkpoint
from lrtune.training.cohort import Cohort
from lrtune.training.run_keys import run_keys


class CanGoOn(Protocol):
    """Runs that can go on from a step: a cohort, or its checkpoints."""

    @property
    def steps(self) -> int:
        """The horizon."""

    @property
    def step(self) -> int:
        """How many updates the runs have made."""

    @property
    def live(self) -> list[Run]:
        """The runs."""

    def checkpoint(self, name: str) -> Checkpoint:
        """Return a copy of what a run is now, on the CPU."""


class CheckpointKeeper:
    """Keeps the checkpoints of an evaluator's runs in a store; each warning is given once.

    Args:
        store: Where they are kept.
        engine: The class of the engine that trains them; engines differ by rounding.
    """

    def __init__(self, store: CheckpointStore, engine: str) -> None:
        self.store, self._engine = store, engine
        self._warned = set[str]()

    def save(self, cohort: Cohort, trace: Trace) -> Trace:
        """Save the live runs of a cohort; return the trace with the names of their checkpoints."""
        names: Mapping[str, str] = self._names(cohort.live, cohort.steps, cohort.step)
        try:
            names = self.store.save(cohort, trace, names) if names else {}
        except CheckpointError as error:
            self.warn(error, "Training goes on without checkpoints.")
            names = {}
        runs = trace.runs.assign(checkpoint=[names.get(run, "") for run in trace.runs["run"]])
        return dataclasses.replace(trace, runs=as_table(runs, RUNS))

    def saved_steps(self, runs: Sequence[Run], steps: int, until: int) -> dict[int, list[Run]]:
        """Return the runs that can be resumed, by the newest step <= `until` of each."""
        found = self.store.newest(until) if runs else {}
        by_step: dict[int, list[Run]] = {}
        if found:
            keys = run_keys(self.store.task, runs, steps, self._engine)
            for run, key in zip(runs, keys, strict=True):
                if key in found:
                    by_step.setdefault(found[key], []).append(run)
        return by_step

    def load(self, runs: Sequence[Run], steps: int, step: int) -> dict[str, Checkpoint]:
        """Return the name of each run to its checkpoint, but for those that cannot be read."""
        saved = {}
        for run, name in self._names(runs, steps, step).items():
            try:
                saved[run] = self.store.load(name)
            except (ArgumentError, CheckpointError) as error:
                self.warn(error, "Its run trains from the start.")
        return saved

    def get(self, name: str, idle: Sequence[CanGoOn]) -> Checkpoint:
        """Return the checkpoint of that name, of a run that can go on from there, or was kept.

        Raises:
            ArgumentError: It is no longer kept.
            CheckpointError: Its file is damaged.
        """
        for one in idle:
            for run, known in self._names(one.live, one.steps, one.step).items():
                if known == name:
                    return one.checkpoint(run)
        return self.store.load(name)

    def warn(self, error: Exception, what: str) -> None:
        """Warn of an error and what follows from it, unless this was done already."""
        if str(error) not in self._warned:
            self._warned.add(str(error))
            warnings.warn(f"{error} {what}", stacklevel=2)

    def _names(self, runs: Sequence[Run], steps: int, step: int) -> dict[str, str]:
        keys = run_keys(self.store.task, runs, steps, self._engine)
        return {run.name: checkpoint_name(key, step) for run, key in zip(runs, keys, strict=True)}
