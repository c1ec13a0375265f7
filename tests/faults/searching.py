"""A search in a process of its own, which can be killed; and what it has left behind."""

import os
import signal
import sqlite3
import time
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from lrtune import compare, range_test, search
from lrtune.study.study import Study
from tests.planted import without_checkpoints
from tests.study.tasks import a_task

SETTINGS = {"steps": 80, "budget": 4.6, "current": (0.1, "cosine")}
SHORT = {
    "lrtune.tuning.planning.COARSE": 80,
    "lrtune.tuning.planning.LEAST_HORIZON": 8,
    "lrtune.tuning.experiment.LONG": 40,
}
"""With these a short training has all stages of a long one, and is recorded in parts as well."""


def answer(where=None, task=None, **more):
    """What a search with a study ends with, as text; without one where there is none.

    Raises:
        KeyboardInterrupt: Ctrl-C came, even where the verb returned the best so far.
    """
    task = task or a_task()
    study = Study(where, task, **more) if where else None
    evaluate = study.evaluate if study else None
    rivals = {"schedules": ["step"], "samples": 1, "seeds": 2, "budget": 6, "evaluate": evaluate}
    with in_short():
        sweep = range_test(task, steps=12, seeds=1, evaluate=evaluate)
        found = whole(search(task, **SETTINGS, evaluate=evaluate))
        with patch("lrtune.tuning.contest_plan.LEAST_HORIZON", 8):
            chosen = whole(compare(task, found, **rivals))
        ranked = whole(compare(task, found, **rivals))
    told = [sweep, found, chosen, ranked]
    for one in told if study else ():
        study.record(one)
    return [without_checkpoints(one) for one in told], study


@contextmanager
def in_short():
    """Within this block a short training is searched as a long one is."""
    with ExitStack() as patches:
        for name, value in SHORT.items():
            patches.enter_context(patch(name, value))
        yield


def whole(result):
    """The result, if it was not interrupted."""
    if result.stopped == "interrupted":
        raise KeyboardInterrupt
    return result


def begun(where, **more):
    """Start a search in a process of its own; returns its number."""
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
        warnings.simplefilter("ignore")  # that it was interrupted, is no error
        signal.signal(signal.SIGINT, signal.default_int_handler)
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
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def recorded(file):
    """Every recorded run, with its checksum."""
    if not Path(file).exists():
        return set()
    link = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return set(link.execute("SELECT id, key, until, validated, checksum FROM lrtune_runs"))
    finally:
        link.close()
