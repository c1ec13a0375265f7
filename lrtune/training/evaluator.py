"""`Evaluator` trains runs and continues those it has trained before; `train` does it once."""

import dataclasses
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lrtune.errors import ArgumentError, CheckpointError, whole_number
from lrtune.results import Trace, concat_traces
from lrtune.results.runs import Run, checked_runs
from lrtune.results.schema import COSTS, as_table
from lrtune.task.memory import max_runs
from lrtune.task.task import Task, checked_task
from lrtune.task.value_texts import text_digest
from lrtune.training.batch_cache import BatchCache
from lrtune.training.checkpoint_keeper import CheckpointKeeper
from lrtune.training.checkpoint_stores import CheckpointStore, FolderStore, MemoryStore
from lrtune.training.checkpoints import Checkpoint
from lrtune.training.cohort import Cohort
from lrtune.training.engine_choice import Decide, EngineChoice
from lrtune.training.evaluate import CheckedEvaluate, Evaluate
from lrtune.training.recording import Progress


class _Call(NamedTuple):
    """What a call asks for besides its runs; `end` is the step up to which they are trained."""

    steps: int
    end: int
    stage: str
    validate: int | None
    checkpoint: bool


class Evaluator:
    """Trains runs of one task, and continues those that it has trained before.

    Args:
        task: What is trained; it stays as it is.
        engine: `loop` trains one run after the other on each batch; `vmapped` all runs of a seed
            in one pass; `auto` times both on the task's own updates, takes the faster, and says
            so in `engine_notes`. They differ by rounding. With the loop a run's numbers depend
            neither on its neighbours nor on timings, so the same seed repeats the answer.
        progress: Called with the stage, the updates done and their total.
        decide: Keeps the choices of `auto`, as `Study.decide` does. Each is made before the runs
            begin, by a benchmark whose updates are discarded. Then a trace depends on its call
            alone, bit for bit on a CPU: only the loop continues runs of earlier calls.
        checkpoints: A folder for the checkpoints of this task, from which runs are resumed that are
            no longer in memory, also by another process. When None, the best checkpoint of each
            length is held in memory.

    Raises:
        ArgumentError: There is no such engine.

    >>> from lrtune.testing import bowl
    >>> evaluate, run = Evaluator(bowl(4.0), engine="loop"), Run("a", 0.1)
    >>> evaluate([run], 100, stage="short", until=10).runs["steps"].item()
    10
    >>> evaluate([run], 100, stage="long").runs["steps"].item()  # trains 90 more
    100
    """

    def __init__(
        self,
        task: Task,
        *,
        engine: str = "loop",
        progress: Progress | None = None,
        decide: Decide | None = None,
        checkpoints: Path | CheckpointStore | None = None,
    ) -> None:
        self._task, self._progress = checked_task(task), progress
        self._engine = EngineChoice(task, engine, decide)
        # Vmapped losses round differently when neighbours leave, so a run that is continued
        # would differ in its last bits from one that a resumed study trains from the start.
        self._continues = decide is None or engine == "loop"
        self._cohorts: list[Cohort] = []
        self._cache = BatchCache(task)
        about = text_digest(task.describe().values())
        if checkpoints is None:
            checkpoints = MemoryStore(about, continues=self._continues)
        elif isinstance(checkpoints, Path):
            checkpoints = FolderStore(checkpoints, about)
        self._keeper = CheckpointKeeper(checkpoints, engine)

    @property
    def engine_notes(self) -> list[str]:
        """Which engine `auto` chose, for how many runs, and by how much it is faster."""
        return self._engine.notes

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
        """Train the runs; see `Evaluate`."""
        end = whole_number("steps", steps, least=1)
        whole_number("validate", validate or 0, least=0)
        if until is not None:
            end = whole_number("until", until, least=1)
        if end > steps:
            raise ArgumentError(f"until={end} lies beyond the horizon of {steps} steps.")
        call = _Call(steps, end, stage, validate, checkpoint)
        held, new = self._split(checked_runs(runs), call)
        idle, self._cohorts = self._cohorts, []  # an interrupted cohort cannot be continued
        traces = [self._advance(cohort, known, call) for cohort, known in held]
        if len(new) + sum(len(cohort.live) for cohort in idle) > self._max_runs:
            idle = []  # frees their memory; asked for again, they train from the start
        for cohort, trace in self._start(new, call):
            traces.append(trace)
            idle.append(cohort)
        unfinished = [one for one in idle if one.live and one.step < one.steps]
        self._cohorts = unfinished if self._continues else []
        return concat_traces(traces).select([run.name for run in runs])

    def checkpoint(self, name: str) -> Checkpoint:
        """Return the checkpoint with a name that a trace gave; `torch.save` can write it.

        Raises:
            ArgumentError: It is no longer kept.
            CheckpointError: Its file is damaged.
        """
        return self._keeper.get(name, self._cohorts)

    def checkpoint_file(self, name: str) -> str:
        """Return the path of the file that holds a checkpoint; empty where it is in memory."""
        return self._keeper.store.place(name)

    def prune(self, keep: Collection[str]) -> None:
        """Delete all checkpoints but those with these names; runs in memory can go on."""
        self._keeper.store.prune(keep)

    def _split(
        self, runs: Sequence[Run], call: _Call
    ) -> tuple[list[tuple[Cohort, list[Run]]], list[Run]]:
        """Split runs into those that held cohorts can continue, and the others."""
        held, new = [], list(runs)
        for cohort in self._cohorts:
            known = [run for run in new if run in cohort.live]
            if known and cohort.steps == call.steps and cohort.step <= call.end:
                new = [run for run in new if run not in known]
                held.append((cohort, known))
        return held, new

    @property
    def _max_runs(self) -> int:
        return max_runs(self._task.nbytes, self._task.device)

    def _start(self, runs: Sequence[Run], call: _Call) -> list[tuple[Cohort, Trace]]:
        """Train runs that no cohort holds: those with a checkpoint from there, the others anew."""
        done, fresh = [], list(runs)
        for step, some in self._keeper.saved_steps(runs, call.steps, call.end).items():
            for part in self._parts(some):
                saved = self._keeper.load(part, call.steps, step)
                if known := [run for run in part if run.name in saved]:
                    try:
                        done.append(self._begin(known, call, saved))
                        fresh = [run for run in fresh if run not in known]
                    except CheckpointError as error:
                        self._keeper.warn(error, "Its runs train from the start.")
        return done + [self._begin(part, call) for part in self._parts(fresh)]

    def _begin(
        self, runs: Sequence[Run], call: _Call, saved: Mapping[str, Checkpoint] | None = None
    ) -> tuple[Cohort, Trace]:
        """Train a new cohort of these runs, from their checkpoints if there are any."""
        engine, discarded = self._engine.make(runs, call.steps)
        cohort = Cohort(
            self._task,
            runs,
            call.steps,
            engine=engine,
            cache=self._cache,
            progress=self._progress,
            resume=saved,
        )
        trace = self._advance(cohort, runs, call)
        trace.costs["updates"] += [discarded.get(run.name, 0) for run in runs]
        return cohort, trace

    def _parts(self, runs: Sequence[Run]) -> list[Sequence[Run]]:
        """Cut runs into cohorts that fit into memory."""
        size = self._max_runs
        return [runs[first : first + size] for first in range(0, len(runs), size)]

    def _advance(self, cohort: Cohort, runs: Sequence[Run], call: _Call) -> Trace:
        """Train these runs of the cohort to the end of the call, retire its others; their trace."""
        names = [run.name for run in runs]
        updates, val_samples = dict(cohort.updates), dict(cohort.val_samples)
        begin = time.perf_counter()
        cohort.retain(names).advance(call.end, stage=call.stage)
        if call.validate != 0 and self._task.has_validation:
            cohort.validate(call.validate)
        costs = pd.DataFrame({"run": names})
        costs["updates"] = [cohort.updates[name] - updates[name] for name in names]
        costs["val_samples"] = [cohort.val_samples[name] - val_samples[name] for name in names]
        costs["seconds"] = (time.perf_counter() - begin) / len(runs)
        trace = cohort.trace.select(names)
        asked = (trace.validations["step"] == call.end) & (call.validate != 0)
        last = trace.validations[asked].reset_index(drop=True)
        trace = dataclasses.replace(trace, validations=last, costs=as_table(costs, COSTS))
        return self._keeper.save(cohort, trace) if call.checkpoint else trace


