"""Processes that are killed at any instant: nothing recorded is lost, and the answer stays."""

import os
import random
import signal
import subprocess
import sys
import time
import warnings

import pytest

from lrtune.study.study import Study, StudyEvaluator
from tests.faults.searching import answer, begun, ended, recorded
from tests.planted import without_places
from tests.study.tasks import a_task


@pytest.fixture(scope="module")
def plain():
    """The answer of a search that nothing interrupts, without a study; runs; and its time."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        whole, study = answer(f"sqlite:///{folder}/x.db")
        lasts = min(lasting(f"sqlite:///{folder}/y{n}.db") for n in range(3))
    assert answer()[0] == whole
    return whole, len(study._records.trained), lasts


def lasting(where):
    """Seconds that an uninterrupted search takes."""
    start = time.perf_counter()
    os.waitpid(begun(where), 0)
    return time.perf_counter() - start


def resumed(where, file, plain):
    """Lost results and changed answers after an interruption; and what was trained twice."""
    whole, total, _ = plain
    before = recorded(file)
    again, study = answer(where)
    lost = len(before - recorded(file)) + abs(len(before) + len(study._records.trained) - total)
    return lost, int(again != whole)


ENDS = {
    signal.SIGKILL: "kill -9 at a random instant of a search",
    signal.SIGINT: "Ctrl-C at a random instant of a search",
    signal.SIGTERM: "kill at a random instant of a search",
}


@pytest.mark.parametrize("how", ENDS)
def test_a_search_that_is_ended_at_any_instant_goes_on(tmp_path, plain, tally, times, how):
    often = times(200 if how == signal.SIGKILL else 20, 10 if how == signal.SIGKILL else 2)
    draw, interrupted, tried = random.Random(int(how) + 10), 0, 0
    while interrupted < often:  # on a busy machine some searches end before the signal comes
        file = tmp_path / f"{tried}.db"
        where = f"sqlite:///{file}"
        code = ended(begun(where), draw.uniform(0, 0.95 * plain[2]), how)
        interrupted += code != 0
        tried += 1
        tally(ENDS[how], 1, *resumed(where, file, plain))
        assert tried < 10 * often, "it has to be interrupted, or it shows nothing"


def test_a_search_that_is_killed_again_and_again_goes_on(tmp_path, plain, tally, times):
    """Each attempt lives only for a while: all the same it ends."""
    often, draw = times(5, 1), random.Random(1)
    for n in range(often):
        file, tries = tmp_path / f"{n}.db", 0
        while (
            ended(begun(f"sqlite:///{file}"), draw.uniform(0.1, 0.8) * plain[2]) != 0 and tries < 9
        ):
            tries += 1
        lost, changed = resumed(f"sqlite:///{file}", file, plain)
        tally("kill -9, up to nine times in a row", tries + 1, lost, changed)


def test_of_two_processes_one_is_killed_and_the_other_ends_right(tmp_path, plain, tally, times):
    draw = random.Random(2)
    for n in range(often := times(20, 2)):
        file = tmp_path / f"{n}.db"
        victim, survivor = begun(f"sqlite:///{file}"), begun(f"sqlite:///{file}")
        ended(victim, draw.uniform(0, plain[2]))
        _, status = os.waitpid(survivor, 0)
        broken = os.waitstatus_to_exitcode(status) != 0
        lost, changed = resumed(f"sqlite:///{file}", file, plain)
        tally("kill -9 of one of two processes on one study", 1, lost + broken, changed)
    assert often


@pytest.mark.slow
@pytest.mark.parametrize("times", ["more"], indirect=True)
def test_a_real_command_that_is_killed_goes_on(tmp_path, tally, times):
    """`lrtune search` on the digits, as a user starts it."""
    line = [sys.executable, "-m", "lrtune", "search", "--steps", "40", "--out"]
    where = {"cwd": tmp_path, "capture_output": True}
    start = time.perf_counter()
    subprocess.run([*line, "plain.html", "--no-study"], check=True, **where)
    lasts, draw = time.perf_counter() - start, random.Random(3)
    for n in range(times(5, 1)):
        study = ["--study", f"n{n}"]
        child = subprocess.Popen(
            [*line, "x.html", *study], cwd=tmp_path, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(draw.uniform(0.4, 1.0) * lasts)
        child.kill()
        child.wait()
        before = recorded(tmp_path / ".lrtune" / f"n{n}.db")
        subprocess.run([*line, f"{n}.html", *study], check=True, **where)
        lost = len(before - recorded(tmp_path / ".lrtune" / f"n{n}.db"))
        again, plain = ((tmp_path / f"{name}.html").read_text() for name in (n, "plain"))
        same = without_places(again) == without_places(plain)
        tally("kill -9 of `lrtune search` on the digits", 1, lost, not same)


BEFORE = ["range test", "before", "coarse"]
"""The stages in which there is no answer yet."""
AFTER = [
    "horizons", "current", "fine", "compare: horizons", "compare: rivals", "compare: samples"
]  # fmt: skip
UNPROVEN = ["horizons", "current", "fine"]
"""The short runs of this task learn nothing, and these stages train until something is learned."""


@pytest.fixture
def stages(monkeypatch):
    """The stages that were trained; and a list of those in which Ctrl-C comes."""
    real, seen, strikes = StudyEvaluator._train_and_record, [], []

    def train(evaluator, runs, steps, now, **more):
        seen.append(f"compare: {now}" if now != "fine" and "fine" in seen else now)
        if seen[-1] in strikes:
            raise KeyboardInterrupt
        real(evaluator, runs, steps, now, **more)

    monkeypatch.setattr(StudyEvaluator, "_train_and_record", train)
    return seen, strikes


def test_no_stage_is_forgotten_here(tmp_path, stages):
    answer(f"sqlite:///{tmp_path}/x.db")
    assert set(stages[0]) == {*BEFORE, *AFTER}


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*BEFORE, *AFTER])
def test_ctrl_c_in_each_stage_gives_everything_back(tmp_path, plain, tally, stages, stage):
    """Before anything is learned it passes through; after it, one warning comes with the answer."""
    stages[1].append(stage)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(KeyboardInterrupt):
            answer(f"sqlite:///{tmp_path}/x.db")
    assert stages[0][-1] == stage
    interrupted = sum("was interrupted after" in str(one.message) for one in told)
    assert interrupted == (stage in AFTER and stage not in UNPROVEN)
    stages[1].clear()
    lost, changed = resumed(f"sqlite:///{tmp_path}/x.db", tmp_path / "x.db", plain)
    tally("Ctrl-C in each stage", 1, lost, changed)


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
        ended(begun(f"sqlite:///{file}"), draw.uniform(0, plain[2]))
        tally("a clock that jumps by years", 1, *resumed(f"sqlite:///{file}", file, plain))
    assert often


@pytest.mark.slow
def test_leases_of_the_dead_are_gone_after_opening(tmp_path, plain):
    import sqlite3

    file = tmp_path / "x.db"
    for _ in range(3):
        ended(begun(f"sqlite:///{file}"), 0.5 * plain[2])
    Study(f"sqlite:///{file}", a_task())
    link = sqlite3.connect(file)
    assert link.execute("SELECT count(*) FROM lrtune_leases").fetchone() == (0,)
    link.close()
