"""Processes that are killed at any instant: nothing recorded is lost, and the answer stays."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections import Counter
from typing import NamedTuple

import pytest
import torch

from lrtune.study.contents import open_study
from lrtune.study.study import Study
from lrtune.task.value_texts import value_texts
from tests.faults.searching import (
    MADE,
    STEPS,
    Answer,
    answer,
    begun,
    code_of,
    ended,
    recorded,
    resumed,
)
from tests.planted import without_places
from tests.study.tasks import a_task

AT_ONCE = {"current": 1, "fine": 2, "rivals": 2}
"""Whole trainings that go on side by side; each has a checkpoint at half its way."""
UNANSWERED = ("range test", "before", "coarse")
STAGES = (*UNANSWERED, "horizons", "current", "fine", "samples", "rivals")


class Whole(NamedTuple):
    """What a session ends with that nothing interrupts, and what it took."""

    answer: Answer
    updates: int
    strokes: Counter  # updates of the cohorts in each stage
    seconds: float


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A session that nothing interrupts; without a study, it ends with the same."""
    folder, strokes = tmp_path_factory.mktemp("plain"), Counter()
    before = MADE.value
    whole = answer(f"sqlite:///{folder}/x.db", strike=lambda stage: strokes.update([stage]))
    made = MADE.value - before
    alone = answer()
    assert (alone.texts, alone.weights) == (whole.texts, whole.weights)
    assert strokes.keys() == set(STAGES)
    lasts = min(lasting(f"sqlite:///{folder}/y{n}.db") for n in range(3))
    return Whole(whole, made, strokes, lasts)


def lasting(where):
    """Seconds that an uninterrupted session takes."""
    start = time.perf_counter()
    assert code_of(begun(where)) == 0
    return time.perf_counter() - start


def striking(at, nth, strike):
    """Something that strikes before the n-th update of a stage."""
    seen = Counter()

    def called(stage):
        seen[stage] += 1
        if (stage, seen[stage]) == (at, nth):
            strike()

    return called


def killed():
    """End this process as a kill does, without any farewell."""
    os.kill(os.getpid(), signal.SIGKILL)


def interrupted():
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


ENDS = {
    signal.SIGKILL: "kill -9 at a random instant of a search",
    signal.SIGINT: "Ctrl-C at a random instant of a search",
    signal.SIGTERM: "kill at a random instant of a search",
}


@pytest.mark.parametrize("how", ENDS)
def test_a_search_that_is_ended_at_any_instant_goes_on(tmp_path, plain, tally, times, how):
    often = times(200 if how == signal.SIGKILL else 20, 10 if how == signal.SIGKILL else 2)
    draw, stopped, tried = random.Random(int(how) + 10), 0, 0
    while stopped < often:  # on a busy machine some searches end before the signal comes
        file = tmp_path / f"{tried}.db"
        where = f"sqlite:///{file}"
        code = ended(begun(where), draw.uniform(0, 0.95 * plain.seconds), how)
        stopped += code != 0
        tried += 1
        tally(ENDS[how], 1, *resumed(file, plain.answer))
        assert tried < 5 * often, "it has to be interrupted, or it shows nothing"


def test_a_search_that_is_killed_again_and_again_goes_on(tmp_path, plain, tally, times):
    """Each attempt lives only for a while: all the same it ends."""
    often, draw = times(5, 1), random.Random(1)
    for n in range(often):
        file, tries = tmp_path / f"{n}.db", 0
        where = f"sqlite:///{file}"
        while tries < 9 and ended(begun(where), draw.uniform(0.1, 0.8) * plain.seconds) != 0:
            tries += 1
        lost, changed = resumed(file, plain.answer)
        tally("kill -9, up to nine times in a row", tries + 1, lost, changed)


def test_of_two_processes_one_is_killed_and_the_other_ends_right(tmp_path, plain, tally, times):
    draw = random.Random(2)
    for n in range(often := times(20, 2)):
        file = tmp_path / f"{n}.db"
        victim, survivor = begun(f"sqlite:///{file}"), begun(f"sqlite:///{file}")
        ended(victim, draw.uniform(0, plain.seconds))
        broken = code_of(survivor) != 0
        lost, changed = resumed(file, plain.answer)
        tally("kill -9 of one of two processes on one study", 1, lost + broken, changed)
    assert often


