"""The study: answers what its database knows, trains the rest, and records it."""

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lrtune.errors import ArgumentError, OtherTaskError, StudyError
from lrtune.results import Result, Trace
from lrtune.results.runs import Run
from lrtune.results.serialization import provenance
from lrtune.study.catalog import begin_study
from lrtune.study.database import Database, study_location
from lrtune.study.evaluator import Call, StudyEvaluator
from lrtune.study.fingerprint import (
    Fingerprint,
    fingerprint,
    fingerprint_from_json,
    run_key,
    schedule_key,
    seed_fingerprint,
)
from lrtune.study.leases import Request, heartbeats
from lrtune.study.run_records import RunRecords, runs_from_trace, trace_from_runs
from lrtune.task.task import Task
from lrtune.training import Evaluate, Evaluator, Progress

POLL = 0.2
"""Seconds between two looks at what another process trains."""

WAYS_OUT = (
    "Use --study with another name; or --fresh, which starts anew and keeps the old study under "
    "another name; or --force, which treats the task as the same."
)

Say = Callable[[str], None]
"""Receives a sentence that a person should read."""


class Study:
    """Everything that was measured on one task, in one database.

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
        retrained: Updates that this session made again, because an interruption had lost the state
            of runs that were to be continued. They are charged to no run.

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
        say: Say | None = None,
    ) -> None:
        """Open the study, begin it if there is none, and compare the task."""
        if fresh and force:
            raise ArgumentError("got fresh and force; a new study accepts any task.")
        self.location = study_location(study)
        self.retrained = 0
        self._remembered, self._trained = set[str](), list[Request]()
        self._task, self._force, self._say = task, force, say or (lambda _: None)
        now = fingerprint(task)
        database = Database(self.location, create=True)
        number, kept, self.known = begin_study(
            database, self.location.name, now.to_json(), fresh=fresh
        )
        then = fingerprint_from_json(kept)
        self._check_task(then, now)
        self._key, self._seeds = then.key, set[int]()
        manifest = {
            **provenance(),
            "seed": "" if seed is None else str(seed),
            "device": str(task.device),
            "fingerprint": now.key,
            "forced": "; ".join(then.differences(now)),
        }
        self._records = RunRecords(database, number, json.dumps(manifest))
        self.evaluate = self.evaluator(Evaluator(task, progress=progress))

    @property
    def remembered(self) -> int:
        """Number of runs that were answered from earlier sessions, or from other processes."""
        return len(self._remembered)

    @property
    def trained(self) -> int:
        """Number of runs that this session trained; a run that was continued counts once."""
        return len({request.key for request in self._trained})

    def evaluator(self, train: Evaluate, engine: str = "loop") -> "StudyEvaluator":
        """An evaluator that calls `train` only for runs that are not recorded yet.

        Args:
            train: Trains runs; it must obey the laws of a cohort.
            engine: The class of the engine that `train` uses. Runs that another class recorded do
                not count, as engines agree up to rounding only. With an engine other than the
                loop, give `decide` to the evaluator:
                `study.evaluator(Evaluator(task, engine="auto", decide=study.decide), "auto")`.
        """
        return StudyEvaluator(self._answer, self._price, train, engine)

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
        made = self._records.decision(name)
        return self._records.decide(name, make()) if made is None else made

    def _check_task(self, then: Fingerprint, now: Fingerprint) -> None:
        differences = "; ".join(then.differences(now))
        if differences and not self._force:
            raise OtherTaskError(
                f"the study {str(self.location)!r} was measured on another task. Differences: "
                f"{differences}. {WAYS_OUT}"
            )
        if differences:
            self._say(f"treated as the same task, although it differs: {differences}")

    def _check_seeds(self, runs: Sequence[Run]) -> None:
        """A seed must begin with the weights and batches that it had when it was first used."""
        for seed in {run.seed for run in runs} - self._seeds:
            now = seed_fingerprint(self._task, seed)
            kept = self._records.seed_parts(seed, now)
            if kept != now and not self._force:
                then, new = json.loads(kept), json.loads(now)
                parts = " and ".join(part for part in new if then.get(part) != new[part])
                raise OtherTaskError(
                    f"seed {seed} begins with other {parts} than when the study "
                    f"{str(self.location)!r} first used it. {WAYS_OUT}"
                )
            self._seeds.add(seed)

    def _answer(self, call: Call) -> Trace:
        """Train what is missing, wait for what other processes train, and answer."""
        self._check_seeds(call.runs)
        requests = self._requests(call)
        wanted = dict(zip(requests, call.runs, strict=True))
        known, earlier = self._records.find(wanted)
        self._remembered |= earlier
        waiting = ""
        try:
            while len(known) < len(wanted):
                missing = [request for request in wanted if request.key not in known]
                mine, others = self._records.allocate(missing)
                if mine:
                    self._train(call, {request: wanted[request] for request in mine})
                elif others:
                    if others[0] != waiting:
                        waiting = others[0]
                        self._say(f"{waiting} trains {len(others)} of these runs: waiting")
                    time.sleep(POLL)
                known, _ = self._records.find(wanted)
        except BaseException:
            call.held.forget_memory()
            with suppress(StudyError):  # the first error is the one that matters
                self._records.release()
            raise
        call.held.update(requests, call.steps, known)
        named = [
            (run.name, run.lr, repr(run.schedule), run.seed, known[request.key])
            for request, run in zip(requests, call.runs, strict=True)
        ]
        return trace_from_runs(named, call.steps, call.until, validate=call.validate)

    def _train(self, call: Call, runs: dict[Request, Run]) -> None:
        """Train these runs, and record all of them at once."""
        part: dict[str, Any] = {} if call.until == call.steps else {"until": call.until}
        with heartbeats(self._records.heartbeat):
            trace = call.train(
                list(runs.values()), call.steps, stage=call.stage, validate=call.validate, **part
            )
        recorded = runs_from_trace(trace, call.until)
        done = {}
        for request, run in runs.items():
            one = recorded[run.name]
            again = min(call.held.lost_steps(request, call.steps), one.cost.updates)
            self.retrained += again
            cost = replace(one.cost, updates=one.cost.updates - again)
            done[request] = run, replace(one, cost=cost)
        self._records.record(done, stage=call.stage, steps=call.steps, engine=call.engine)
        self._trained += runs
        call.held.in_memory |= {request.key for request in runs}

    def _price(self, call: Call) -> list[int]:
        """The most updates that a call would be charged for each run."""
        requests = self._requests(call)
        known, _ = self._records.find(requests)
        new = [place for place, one in enumerate(requests) if one.key not in known]
        prices = [
            known[one.key].cost.updates if one.key in known else call.until for one in requests
        ]
        if new:
            price = getattr(call.train, "price", lambda runs, _, until: [until] * len(runs))
            asked = price([call.runs[place] for place in new], call.steps, call.until)
            for place, updates in zip(new, asked, strict=True):
                lost = call.held.lost_steps(requests[place], call.steps)
                prices[place] = max(0, updates - lost)
        return prices

    def _requests(self, call: Call) -> list[Request]:
        keys: dict[int, str] = {}  # a schedule that many runs share is tabulated once
        requests = []
        for run in call.runs:
            shape = id(run.schedule)
            keys.setdefault(shape, "")
            keys[shape] = keys[shape] or schedule_key(run.schedule, call.steps)
            key = run_key(self._key, run, call.steps, call.engine, keys[shape])
            requests.append(Request(key, call.until, call.validate))
        return requests
