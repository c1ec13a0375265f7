"""The only training loop of the package: a cohort trains runs in lockstep."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from lrtune.analysis.curves import Outcome
from lrtune.errors import ArgumentError, add_location, whole_number
from lrtune.results import Trace
from lrtune.results.runs import Run, Validation, checked_runs
from lrtune.results.schema import SELECTION, VALIDATIONS, as_table
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state
from lrtune.task.task import Task, checked_task
from lrtune.training.batch_cache import BatchCache, BatchStreams
from lrtune.training.checkpoints import Checkpoint, complete, resume_point
from lrtune.training.engines import Engine
from lrtune.training.engines.loop import Loop, describe_runs
from lrtune.training.failed_batches import FailedBatches
from lrtune.training.recording import (
    BLOCK,
    Progress,
    Reporter,
    RunRecord,
    SeedGroup,
    check_schedules,
    fork_records,
    run_rows,
    start_record,
    tell_validation,
    trace_rows,
)
from lrtune.training.retiring import Judge, RetireRule


class Cohort:
    """Runs trained in lockstep: those of one seed start alike and see the same batches.

    Tests check these laws: adding, removing or reordering runs changes no other run; advancing in
    parts equals advancing at once; a failing run affects no other; a cohort of one equals a plain
    PyTorch loop, bit for bit on a CPU; the user's model and the global random states stay
    unchanged, also when an exception or Ctrl-C escapes.

    Args:
        task: What is trained.
        runs: Their names must differ.
        steps: The horizon: optimizer updates of each run; schedules are spread over it.
        engine: Carries the updates out; the loop when None.
        retire: Decides when a run is retired; when it is non-finite or diverged if None. Where a
            loss changes by itself (`Task.drift`), it is given the losses without that change.
        cache: Shares loaded batches with other cohorts of this task; nothing is cached when None.
        stage: A word for `progress`.
        progress: Called with stage, updates done and total, at most ten times a second.
        resume: The checkpoint of each run, all of one step; they go on from there. The batches
            before it are drawn again, but no run is trained on them.

    Attributes:
        updates: Each run to the updates made for it, those after a divergence included.
        val_samples: Each run to the samples it was validated on.

    Raises:
        ArgumentError: No runs, two of one name, or steps < 1.
        ScheduleError: A schedule gives no finite multiplier >= 0 somewhere, or needs validation
            data, and there are none; nothing has trained.
        CheckpointError: A checkpoint does not fit its run; `advance` raises it for the data.
    """

    def __init__(
        self,
        task: Task,
        runs: Sequence[Run],
        steps: int,
        *,
        engine: Engine | None = None,
        retire: RetireRule | None = None,
        cache: BatchCache | None = None,
        stage: str = "training",
        progress: Progress | None = None,
        resume: Mapping[str, Checkpoint] | None = None,
    ) -> None:
        self.task, self.steps = checked_task(task), whole_number("steps", steps, least=1)
        self._engine: Engine = Loop(task) if engine is None else engine
        runs, saved = checked_runs(runs), resume or {}
        check_schedules(runs, steps, task)
        self._judge, self._stage, self._reporter = Judge(task, retire), stage, Reporter(progress)
        self._step, seen = (0, {}) if resume is None else resume_point(runs, steps, resume)
        self._all = {run.name: start_record(run, steps, saved.get(run.name)) for run in runs}
        self._goal, self._broken, self._failed = steps, False, FailedBatches(task)
        # Of each run and step: how many samples were asked for, and the losses.
        self._validated: dict[tuple[str, int], tuple[int | None, list[Validation]]] = {}
        self.updates, self.val_samples = (dict.fromkeys(self._all, 0) for _ in range(2))
        seeds = list(dict.fromkeys(run.seed for run in runs))
        self._streams = BatchStreams(cache or BatchCache(task, most=0), seeds, seen)
        # Deriving them here keeps Python's overhead out of the loop.
        self._noise = {
            seed: [derive_seed(seed, NOISE, step) for step in range(steps)] for seed in seeds
        }
        with self._training():
            for run in runs:
                self._engine.begin(run, checkpoint=saved.get(run.name))
        self._regroup()

    @property
    def step(self) -> int:
        """How many updates the live runs have made."""
        return self._step

    @property
    def live(self) -> list[Run]:
        """The runs that still train."""
        return [one.run for one in self._live_records()]

    def advance(self, to: int | None = None, *, stage: str = "") -> "Cohort":
        """Train each live run up to step `to`, the horizon when None; `stage` is for `progress`."""
        end = self.steps if to is None else whole_number("to", to, least=self._step)
        if end > self.steps:
            raise ArgumentError(f"to={end} lies beyond the horizon of {self.steps} steps.")
        self._goal, self._stage = end, stage or self._stage
        with self._training():
            while self._step < end and self._groups:
                self._update()
                if self._step % BLOCK == 0:
                    self._read()
                    self._failed.refuse()
                self._report()
            self._step = end  # also when every run has ended before
            self._read(check=True)
            self._failed.refuse()
            self._retire_broken()
            self._report(now=True)
        return self

    def retain(self, names: Iterable[str]) -> "Cohort":
        """Retire every live run that is not named; returns itself."""
        retained = set(names)
        unknown = retained - set(self._all)
        if unknown:
            raise ArgumentError(f"no run is named {min(unknown)!r}; there are {sorted(self._all)}.")
        self._read()
        for one in self._live_records():
            if one.run.name not in retained:
                self._end(one, Outcome.RETIRED)
        self._regroup()
        return self

    def fork(self, name: str, runs: Sequence[Run]) -> "Cohort":
        """Start `runs` from the present state of the live run `name`, on the same batches.

        Each goes on from this step, with its own rate and its schedule over the whole horizon.
        """
        parent = self._live_record(name)
        checked_runs([*(one.run for one in self._all.values()), *runs])
        check_schedules(runs, self.steps, self.task)
        # Before the engine begins any of them, as a schedule may be refused here.
        forks = fork_records(parent.run, runs, self.steps, self._step)
        with self._training():
            for run in runs:
                self._engine.begin(run, like=name)
        self._read()
        for one in forks:
            self._all[one.run.name] = one
            self.updates[one.run.name] = self.val_samples[one.run.name] = 0
        self._regroup()
        return self

    def validate(self, samples: int | None = None) -> "Cohort":
        """Measure every live run on the validation data; returns itself.

        On `samples` of the selection part, or on both parts when None. A run is measured once a
        step; asked for another number of samples, it is measured anew, and that replaces the rows.
        """
        known, step = self._validated, self._step
        runs = [run for run in self.live if known.get((run.name, step), (0, []))[0] != samples]
        with self._training():
            measured = self._engine.validate(runs, samples) if runs else []
            for run, parts in zip(runs, measured, strict=True):
                known[run.name, step] = samples, parts
                if self.task.loss_reduction != "sum":
                    for part in parts:
                        self.task.check_floor(part.loss, f"the {part.part} loss of {run.name!r}")
                self.val_samples[run.name] += sum(part.samples for part in parts)
        return self

    def checkpoint(self, name: str) -> Checkpoint:
        """Return a copy of everything that the live run `name` is now, on the CPU.

        Raises:
            ArgumentError: No live run has this name.
            CheckpointError: Its state is no plain data; training can go on.
        """
        self._refuse_if_broken()
        self._read()
        one = self._live_record(name)
        with preserve_random_state(), torch.inference_mode(mode=False), torch.no_grad():
            saved, seen = self._engine.checkpoint(one.run), self._streams.digests[one.run.seed]
            return complete(saved, one.run, steps=self.steps, batches=seen, **one.history)

    @property
    def trace(self) -> Trace:
        """Everything recorded so far; only an evaluator fills `costs`."""
        self._read()  # after an interruption, losses are still on the device
        records = list(self._all.values())
        otherwise = Outcome.FINISHED if self._step == self.steps else Outcome.PAUSED
        validated = ((*at, *part) for at, (_, parts) in self._validated.items() for part in parts)
        return Trace(
            frame=trace_rows(records, self._streams.digests),
            runs=run_rows(records, otherwise),
            validations=as_table(validated, VALIDATIONS),
            steps=self.steps,
            floor=self.task.loss_kind.floor,
        )

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Restore global states at the end; an exception leaves the cohort broken for good."""
        self._refuse_if_broken()
        # The caller may stand in `torch.no_grad()`, or draw from the global generators afterwards.
        with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
            try:
                yield
            except BaseException as error:  # Ctrl-C may leave some runs a step ahead of others
                self._broken = True
                if isinstance(error, Exception) and self.live:
                    # A loader's worker that dies raises by a signal, so between updates, too.
                    where = f"at step {self._step} of {self.steps}, {describe_runs(self.live)}"
                    add_location(error, where)
                raise

    def _refuse_if_broken(self) -> None:
        if self._broken:
            raise ArgumentError(
                "this cohort was interrupted within a step, so its runs are no longer in lockstep. "
                "Its trace is good up to there; make a new Cohort to train on."
            )

    def _live_record(self, name: str) -> RunRecord:
        one = self._all.get(name)
        if one is None or one.outcome is not None:
            raise ArgumentError(f"no live run is named {name!r}: {[r.name for r in self.live]}.")
        return one

    def _live_records(self) -> list[RunRecord]:
        return [one for one in self._all.values() if one.outcome is None]

    def _regroup(self) -> None:
        """Group the live runs by seed; all losses must have been read."""
        by_seed: dict[int, list[RunRecord]] = {}
        for one in self._live_records():
            by_seed.setdefault(one.run.seed, []).append(one)
        self._groups = [SeedGroup(seed, some) for seed, some in by_seed.items()]
        self._watching = [one for one in self._live_records() if one.settings.every]

    def _update(self) -> None:
        """Make one update of every live run."""
        step = self._step
        if self._watching:
            samples = self.task.val_counts[SELECTION]
            for name, count in tell_validation(self._watching, step, self._engine, samples).items():
                self.val_samples[name] += count
        for group in self._groups:
            try:
                batch = self._streams.draw(group.seed)
                settings = [one.settings.at(step) for one in group.records]
                noise = self._noise[group.seed][step]
                losses = self._engine.update(group.runs, batch, settings, noise)
                group.unread.append(losses)  # reading them now would make a GPU wait at each step
                for run in group.runs:
                    self.updates[run.name] += 1
            except Exception as error:
                where = f"at step {step} of {self.steps}, in the stage {self._stage!r}, with "
                add_location(error, where + describe_runs(group.runs))
                raise
        self._step += 1

    def _read(self, *, check: bool = False) -> None:
        """Read the losses from the device, and retire runs as `retire` decides."""
        for group in self._groups:
            if group.unread:
                rows = torch.stack(group.unread).tolist()
                group.unread.clear()
                self._failed.note(group, rows, self._step)
                for one, losses in zip(group.records, zip(*rows, strict=True), strict=True):
                    one.losses.extend(losses)
        live = self._live_records()
        for one in sorted(live, key=lambda one: not one.untrained):
            due = one.start_check() or check
            verdict = self._judge.verdict(one, self._all.values(), self._step) if due else None
            if verdict is not None:
                step, outcome = verdict
                # It ends at that very step, so how often the losses are read changes no trace.
                del one.losses[step + 1 :]
                self._end(one, outcome)
        if any(one.outcome is not None for one in live):
            self._regroup()

    def _retire_broken(self) -> None:
        """Retire runs whose weights are not finite, though their losses are."""
        live = [one for one in self._live_records() if not one.untrained]
        broken = [one for one in live if not self._engine.finite(one.run)]
        for one in broken:
            self._end(one, Outcome.NONFINITE)
        if broken:
            self._regroup()
            whole = {one.run.seed for one in live if one not in broken}
            self._failed.refuse_broken({one.run.seed for one in broken} - whole, self._step)

    def _report(self, *, now: bool = False) -> None:
        if self._reporter.due(now=now):
            self._reporter.report(self._stage, self._all.values(), self._step, self._goal)

    def _end(self, one: RunRecord, outcome: Outcome) -> None:
        one.outcome = outcome
        self._engine.drop(one.run)
