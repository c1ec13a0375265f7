"""`Evaluator` trains runs, and continues those that it has trained before."""

import dataclasses
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lrtune.errors import ArgumentError, CheckpointError, memory_text, quantity, whole_number
from lrtune.results import Trace, concat_traces
from lrtune.results.runs import Run, checked_runs
from lrtune.task.explaining import too_large
from lrtune.task.memory import free_memory, is_out_of_memory
from lrtune.task.task import Task, checked_task
from lrtune.task.value_texts import text_digest
from lrtune.training.batch_cache import BatchCache
from lrtune.training.calls import Call
from lrtune.training.checkpoint_keeper import CheckpointKeeper
from lrtune.training.checkpoint_stores import CheckpointStore, FolderStore, MemoryStore
from lrtune.training.checkpoints import Checkpoint
from lrtune.training.cohort import Cohort
from lrtune.training.engine_choice import Decide, EngineChoice
from lrtune.training.engines.varied import Variations
from lrtune.training.idle_runs import IdleRuns
from lrtune.training.recording import Progress


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
        max_runs: The most runs to hold in the memory of the device, the unfinished ones that may go
            on included; what memory allows when None, or if that is less. Those that are held no
            longer train from their start, or from a checkpoint in a folder, when they are asked
            for again; their costs say so. It changes no loss.
        offload: `cpu` moves runs that do not train to the CPU; None leaves them on the device.
        say: Called with a sentence when memory runs out: then half as many runs are held from there
            on. A warning when None.
        variations: The names of runs to optimizer settings or a batch size of their own, or those
            of all runs. Such an evaluator trains with the loop, and saves no checkpoints.

    Attributes:
        trains: The task.

    Raises:
        ArgumentError: There is no such engine, or `max_runs` or `offload` is none.

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
        max_runs: int | None = None,
        offload: str | None = None,
        say: Callable[[str], None] | None = None,
        variations: Variations | None = None,
    ) -> None:
        self.trains = self._task = checked_task(task)
        self._progress = progress
        self._options: dict[str, Any] = {
            "progress": progress, "max_runs": max_runs, "offload": offload, "say": say,
        }  # fmt: skip
        self._engine = EngineChoice(task, engine, decide, variations)
        # Vmapped losses round differently when neighbours leave, so a run that is continued
        # would differ in its last bits from one that a resumed study trains from the start.
        self._continues = decide is None or engine == "loop"
        self._cache = BatchCache(task)
        about = text_digest(task.describe().values())
        if checkpoints is None:
            checkpoints = MemoryStore(about, continues=self._continues)
        elif isinstance(checkpoints, Path):
            checkpoints = FolderStore(checkpoints, about)
        self._keeper = CheckpointKeeper(checkpoints, engine)
        self._idle = IdleRuns(task, max_runs, offload, self._keeper)
        self._say, self._said = say or (lambda text: warnings.warn(text, stacklevel=2)), False

    def like(self, task: Task, variations: Variations | None = None) -> "Evaluator":
        """Return an evaluator of another task, or for runs that vary, with the same options.

        It trains with the loop, and knows none of the runs that this one has trained.
        """
        made = Evaluator(task, variations=variations, **self._options)
        if task is self._task:
            made._cache = self._cache  # their batches are the same
        return made

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
        if checkpoint and self._engine.variations is not None:
            raise ArgumentError(
                "checkpoint=True, but runs that vary are not saved: a checkpoint does not know of "
                "their settings. Leave it out."
            )
        call = Call(steps, end, stage, validate, checkpoint)
        waiting, traces = checked_runs(runs), list[Trace]()
        while waiting:
            if some := self._train_some(waiting, call):
                traces += some
            else:
                free_memory(self._task.device)
            done = {name for trace in traces for name in trace.runs["run"]}
            waiting = [run for run in waiting if run.name not in done]
        trace = concat_traces(traces).select([run.name for run in runs])
        return dataclasses.replace(trace, costs=call.costs.table(trace.runs["run"]))

    def checkpoint(self, name: str) -> Checkpoint:
        """Return the checkpoint with a name that a trace gave; `torch.save` can write it.

        Raises:
            ArgumentError: It is no longer kept.
            CheckpointError: Its file is damaged.
        """
        return self._keeper.get(name, self._idle.groups)

    def checkpoint_file(self, name: str) -> str:
        """Return the path of the file that holds a checkpoint; empty where it is in memory."""
        return self._keeper.store.place(name)

    def prune(self, keep: Collection[str]) -> None:
        """Delete all checkpoints but those with these names; runs in memory can go on."""
        self._keeper.store.prune(keep)

    def _train_some(self, waiting: Sequence[Run], call: Call) -> list[Trace]:
        """Train as many of these runs as go together; no trace where they have to be tried again.

        That is so where a checkpoint does not fit, or memory ran out: then fewer are held.
        """
        start, runs = self._next(waiting, call)
        saved = None if isinstance(start, Cohort) else start
        self._idle.make_room(len(runs))
        held = self._idle.count + len(runs)
        try:
            cohort = start if isinstance(start, Cohort) else self._begin(runs, call, saved)
            trace = self._advance(cohort, runs, call)
            self._idle.drop(runs, call.steps, call.end)
            if self._continues:
                self._idle.add(cohort)
        except CheckpointError as error:
            if saved is None:
                raise
            self._idle.drop(runs, call.steps, call.end)
            call.unusable.update(run.name for run in runs)
            self._keeper.warn(error, "Its runs train from the start.")
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._hold_fewer(held, error)
        else:
            return [trace]
        # The caller frees memory, when the cohort is gone, and what the traceback held.
        return []

    def _next(
        self, waiting: Sequence[Run], call: Call
    ) -> tuple[Cohort | Mapping[str, Checkpoint] | None, Sequence[Run]]:
        """Return runs that train together next; and where they go on, None for the start.

        First those that are held, then those of which the store has a checkpoint, then the others.
        """
        usable = [run for run in waiting if run.name not in call.unusable]
        if found := self._idle.take(waiting, call.steps, call.end):
            return found
        while by_step := self._keeper.saved_steps(usable, call.steps, call.end):
            step, some = next(iter(by_step.items()))
            part = some[: self._idle.limit]
            saved = self._keeper.load(part, call.steps, step)
            if saved:
                return saved, [run for run in part if run.name in saved]
            call.unusable.update(run.name for run in part)
            usable = [run for run in usable if run not in part]
        return None, waiting[: self._idle.limit]

    def _begin(
        self, runs: Sequence[Run], call: Call, saved: Mapping[str, Checkpoint] | None
    ) -> Cohort:
        """Make a cohort of these runs, from their checkpoints if there are any."""
        engine = self._engine.make(runs, call.steps, charge=call.costs.add)
        return Cohort(
            self._task,
            runs,
            call.steps,
            engine=engine,
            cache=self._cache,
            progress=self._progress,
            resume=saved,
        )

    def _advance(self, cohort: Cohort, runs: Sequence[Run], call: Call) -> Trace:
        """Train these runs of the cohort to the end of the call, retire its others; their trace."""
        names = [run.name for run in runs]
        with call.costs.of(cohort, names):
            cohort.retain(names).advance(call.end, stage=call.stage)
            if call.validate != 0 and self._task.has_validation:
                cohort.validate(call.validate)
        trace = cohort.trace.select(names)
        asked = (trace.validations["step"] == call.end) & (call.validate != 0)
        last = trace.validations[asked].reset_index(drop=True)
        trace = dataclasses.replace(trace, validations=last)
        return self._keeper.save(cohort, trace) if call.checkpoint else trace

    def _hold_fewer(self, held: int, error: Exception) -> None:
        """Hold half as many runs from now on, as memory ran out with so many.

        Raises:
            TaskError: It was a single run, and no batch was cached.
        """
        if not self._cache.clear() and held == 1:
            needed = memory_text(self._task.run_bytes.total)
            raise too_large(
                f"a single run ({needed} with gradients and optimizer, besides its batch)", error
            ) from error
        self._idle.limit = max(1, held // 2)
        if held > 1 and not self._said:
            self._said = True
            limit, device = self._idle.limit, self._task.device
            moves = ", or offload='cpu', which moves idle runs there" * (device.type != "cpu")
            self._say(
                f"Out of memory on {device} with {quantity(held, 'run')} held at once: from now on "
                f"at most {limit} are held. The answer stays the same, but some updates are made "
                f"again. Give max_runs={limit} next time{moves}."
            )