def as_evaluate(task: Task | None, evaluate: Evaluate | None) -> Evaluate:
    """What trains runs: a function of the user's own, else an evaluator of the task."""
    if evaluate is not None:
        return CheckedEvaluate(evaluate)
    if task is None:
        raise ArgumentError("got neither a task nor evaluate. Pass lrtune.Task(model, train).")
    return Evaluator(task)


def train(
    task: Task,
    runs: Sequence[Run],
    steps: int,
    *,
    engine: str = "loop",
    validate: bool = True,
    progress: Progress | None = None,
) -> Trace:
    """Train every run on the same batches for `steps` updates: one row per run and step.

    Args:
        task: What is trained; it stays as it is.
        runs: Their names must differ.
        steps: Optimizer updates of each run; schedules are spread over them.
        engine: `loop`, `vmapped` or `auto`; see `Evaluator`.
        validate: Measure the validation losses of the runs that reached the end, if there is data.
        progress: Called with the stage, the updates done and their total.

    Returns:
        The trace: `frame`, `runs`, `validations`, `costs`.

    Raises:
        ArgumentError, ScheduleError: Before anything trains.
        EngineError: `engine` is `vmapped`, and `vmap` cannot train the runs.

    >>> from lrtune.testing import bowl
    >>> trace = train(bowl(curvature=4.0), [Run("a", 0.25), Run("b", 0.6)], steps=100)
    >>> trace.runs[["run", "outcome"]].values.tolist()
    [['a', 'FINISHED'], ['b', 'DIVERGED']]
    """
    evaluator = Evaluator(task, engine=engine, progress=progress)
    return evaluator(runs, steps, stage="training", validate=None if validate else 0)
