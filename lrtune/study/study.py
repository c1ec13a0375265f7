"""Study: an evaluator that answers what its database knows, and records what is new."""

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from lrtune.errors import ArgumentError, OtherTaskError, StudyError
from lrtune.results import Result, Trace
from lrtune.results.manifest import provenance
from lrtune.results.runs import Run, checked_runs, whole
from lrtune.study import tables
from lrtune.study.database import Database
from lrtune.study.fingerprint import Fingerprint, fingerprint, from_json, of_seed
from lrtune.study.keys import run_key, schedule_key
from lrtune.study.leases import Want, beating
from lrtune.study.location import place
from lrtune.study.recorded_run import from_trace, to_trace
from lrtune.study.run_records import Ledger, Setting, Share, enter
from lrtune.task.task import Task
from lrtune.training import Evaluate, Evaluator, Progress

POLL = 0.2
"""Seconds between two looks at what another process trains."""

THREE_WAYS = (
    "Three ways on: --study with another name; --fresh, which begins anew and keeps what is there "
    "under another name; --force, which takes it for the same task."
)

Say = Callable[[str], None]
"""Told, in words, what a person should know."""


class Study:
    """Everything that was measured on one task, in one database.

    Hand its `evaluate` to any verb: what the database knows is answered from it, bit for bit as it
    was measured, and what is new is trained and recorded, each call in one transaction. So what
    was interrupted, by whatever, is begun again and goes on where it stopped. Several processes
    may share a study: what one trains the others wait for.

    Args:
        study: A name, for a file in `.lrtune/`; or an SQLAlchemy URL, `sqlite:///file.db` or
            `postgresql+psycopg://user@host/database`, with `#NAME` where it holds several.
        task: What is trained; the study is refused when it was begun with another.
        fresh: Begin anew; what is there is kept as `NAME~1`.
        force: Take another task for the same.
        seed: The first seed, for the manifest.
        progress: Told the stage, the updates done and the total.
        say: Told what a person should know, such as that another process is waited for.

    Attributes:
        known: Whether it was there before.

    Raises:
        OtherTaskError: The study holds another task, and `force` was not said.
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
        """Open it, make it where there is none, and compare the task."""
        if fresh and force:
            raise ArgumentError("got fresh and force; a study that begins anew fits any task.")
        self.place = place(study)
        self._trained, self._remembered = list[Want](), set[str]()
        self._task, self._force, self._say = task, force, say or _silent
        now = fingerprint(task)
        database = Database(self.place, make=True)
        self._ledger, kept, self.known = enter(
            database, self.place.name, now.to_json(), fresh=fresh
        )
        then = from_json(kept)
        self._compare(then, now)
        self._key, self._seeds = then.key, set[int]()
        self._ledger.open_session(
            json.dumps(
                {
                    **provenance(),
                    "seed": "" if seed is None else str(seed),
                    "device": str(task.device),
                    "fingerprint": now.key,
                    "forced": "; ".join(then.differences(now)),
                }
            )
        )
        self.evaluate = self.remembering(Evaluator(task, progress=progress))

    @property
    def remembered(self) -> int:
        """Runs that were answered from what earlier sessions recorded."""
        return len(self._remembered)

    @property
    def trained(self) -> int:
        """Runs that were trained in this session, each counted once however often it went on."""
        return len({want.key for want in self._trained})

    def remembering(self, train: Evaluate, engine: str = "loop") -> Evaluate:
        """An evaluator that asks `train` for what this study does not know yet.

        Args:
            train: Trains runs; it must obey the laws of a cohort.
            engine: The class of the engine that `train` uses: what another class recorded is not
                taken for an answer, as they agree up to rounding only. With another than the
                loop, hand `decide` to the evaluator:
                `remembering(Evaluator(task, engine="auto", decide=study.decide), "auto")`.
        """

        def evaluate(
            runs: Sequence[Run],
            steps: int,
            *,
            stage: str,
            validate: bool = True,
            until: int | None = None,
        ) -> Trace:
            setting = Setting(stage, whole("steps", steps, least=1), engine)
            return _Call(self, train, checked_runs(runs), setting).answer(
                end=steps if until is None else until, validate=validate
            )

        return evaluate

    def record(self, result: Result) -> None:
        """Keep a conclusion, so that a report can be made of the study alone."""
        plain = result.to_dict()
        self._ledger.add_result(plain["kind"], json.dumps(plain, allow_nan=False))

    def decide(self, name: str, make: Callable[[], str]) -> str:
        """A decision that outlives this session: the first that was made stands, for everybody.

        >>> import tempfile
        >>> from lrtune.testing import bowl
        >>> study = Study(f"sqlite:///{tempfile.mkdtemp()}/bowl.db", bowl())
        >>> study.decide("engine", lambda: "loop"), study.decide("engine", lambda: "vmapped")
        ('loop', 'loop')
        """
        made = self._ledger.decided(name)
        return (
            self._ledger.first(tables.decisions, {"name": name}, make()) if made is None else made
        )

    def _compare(self, then: Fingerprint, now: Fingerprint) -> None:
        differing = then.differences(now)
        if differing and not self._force:
            raise OtherTaskError(
                f"the study {str(self.place)!r} holds what was measured on another task. What "
                f"differs: {'; '.join(differing)}. {THREE_WAYS}"
            )
        if differing:
            self._say(f"taken for the same task, though it differs: {'; '.join(differing)}")

    def _check_seeds(self, runs: Sequence[Run]) -> None:
        """A seed has to begin as it did when the study first saw it."""
        for seed in {run.seed for run in runs} - self._seeds:
            now = of_seed(self._task, seed)
            kept = self._ledger.first(tables.seeds, {"seed": seed}, now)
            if kept != now and not self._force:
                then, new = json.loads(kept), json.loads(now)
                parts = [part for part in new if then.get(part) != new[part]]
                raise OtherTaskError(
                    f"seed {seed} begins with other {' and '.join(parts)} than when the study "
                    f"{str(self.place)!r} first used it. {THREE_WAYS}"
                )
            self._seeds.add(seed)


class _Call:
    """One call of an evaluator."""

    def __init__(self, study: Study, train: Evaluate, runs: list[Run], setting: Setting) -> None:
        self._study, self._train, self._runs, self._setting = study, train, runs, setting
        self._ledger: Ledger = study._ledger  # noqa: SLF001 - one class in two
        self._waiting = ""

    def answer(self, end: int, *, validate: bool) -> Trace:
        """Train what is missing and not being trained; wait for the rest; answer."""
        if not 1 <= end <= self._setting.steps:
            raise ArgumentError(
                f"until={end} lies outside 1 ... {self._setting.steps}, the horizon."
            )
        study = self._study
        study._check_seeds(self._runs)  # noqa: SLF001
        keys = self._keys()
        wants = {Want(key, end, validate): run for key, run in zip(keys, self._runs, strict=True)}
        known = self._ledger.known(wants)
        old = set(known) - self._ledger.new_here(wants)
        study._remembered |= old  # noqa: SLF001
        try:
            while len(known) < len(wants):
                missing = {want: run for want, run in wants.items() if want.key not in known}
                share = self._ledger.claim(missing, self._setting)
                if share.mine:
                    self._train_mine(wants, share)
                elif share.theirs:
                    self._wait(share.theirs)
                known = self._ledger.known(wants)
        except BaseException:
            with suppress(StudyError):  # what went wrong first is what matters
                self._ledger.release()
            raise
        rungs = [known[key] for key in keys]
        return to_trace(self._runs, rungs, self._setting.steps, end, validate=validate)

    def _wait(self, others: list[str]) -> None:
        """Another process trains what we want: tell it once, and look again soon."""
        if others[0] != self._waiting:
            self._waiting = others[0]
            self._study._say(f"{others[0]} trains {len(others)} of these runs: waiting")  # noqa: SLF001
        time.sleep(POLL)

    def _train_mine(self, wants: dict[Want, Run], share: Share) -> None:
        """Train what was claimed, and record all of it at once."""
        mine = {want: run for want, run in wants.items() if want.key in share.mine}
        end, validate = next(iter(mine))[1:]
        part: dict[str, Any] = {} if end == self._setting.steps else {"until": end}
        with beating(self._ledger.beat):
            trace = self._train(
                list(mine.values()),
                self._setting.steps,
                stage=self._setting.stage,
                validate=validate,
                **part,
            )
        rungs = from_trace(trace, end)
        done = {want: (run, rungs[run.name]) for want, run in mine.items()}
        self._ledger.record(done, share, self._setting)
        self._study._trained += mine  # noqa: SLF001

    def _keys(self) -> list[str]:
        schedules: dict[int, str] = {}
        for run in self._runs:
            if id(run.schedule) not in schedules:
                schedules[id(run.schedule)] = schedule_key(run.schedule, self._setting.steps)
        task = self._study._key  # noqa: SLF001
        return [
            run_key(
                task, run, self._setting.steps, self._setting.engine, schedules[id(run.schedule)]
            )
            for run in self._runs
        ]


def _silent(_text: str) -> None:
    """Nobody wants to know."""