@pytest.mark.slow
@pytest.mark.parametrize("times", ["more"], indirect=True)
def test_a_real_command_that_is_killed_goes_on(tmp_path, tally, times):
    """`lrtune search` on the digits, as a user starts it; its page and its model."""

    def line(name, *more):
        files = ["--out", f"{name}.html", "--save", f"{name}.pt"]
        return [sys.executable, "-m", "lrtune", "search", "--steps", "1000", *files, *more]

    def made(name):
        saved = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        return without_places((tmp_path / f"{name}.html").read_text()), [*value_texts(saved)]

    where, quiet = {"cwd": tmp_path}, {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start = time.perf_counter()
    subprocess.run(line("plain", "--no-study"), check=True, **where, **quiet)
    lasts, draw = time.perf_counter() - start, random.Random(3)
    for n in range(times(5, 1)):
        again = line(f"n{n}", "--study", f"n{n}")
        child = subprocess.Popen(again, **where, **quiet)
        time.sleep(draw.uniform(0.4, 1.0) * lasts)
        child.kill()
        child.wait()
        before = recorded(tmp_path / ".lrtune" / f"n{n}.db")
        subprocess.run(again, check=True, **where, **quiet)
        lost = len(before - recorded(tmp_path / ".lrtune" / f"n{n}.db"))
        changed = made(f"n{n}") != made("plain")
        tally("kill -9 of `lrtune search` on the digits", 1, lost, changed)


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_in_each_stage_costs_at_most_half_a_training(tmp_path, plain, tally, times, stage):
    """Of each run that was being trained, where it is a whole one; short runs begin anew."""
    draw = random.Random(stage)
    for n in range(times(20, 2)):
        file, before = tmp_path / f"{n}.db", MADE.value
        strike = striking(stage, draw.randint(1, plain.strokes[stage]), killed)
        child = begun(f"sqlite:///{file}", strike=strike)
        assert code_of(child) == -signal.SIGKILL
        lost, changed = resumed(file, plain.answer)
        twice = MADE.value - before - plain.updates
        lost += not 0 <= twice <= AT_ONCE.get(stage, 2) * STEPS / 2
        tally("kill -9 at a random update of each stage", 1, lost, changed)


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_in_each_stage_gives_what_there_is_and_the_rest_later(
    tmp_path, plain, tally, times, stage
):
    """After the first answer a search or comparison ends with its best so far, and says so."""
    draw = random.Random(stage)
    for n in range(times(5, 1)):
        file = tmp_path / f"{n}.db"
        strike = striking(stage, draw.randint(1, plain.strokes[stage]), interrupted)
        with warnings.catch_warnings(record=True, action="always") as told:  # noqa: SIM117
            with pytest.raises(KeyboardInterrupt):
                answer(f"sqlite:///{file}", strike=strike)
        ends = [getattr(one, "stopped", "") for one in open_study(f"sqlite:///{file}").results]
        assert ("interrupted" in ends) == (stage not in UNANSWERED)
        assert len(told) == ends.count("interrupted") == ends[-1:].count("interrupted")
        assert all("was interrupted after" in str(one.message) for one in told)
        tally("Ctrl-C in each stage", 1, *resumed(file, plain.answer))


def test_a_clock_that_jumps_changes_nothing(tmp_path, plain, tally, times, monkeypatch):
    """Hours and years, forwards and backwards, while a search runs and is killed."""
    import datetime as dt

    from lrtune.results import serialization
    from lrtune.study import catalog

    draw = random.Random(4)

    class Jumping(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return dt.datetime(draw.randint(1980, 2090), draw.randint(1, 12), 3, tzinfo=tz)

    for module in (catalog, serialization):
        monkeypatch.setattr(module, "datetime", Jumping)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + draw.uniform(-1e9, 1e9))
    for n in range(often := times(15, 2)):
        file = tmp_path / f"{n}.db"
        ended(begun(f"sqlite:///{file}"), draw.uniform(0, plain.seconds))
        tally("a clock that jumps by years", 1, *resumed(file, plain.answer))
    assert often


def test_leases_of_the_dead_are_gone_after_opening(tmp_path, plain):
    file = tmp_path / "x.db"
    for _ in range(3):
        ended(begun(f"sqlite:///{file}"), 0.5 * plain.seconds)
    Study(f"sqlite:///{file}", a_task())
    link = sqlite3.connect(file)
    assert link.execute("SELECT count(*) FROM lrtune_leases").fetchone() == (0,)
    link.close()
