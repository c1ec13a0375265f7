"""A search in a process of its own, which can be killed; and what it has left behind."""

import contextlib
import multiprocessing
import os
import signal
import sqlite3
import time
import warnings
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from lrtune import compare, range_test, search
from lrtune.results import ComparisonResult, RangeTestResult, SearchResult
from lrtune.study.study import Study
from lrtune.task.value_texts import value_texts
from lrtune.training.cohort import Cohort
from lrtune.tuning import contest_plan, experiment, planning
from tests.planted import without_checkpoints
from tests.study.tasks import a_task

STEPS = 64
MADE = multiprocessing.Value("q", 0)
"""The updates that were made by this process, and by those that it has forked."""


class Answer(NamedTuple):
    """What a session ends with; the study is None where there was none."""

    sweep: RangeTestResult
    found: SearchResult
    ranked: ComparisonResult
    sampled: ComparisonResult
    study: Study | None

    @property
    def texts(self):
        """All results."""
        return [without_checkpoints(one) for one in self[:4]]

    @property
    def runs_trained(self):
        """How many runs were recorded, each as often as it was continued."""
        return len(self.study._records.trained)

    @property
    def weights(self):
        """The best checkpoints, as texts that tell any bit from any other."""
        return [list(value_texts(one.checkpoint())) for one in self[1:4]]


def answer(where=None, task=None, strike=lambda _stage: None):
    """A session with all stages: in a study; without one where there is no place for it.

    As a command, it ends with a result that Ctrl-C has ended. `strike` is called with the stage
    before each update.
    """
    task = task or a_task()
    study = Study(where, task) if where else None
    evaluate = study.evaluate if study else None

    def kept(result):
        if study is not None:
            study.record(result)
        if getattr(result, "stopped", "") == "interrupted":
            raise KeyboardInterrupt
        return result

    with in_small(), counted(strike):
        sweep = kept(range_test(task, steps=12, seeds=1, evaluate=evaluate))
        found = kept(
            search(
                task, steps=STEPS, budget=4.8, current=(0.05, "cosine"), min_gain=0.0,
                evaluate=evaluate,
            )
        )  # fmt: skip
        several = {"schedules": ["step"], "samples": 1, "seeds": 2, "evaluate": evaluate}
        ranked = kept(compare(task, found, budget=6.0, **several))
        sampled = kept(compare(task, found.lr, steps=16, budget=9.0, **several))
    return Answer(sweep, found, ranked, sampled, study)


def resumed(file, whole, *, models=True):
    """Lost results and changed answers when a session goes on that was ended in any way.

    With `models`, also if a best model changed, or is gone.
    """
    before = recorded(file)
    again = answer(f"sqlite:///{file}")
    lost = len(before - recorded(file))
    lost += abs(len(before) + again.runs_trained - whole.runs_trained)
    changed = again.texts != whole.texts or (models and again.weights != whole.weights)
    return lost, int(changed)


@contextlib.contextmanager
def in_small():
    """Trainings of some dozen steps are long: they come in parts, and horizons are worth it."""
    with (
        mock.patch.object(planning, "COARSE", 70),
        mock.patch.object(planning, "LEAST_HORIZON", 8),
        mock.patch.object(contest_plan, "LEAST_HORIZON", 8),
        mock.patch.object(experiment, "LONG", STEPS),
    ):
        yield


@contextlib.contextmanager
def counted(strike):
    """Count every update in `MADE`, and call `strike` with its stage before it."""
    update = Cohort._update

    def counting(cohort):
        strike(cohort._stage)
        update(cohort)
        MADE.value += len(cohort.live)

    with mock.patch.object(Cohort, "_update", counting):
        yield


def begun(where, **more):
    """Start a session in a process of its own; returns its number."""
    return forked(lambda: answer(where, **more))


def forked(do):
    """Do something in a process of its own; returns its number."""
    child = os.fork()
    if child:
        return child
    code = 3
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        warnings.simplefilter("ignore")  # of Ctrl-C
        do()
        code = 0
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def ended(child, after, how=signal.SIGKILL):
    """Send a signal after so many seconds; returns what the process ended with."""
    time.sleep(after)
    os.kill(child, how)
    return code_of(child)


def code_of(child):
    """What a process ends with."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def recorded(file):
    """Every recorded run, with its checksum."""
    if not Path(file).exists():
        return set()
    link = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return set(link.execute("SELECT id, key, until, validated, checksum FROM lrtune_runs"))
    finally:
        link.close()
