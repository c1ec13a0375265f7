"""The study: answers what its database knows, trains the rest, and records it."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lrtune.analysis.curves import FAILED_OUTCOMES
from lrtune.errors import ArgumentError, OtherTaskError, whole_number
from lrtune.results import Result, Trace
from lrtune.results.runs import Run, checked_runs
from lrtune.results.serialization import provenance
from lrtune.study import tables
from lrtune.study.catalog import begin_study, study_location
from lrtune.study.database import Database
from lrtune.study.fingerprint import (
    fingerprint,
    fingerprint_from_json,
    run_keys,
    seed_fingerprint,
)
from lrtune.study.leases import WHOLE, HeldRuns, Request
from lrtune.study.records import RecordedRun, StudyRecords, runs_from_trace, trace_from_runs
from lrtune.task.task import Task, checked_task
from lrtune.training import Evaluate, Evaluator, Progress

POLL = 0.2
"""Seconds between two looks at what another process trains."""

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
    processes may share a study: each waits for the runs that another one trains.

    Args:
        study: A name, for a file in `.lrtune/`; or an SQLAlchemy URL, `sqlite:///file.db` or
            `postgresql+psycopg://user@host/database`, followed by `#NAME` if it holds several.
        task: The task; a study of another task is refused.
        fresh: Start anew; an old study of that name is kept as `NAME~1`.
        force: Treat another task as the same.
        seed: The first seed, for the manifest.
        progress: Called with the stage, the updates done and the total.
        say: Called with a sentence, such as that another process is waited for.

    Attributes:
        location: Where the study lies.
        known: Whether it existed before.
        evaluate: Trains with the loop engine, and remembers.

    Raises:
        OtherTaskError: The study holds another task, and `force` is not set.
        StudyError: It cannot be opened or written, or is damaged.

    >>> import tempfile, lrtune
    >>> from lrtune.testing import bowl
    >>> where = f"sqlite:///{tempfile.mkdtemp()}/bowl.db"
    >>> first, again = (Study(where, bowl(4.0)) for _ in range(2))
    >>> lr = lrtune.search(bowl(4.0), steps=80, seeds=1, evaluate=first.evaluate).lr
    >>> lrtune.search(bowl(4.0), steps=80, seeds=1, evaluate=again.evaluate).lr == lr
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
        self.evaluate = self.evaluator(Evaluator(task, progress=progress))

    @property
    def remembered(self) -> int:
        """Number of runs that were answered from earlier sessions, or from other processes."""
        return len(self._records.remembered)

    @property
    def trained(self) -> int:
        """Number of runs that this session trained; a run that was continued counts once."""
        return len({request.key for request in self._records.trained})

    @property
    def retrained(self) -> int:
        """Updates made again, as an interruption had lost the runs; they are charged to none."""
        return self._records.retrained

    def evaluator(self, train: Evaluate, engine: str = "loop") -> "StudyEvaluator":
        """An evaluator that calls `train` only for runs that are not recorded yet.

        Args:
            train: Trains runs; it must obey the laws of a cohort.
            engine: The class of the engine that `train` uses. Runs that another class recorded do
                not count, as engines agree up to rounding only. With an engine other than the
                loop, give `decide` to the evaluator:
                `study.evaluator(Evaluator(task, engine="auto", decide=study.decide), "auto")`.
        """
        return StudyEvaluator(self._records, train, engine, self._key, self._check_seed, self._say)

    def record(self, result: Result) -> None:
        """Keep a result, so that a report can be made from the study alone."""
        plain = result.to_dict()
        self._records.add_result(plain["kind"], json.dumps(plain, allow_nan=False))

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
    check_seed: Callable[[int], None]
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        """Hold no run yet."""
        self._held, self._checked_seeds = HeldRuns(continues=self.engine == "loop"), set[int]()

    def __call__(
        self,
        runs: Sequence[Run],
        steps: int,
        *,
        stage: str,
        validate: int | None = None,
        until: int | None = None,
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
        requests = self._requests(runs, steps, end, validate)
        try:
            known = self._complete(dict(zip(requests, runs, strict=True)), steps, stage)
        except BaseException:
            self._held.in_memory.clear()  # the evaluator continues none after an error
            self.records.leases.release()
            raise
        live = {key for key, one in known.items() if one.outcome not in FAILED_OUTCOMES}
        self._held.update(requests, steps, live)
        named = [
            (run.name, run.lr, repr(run.schedule), run.seed, known[request.key])
            for request, run in zip(requests, runs, strict=True)
        ]
        return trace_from_runs(named, steps, end, validate=validate != 0)

    def price(self, runs: Sequence[Run], steps: int, until: int) -> list[int]:
        """The most updates that a call would be charged for each run; see `Evaluate`."""
        requests = self._requests(runs, steps, until, 0)
        known = self.records.find(requests)
        wanted = dict(zip(requests, runs, strict=True))
        new = {request: run for request, run in wanted.items() if request.key not in known}
        prices = {key: one.cost.updates for key, one in known.items()}
        if new:
            price = getattr(self.train, "price", lambda some, *_: [until] * len(some))
            asked = price(list(new.values()), steps, until)
            for request, updates in zip(new, asked, strict=True):
                prices[request.key] = max(0, updates - self._held.lost_steps(request, steps))
        return [prices[request.key] for request in requests]

    def _complete(
        self, wanted: Mapping[Request, Run], steps: int, stage: str
    ) -> dict[str, RecordedRun]:
        """Train what is missing, and wait for what other processes train."""
        waiting_for = ""
        while len(known := self.records.find(wanted, count=True)) < len(wanted):
            missing = [request for request in wanted if request.key not in known]
            mine, others = self.records.allocate(missing)
            if mine:
                self._train_and_record({one: wanted[one] for one in mine}, steps, stage)
            elif others:
                if others[0] != waiting_for:
                    waiting_for = others[0]
                    self.say(f"{waiting_for} trains {len(others)} of these runs: waiting")
                time.sleep(POLL)
        return known

    def _train_and_record(self, runs: Mapping[Request, Run], steps: int, stage: str) -> None:
        """Train these runs, and record all of them at once."""
        until, validated = next((one.until, one.validated) for one in runs)
        validate = None if validated == WHOLE else validated
        part: dict[str, Any] = {} if until == steps else {"until": until}
        with self.records.leases.heartbeats():
            trace = self.train(list(runs.values()), steps, stage=stage, validate=validate, **part)
        recorded = runs_from_trace(trace, until)
        done = {}
        for request, run in runs.items():
            one = recorded[run.name]
            again = min(self._held.lost_steps(request, steps), one.cost.updates)
            self.records.retrained += again
            cost = replace(one.cost, updates=one.cost.updates - again)
            done[request] = run, replace(one, cost=cost)
        self.records.record(done, stage=stage, steps=steps, engine=self.engine)
        self._held.in_memory |= {request.key for request in runs}

    def _requests(
        self, runs: Sequence[Run], steps: int, until: int, validate: int | None
    ) -> list[Request]:
        keys = run_keys(self.task, runs, steps, self.engine)
        return [Request(key, until, WHOLE if validate is None else validate) for key in keys]
