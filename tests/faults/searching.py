"""A search in a process of its own, which can be killed; and what it has left behind."""

import os
import signal
import sqlite3
import time
from pathlib import Path

from lrtune import compare, range_test, search
from lrtune.study.study import Study
from tests.study.tasks import a_task

SETTINGS = {"steps": 16, "seeds": 2}


def answer(where=None, task=None, **more):
    """What a search with a study ends with, as text; without one where there is none."""
    task = task or a_task()
    study = Study(where, task, **more) if where else None
    evaluate = study.evaluate if study else None
    sweep = range_test(task, steps=12, seeds=1, evaluate=evaluate)
    found = search(task, **SETTINGS, evaluate=evaluate)
    ranked = compare(task, found.lr, schedules=["step"], samples=1, **SETTINGS, evaluate=evaluate)
    told = [sweep, found, ranked]
    for one in told if study else ():
        study.record(one)
    return [one.to_json() for one in told], study


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
