"""An evaluator that answers what a study knows, trains the rest, and records it."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lrtune.errors import ArgumentError, whole_number
from lrtune.results import Trace
from lrtune.results.runs import Run, checked_runs
from lrtune.study.leases import WHOLE, Request
from lrtune.study.recorded_runs import RecordedRun, runs_from_trace, trace_from_runs
from lrtune.study.records import StudyRecords
from lrtune.task.task import Task
from lrtune.training import Evaluate, Variations, evaluate_like
from lrtune.training.checkpoint_stores import FolderStore
from lrtune.training.checkpoints import Checkpoint
from lrtune.training.engine_choice import separable_units
from lrtune.training.run_keys import run_keys

POLL = 0.2
"""The most seconds between two looks at what another process trains."""


@dataclass(eq=False)
class StudyEvaluator:
    """An evaluator that answers from a study, and trains what the study does not hold."""

    records: StudyRecords
    train: Evaluate
    engine: str  # the class of the engine that `train` uses
    task: str  # the key of the task's fingerprint
    checkpoints: FolderStore
    check_seed: Callable[[int], None]
    say: Callable[[str], None]
    trains: Task

    def __post_init__(self) -> None:
        """Have checked no seed, and met no other process yet."""
        self._checked_seeds, self._met = set[int](), set[str]()

    def __call__(
        self,
        runs: Sequence[Run],
        steps: int,
        *,
        stage: str,
        validate: int | None = None,
        until: int | None = None,
        checkpoint: bool = False,
    ) -> Trace:
        """The trace of these runs; see `Evaluate`."""
        end = whole_number("steps", steps, least=1) if until is None else until
        if not 1 <= end <= steps:
            raise ArgumentError(f"until={end} lies outside 1 ... {steps}, the horizon.")
        whole_number("validate", validate or 0, least=0)
        runs = checked_runs(runs)
        for seed in {run.seed for run in runs} - self._checked_seeds:
            self.check_seed(seed)
            self._checked_seeds.add(seed)
        keys = run_keys(self.task, runs, steps, self.engine)
        validated = WHOLE if validate is None else validate
        requests = [Request(key, end, validated) for key in keys]
        wanted = dict(zip(requests, runs, strict=True))
        try:
            known = self._complete(wanted, steps, stage, checkpoint=checkpoint)
        except BaseException:
            self.records.leases.release()
            raise
        if checkpoint and end == steps:
            there = self.checkpoints.names()
            gone = {key: one for key, one in known.items() if one.checkpoint not in there}
            known |= {key: replace(one, checkpoint="") for key, one in gone.items()}
        named = [
            (run.name, run.lr, repr(run.schedule), run.seed, known[key])
            for key, run in zip(keys, runs, strict=True)
        ]
        return trace_from_runs(named, steps, end, validate=validate != 0, checkpoint=checkpoint)

    def like(self, task: Task, variations: Variations | None = None) -> Evaluate:
        """What trains the runs of another task, or runs that vary; none of them is recorded."""
        return evaluate_like(self.train, task, variations)

    def checkpoint(self, name: str) -> Checkpoint:
        """The checkpoint with a name that a trace gave.

        Raises:
            ArgumentError: It is no longer there.
            CheckpointError: Its file is damaged.
        """
        return self.checkpoints.load(name)

    def checkpoint_file(self, name: str) -> str:
        """The path of the file that holds a checkpoint."""
        return self.checkpoints.place(name)

    def _complete(
        self, wanted: Mapping[Request, Run], steps: int, stage: str, *, checkpoint: bool
    ) -> dict[str, RecordedRun]:
        """Train this process's share of what is missing, and wait for what others train."""
        self.records.begin_call()
        known, waited = self.records.find(wanted), 0.0
        if len(known) == len(wanted):
            return known
        with self.records.leases.heartbeats():
            while missing := {one: run for one, run in wanted.items() if one.key not in known}:
                units = separable_units(missing, self.engine)
                mine, others = self.records.allocate(units)
                if mine:
                    runs, waited = {one: missing[one] for one in missing if one in mine}, 0.0
                    self._train_and_record(runs, steps, stage, checkpoint=checkpoint)
                elif others:
                    waited += self._wait(others, waited)
                known |= self.records.find(missing)
        if waited:
            self.records.leases.release()
        return known

    def _wait(self, others: Sequence[str], waited: float) -> float:
        """Wait a while, longer after a longer wait; returns the seconds."""
        for process in set(others) - self._met:
            self._met.add(process)
            self.say(f"{process} works on this study, too: the runs are shared")
        seconds = min(POLL, 0.01 + 0.1 * waited)
        time.sleep(seconds)
        return seconds

    def _train_and_record(
        self, runs: Mapping[Request, Run], steps: int, stage: str, *, checkpoint: bool
    ) -> None:
        """Train these runs, and record all of them at once."""
        until, validated = next((one.until, one.validated) for one in runs)
        validate = None if validated == WHOLE else validated
        # A plain function needs to know of neither.
        more: dict[str, Any] = {"until": until} if until < steps else {}
        more |= {"checkpoint": True} if checkpoint else {}
        trace = self.train(list(runs.values()), steps, stage=stage, validate=validate, **more)
        recorded = runs_from_trace(trace, until)
        there = self.checkpoints.names() if checkpoint else set()
        for name, one in recorded.items():
            if one.checkpoint not in there:  # what trains may keep it elsewhere, or not at all
                recorded[name] = replace(one, checkpoint="")
        done = {request: (run, recorded[run.name]) for request, run in runs.items()}
        self.records.record(done, stage=stage, steps=steps, engine=self.engine)
