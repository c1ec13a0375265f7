"""The study: answers what its database knows, trains the rest, and records it."""

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import replace

from lrtune.errors import ArgumentError, OtherTaskError, shown
from lrtune.results import Result
from lrtune.results.serialization import Serializable, provenance
from lrtune.study import tables
from lrtune.study.catalog import BegunStudy, begin_study, find_study, study_location
from lrtune.study.database import Database
from lrtune.study.evaluator import StudyEvaluator
from lrtune.study.fingerprint import fingerprint, seed_fingerprint, task_key
from lrtune.study.identity import fingerprint_from_json, seed_differences
from lrtune.study.records import StudyRecords
from lrtune.task.task import Task, checked_task
from lrtune.training import Evaluate, Evaluator, Progress, refuse_other_task
from lrtune.training.checkpoint_stores import FolderStore


def place_of_study(study: str | os.PathLike[str], task: Task) -> str:
    """Where the study of this name and task lies, as `--study` takes it; none is begun.

    Raises:
        UnknownStudyError: There is none of this name.
        OtherTaskError: It is of another task.
    """
    database, now = Database(study_location(study), create=False), fingerprint(task)
    name = find_study(database, lambda kept: fingerprint_from_json(kept).differences(now))
    return str(replace(database.location, name=name))


class Study:
    """The runs that were trained on one task, in a database, so that none is trained twice.

    Hand its `evaluate` to `search`, `compare` or `range_test`: recorded runs are answered from the
    database, bit for bit as they were measured; the others are trained and recorded, each call in
    one transaction. So an interrupted search, begun again, resumes where it stopped. Several
    processes may share a study: they divide the runs of each call, and all have the same answer.

    Args:
        study: A name, for a file in `.lrtune/`; or an SQLAlchemy URL, `sqlite:///file.db` or
            `postgresql+psycopg://user@host/database`, followed by `#NAME` if it holds several.
        task: The task. Where the study of that name is of another task, a new one begins, and the
            old one is kept as `NAME~1`; it goes on when the task is the same again.
        fresh: Start anew; an old study of that name is kept in the same way.
        seed: The first seed, for the manifest.
        progress: Called with the stage, the updates done and the total.
        say: Called with a sentence, such as that a new study begins, and what has changed. When
            None, that one is a warning.

    Attributes:
        location: Where the study lies; its name may be `NAME~1`.
        known: Whether it existed before.
        checkpoints: The folder of its checkpoints, for an evaluator of your own:
            `study.evaluator(Evaluator(task, checkpoints=study.checkpoints))`.
        evaluate: Trains with the loop engine, and remembers.

    Raises:
        OtherTaskError: The study was named as `NAME~1`, and is of another task.
        StudyError: It cannot be opened or written, or is damaged.

    >>> import tempfile, lrtune
    >>> from lrtune.testing import bowl
    >>> where = f"sqlite:///{tempfile.mkdtemp()}/bowl.db"
    >>> first = Study(where, bowl(4.0))
    >>> lr = lrtune.search(bowl(4.0), steps=80, evaluate=first.evaluate).lr
    >>> again = Study(where, bowl(4.0))
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
        seed: int | None = None,
        progress: Progress | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        if isinstance(study, Task):
            raise ArgumentError(
                f"study is a Task and task is {shown(task)}; expected a name or URL, then the "
                'task. Swap them: Study("name", task).'
            )
        self._task, self._say = checked_task(task), say
        now = fingerprint(task)
        database = Database(study_location(study), create=True)
        begun = begin_study(
            database,
            now.to_json(),
            lambda kept: fingerprint_from_json(kept).differences(now),
            fresh=fresh,
        )
        asked, self.known = str(database.location), begun.known
        self.location = replace(database.location, name=begun.name)
        self._say_what_begins(begun, asked)
        manifest = {
            **provenance(),
            "seed": "" if seed is None else str(seed),
            "device": str(task.device),
            "fingerprint": task_key(now),
        }
        self._key = task_key(fingerprint_from_json(begun.task))
        self._records = StudyRecords(database, begun.number, json.dumps(manifest))
        self.checkpoints = FolderStore(self.location.checkpoints(begun.number), self._key)
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

        Raises:
            ArgumentError: `train` is an evaluator of another task.
        """
        refuse_other_task(self._task, train)
        return StudyEvaluator(
            self._records, train, engine, self._key, self.checkpoints, self._check_seed,
            self._say or (lambda _: None), self._task,
        )  # fmt: skip

    def record(self, result: Result) -> None:
        """Keep a result, so that a report can be made from the study alone.

        Of the runs that this session asked for, checkpoints are deleted that no result names, but
        for those of runs that can still be continued.
        """
        if not isinstance(result, Serializable):
            raise ArgumentError(
                f"result is {shown(result)}; expected what lrtune.search, compare, range_test or "
                "train has returned. Give that."
            )
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

    def _say_what_begins(self, begun: BegunStudy, asked: str) -> None:
        """Say which study this is, where it is not simply the one of that name."""
        if begun.differences:
            earlier = replace(self.location, name=begun.earlier)
            words = (
                f"The task has changed, so a new study begins; the earlier one is kept as "
                f"{earlier}. Differences: {'; '.join(begun.differences)}."
            )
            if self._say is None:
                warnings.warn(words, stacklevel=3)
            else:
                self._say(words)
        elif self._say is not None and str(self.location) != asked:
            self._say(f"The study {self.location} is of this task, and goes on.")

    def _check_seed(self, seed: int) -> None:
        """A seed must begin with the weights and batches that it had when it was first used."""
        now = seed_fingerprint(self._task, seed)
        kept = self._records.first(tables.seeds, {"seed": seed}, "parts", lambda: now)
        if parts := seed_differences(kept, now):
            raise OtherTaskError(
                f"seed {seed} begins with other {' and '.join(parts)} than when the study "
                f"{str(self.location)!r} first used it, though the task is the same otherwise. "
                "Start a new study with --fresh (in Python, fresh=True), which keeps this one."
            )
