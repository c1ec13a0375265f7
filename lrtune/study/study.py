"""The study: answers what its database knows, trains the rest, and records it."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lrtune.errors import ArgumentError, OtherTaskError, whole_number
from lrtune.results import Result, Trace
from lrtune.results.runs import Run, checked_runs
from lrtune.results.serialization import provenance
from lrtune.study import tables
from lrtune.study.catalog import begin_study, study_location
from lrtune.study.database import Database
from lrtune.study.fingerprint import fingerprint, fingerprint_from_json, seed_fingerprint
from lrtune.study.leases import WHOLE, Request
from lrtune.study.recorded_runs import RecordedRun, runs_from_trace, trace_from_runs
from lrtune.study.records import StudyRecords
from lrtune.task.task import Task, checked_task
from lrtune.training import Evaluate, Evaluator, Progress
from lrtune.training.checkpoint_stores import FolderStore
from lrtune.training.checkpoints import Checkpoint
from lrtune.training.engine_choice import separable_units
from lrtune.training.run_keys import run_keys

POLL = 0.2
"""The most seconds between two looks at what another process trains."""

WAYS_OUT = (
    "Use --study with another name; or --fresh (in Python, fresh=True), which starts anew and "
    "keeps the old study under another name; or --force (force=True), which treats the task as "
    "the same."
)


class Study:
    """The runs that were trained on one task, in a database, so that none is trained twice.

    Hand its `evaluate` to `search`, `compare` or `range_test`: recorded runs are answered from the
    database, bit for bit as they were measured; the others are trained and recorded, each call in
    one transaction. So an interrupted search, begun again, resumes where it stopped. Several
    processes may share a study: they divide the runs of each call, and all have the same answer.

    Args:
        study: A name, for a file in `.lrtune/`; or an SQLAlchemy URL, `sqlite:///file.db` or
            `postgresql+psycopg://user@host/database`, followed by `#NAME` if it holds several.
        task: The task; a study of another task is refused.
        fresh: Start anew; an old study of that name is kept as `NAME~1`.
        force: Treat another task as the same.
        seed: The first seed, for the manifest.
        progress: Called with the stage, the updates done and the total.
        say: Called with a sentence, such as that another process shares the runs.

    Attributes:
        location: Where the study lies.
        known: Whether it existed before.
        checkpoints: The folder of its checkpoints, for an evaluator of your own:
            `study.evaluator(Evaluator(task, checkpoints=study.checkpoints))`.
        evaluate: Trains with the loop engine, and remembers.

    Raises:
        OtherTaskError: The study holds another task, and `force` is not set.
        StudyError: It cannot be opened or written, or is damaged.

    >>> import tempfile, lrtune
    >>> from lrtune.testing import bowl
    >>> where = f"sqlite:///{tempfile.mkdtemp()}/bowl.db"
    >>> first, again = (Study(where, bowl(4.0)) for _ in range(2))
    >>> lr = lrtune.search(bowl(4.0), steps=80, evaluate=first.evaluate).lr
    >>> lrtune.search(bowl(4.0), steps=80, evaluate=again.evaluate).lr == lr
    True
    >>> first.remembered, again.remembered == first.trained, again.trained
    (0, True, 0)
    """

    def __init__(
        self,
        study: str | os.PathLike[str],
        task: Task,
        *,
        fresh: bool = False,
        force: bool = False,
        seed: int | None = None,
        progress: Progress | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        if fresh and force:
            raise ArgumentError("got fresh and force; a new study accepts any task.")
        self.location = study_location(study)
        self._task, self._force, self._say = checked_task(task), force, say or (lambda _: None)
        now = fingerprint(task)
        database = Database(self.location, create=True)
        number, kept, self.known = begin_study(database, now.to_json(), fresh=fresh)
        then = fingerprint_from_json(kept)
        differences = "; ".join(then.differences(now))
        if differences and not force:
            raise OtherTaskError(
                f"the study {str(self.location)!r} was measured on another task. Differences: "
                f"{differences}. {WAYS_OUT}"
            )
        if differences:
            self._say(f"treated as the same task, although it differs: {differences}")
        manifest = {
            **provenance(),
            "seed": "" if seed is None else str(seed),
            "device": str(task.device),
            "fingerprint": now.key,
            "forced": differences,
        }
        self._key = then.key
        self._records = StudyRecords(database, number, json.dumps(manifest))
        self.checkpoints = FolderStore(self.location.checkpoints(number), self._key)
        train = Evaluator(task, progress=progress, checkpoints=self.checkpoints)
        self.evaluate = self.evaluator(train)

    @property
    def remembered(self) -> int:
        """Number of runs that were answered from earlier sessions."""
        return len(self._records.remembered)

    @property
    def shared(self) -> int:
        """Number of runs that other processes trained since this session began."""
        return len({key for key, _ in self._records.shared})

    @property
    def companions(self) -> int:
        """Number of other processes that trained them."""
        return len({session for _, session in self._records.shared})

    @property
    def trained(self) -> int:
        """Number of runs that this session trained; a run that was continued counts once."""
        return len({request.key for request in self._records.trained})

    def evaluator(self, train: Evaluate, engine: str = "loop") -> "StudyEvaluator":
        """An evaluator that calls `train` only for runs that are not recorded yet.

        Args:
            train: Trains runs; it must obey the laws of a cohort.
            engine: The class of the engine that `train` uses. Runs that another class recorded do
                not count, as engines agree up to rounding only. With an engine other than the
                loop, give `decide` to the evaluator:
                `study.evaluator(Evaluator(task, engine="auto", decide=study.decide), "auto")`.
        """
        return StudyEvaluator(
            self._records, train, engine, self._key, self.checkpoints, self._check_seed, self._say
        )

    def record(self, result: Result) -> None:
        """Keep a result, so that a report can be made from the study alone.

        Of the runs that this session asked for, checkpoints are deleted that no result names, but
        for those of runs that can still be continued.
        """
        plain = result.to_dict()
        self._records.add_result(plain["kind"], json.dumps(plain, allow_nan=False))
        self.checkpoints.remove(self._records.unneeded(self.checkpoints.names(parts=True)))

    def decide(self, name: str, make: Callable[[], str]) -> str:
        """A decision that outlives this session: the first one that is made stands for all.

        >>> import tempfile
        >>> from lrtune.testing import bowl
        >>> study = Study(f"sqlite:///{tempfile.mkdtemp()}/bowl.db", bowl())
        >>> study.decide("engine", lambda: "loop"), study.decide("engine", lambda: "vmapped")
        ('loop', 'loop')
        """
        return self._records.first(tables.decisions, {"name": name}, "value", make)

    def _check_seed(self, seed: int) -> None:
        """A seed must begin with the weights and batches that it had when it was first used."""
        now = seed_fingerprint(self._task, seed)
        kept = self._records.first(tables.seeds, {"seed": seed}, "parts", lambda: now)
        if kept != now and not self._force:
            then, new = json.loads(kept), json.loads(now)
            parts = " and ".join(part for part in new if then.get(part) != new[part])
            raise OtherTaskError(
                f"seed {seed} begins with other {parts} than when the study "
                f"{str(self.location)!r} first used it. {WAYS_OUT}"
            )


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
