"""Long runs in segments that are killed at any instant go on; files that break cost little."""

import os
import random
import subprocess
import time
import warnings
from pathlib import Path

import pytest

from lrtune.study.study import Study
from lrtune.task.value_texts import value_texts
from tests.faults.searching import ended, forked, recorded
from tests.study import test_study_checkpoints as segments
from tests.study.tasks import a_task

SCALE = 25  # times as long as in the tests of studies, so that a kill strikes within a segment
HORIZON = segments.STEPS * SCALE
RUNS = segments.RUNS[:3]


def long_runs(folder):
    """All segments of three long runs: traces, what trained, study, evaluator."""
    return segments.session(f"sqlite:///{folder}/x.db", runs=RUNS, scale=SCALE)


def end_of(traces, evaluate):
    """The checkpoints that a session ends with, as texts that tell any bit from any other."""
    names = segments.names_of(traces[-1]).values()
    return [list(value_texts(evaluate.checkpoint(name))) for name in names]


def files(folder):
    return sorted(Path(folder).glob("*.checkpoints/*/*"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What nothing interrupts: its traces, its checkpoints, and how many seconds it takes."""
    folder = tmp_path_factory.mktemp("whole")
    traces, _, _, evaluate = long_runs(folder)
    lasts = []
    for n in range(3):
        (folder / str(n)).mkdir()
        start = time.perf_counter()
        os.waitpid(forked(lambda n=n: long_runs(folder / str(n))), 0)
        lasts.append(time.perf_counter() - start)
    return traces, end_of(traces, evaluate), min(lasts)


def steps_of(folder):
    """The step of each run's newest checkpoint."""
    found = {}
    for file in files(folder):
        key, _, step = file.stem.partition("-")
        if file.suffix == ".pt":
            found[key] = max(found.get(key, 0), int(step))
    return found


def resumed(folder, whole, *, exact=True):
    """Recorded runs that were lost, and whether an answer changed, after an interruption.

    If `exact`, the session that goes on makes the updates after the newest checkpoint of each run,
    and no others; else something counts as lost.
    """
    before, newest = recorded(folder / "x.db"), sum(steps_of(folder).values())
    traces, counted, study, evaluate = long_runs(folder)
    lost = len(before - recorded(folder / "x.db"))
    lost += exact and counted.updates != len(RUNS) * HORIZON - newest
    changed = end_of(traces, evaluate) != whole[1]
    try:
        for ours, theirs in zip(traces, whole[0], strict=True):
            segments.same(ours, theirs)
    except AssertionError:
        changed = True
    names = segments.names_of(traces[-1]).values()
    study.record(segments.naming(*names))
    assert [file.name for file in files(folder)] == sorted(f"{name}.pt" for name in names)
    return int(lost), int(changed)


def begun(folder):
    """Start long runs in a process of its own, which can be killed."""
    folder.mkdir(exist_ok=True)
    return forked(lambda: long_runs(folder))


def test_long_runs_that_are_killed_at_any_instant_go_on(tmp_path, whole, tally, times):
    draw, killed, tried, often = random.Random(20), 0, 0, times(150, 8)
    last = whole[2]
    while killed < often:
        folder, tried = tmp_path / str(tried), tried + 1
        struck = ended(begun(folder), draw.uniform(0, last)) != 0
        killed += struck
        last *= 1 if struck else 0.9  # they take less time than when it was measured
        tally("kill -9 at a random instant of long runs", 1, *resumed(folder, whole))
        assert tried < 10 * often, "they have to be interrupted, or it shows nothing"


def test_long_runs_that_are_killed_again_and_again_go_on(tmp_path, whole, tally, times):
    draw = random.Random(21)
    for n in range(times(10, 1)):
        for _ in range(4):
            ended(begun(tmp_path / str(n)), draw.uniform(0.2, 0.9) * whole[2])
        tally("kill -9 of long runs, four times in a row", 4, *resumed(tmp_path / str(n), whole))


def test_a_kill_while_checkpoints_are_written_leaves_the_earlier_ones(
    tmp_path, whole, tally, times, monkeypatch
):
    """Files are written slowly here, so that kills strike there."""
    real, draw, often = os.fsync, random.Random(22), times(60, 6)
    tried = cut_off = 0

    def slow(handle):
        time.sleep(whole[2] / 10)
        real(handle)

    while tried < often or not cut_off:
        folder = tmp_path / str(tried)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", slow)
            ended(begun(folder), draw.uniform(0.3, 2) * whole[2])
        cut_off += any(file.suffix == ".part" for file in files(folder))
        tried += 1
        tally("kill -9 while a checkpoint is written", 1, *resumed(folder, whole))
        assert tried < 10 * often, "it has to be killed there, or it shows nothing"


def test_a_checkpoint_that_breaks_after_a_kill_costs_its_run(tmp_path, whole, tally, times):
    """Cut off at a random byte, or with noise in a random place."""
    draw, broken, tried, often = random.Random(23), 0, 0, times(60, 5)
    while broken < often:  # on a busy machine some are killed before their first file
        folder, tried = tmp_path / str(tried), tried + 1
        ended(begun(folder), draw.uniform(0.3, 0.9) * whole[2])
        left = [file for file in files(folder) if not file.stem.endswith(f"-{HORIZON}")]
        for file in left[:1]:
            size, broken = file.stat().st_size, broken + 1
            with file.open("r+b") as opened:
                opened.seek(draw.randrange(size - 64))
                opened.write(draw.randbytes(64))
                if broken % 2:
                    opened.truncate(draw.randrange(size))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*from the start")
            lost, changed = resumed(folder, whole, exact=False)
        tally("a checkpoint that is cut off, or has 64 bytes of noise", 1, lost, changed)
        assert tried < 10 * often, "something has to break, or it shows nothing"


# --- a full disk


@pytest.fixture
def disk(tmp_path):
    """A small disk for the checkpoints alone, if this process may mount one."""
    folder = tmp_path / "x.checkpoints"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("to mount a disk takes root")

    def size(kib):
        how = f"remount,size={kib}k"
        subprocess.run(["mount", "-o", how, str(folder)], check=True, capture_output=True)

    try:
        yield size
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def test_a_disk_that_is_full_costs_checkpoints_and_no_answer(disk, tmp_path, whole, tally, times):
    draw = random.Random(24)
    for _ in range(times(20, 3)):
        disk(draw.choice([4, 8, 16, 32, 48, 64, 96]))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            traces, _, study, evaluate = long_runs(tmp_path)
        assert all("No space left" in str(one.message) for one in told)
        names = list(filter(None, segments.names_of(traces[-1]).values()))
        assert told or len(names) == len(RUNS)
        assert all(evaluate.checkpoint(name)["step"] == HORIZON for name in names)
        assert not [file for file in files(tmp_path) if file.suffix == ".part"]
        changed = 0
        for ours, theirs in zip(traces, whole[0], strict=True):
            runs = [one.runs.drop(columns="checkpoint") for one in (ours, theirs)]
            changed |= not (ours.frame.equals(theirs.frame) and runs[0].equals(runs[1]))
        tally("a disk that is full when checkpoints are written (a small tmpfs)", 1, 0, changed)
        study.checkpoints.prune([])
        (tmp_path / "x.db").unlink()


@pytest.mark.slow
def test_checkpoints_of_another_study_mislead_nobody(tmp_path, whole, tally):
    """Its runs are the same but for the task: they have other names."""
    _, _, theirs, _ = segments.session(
        f"sqlite:///{tmp_path}/theirs.db", runs=RUNS, scale=SCALE,
        task=lambda: a_task(batch_size=6),
    )  # fmt: skip
    (tmp_path / "mine").mkdir()
    study = Study(f"sqlite:///{tmp_path}/mine/x.db", a_task())
    study.checkpoints.path.mkdir(parents=True)
    for file in theirs.checkpoints.path.iterdir():
        (study.checkpoints.path / file.name).write_bytes(file.read_bytes())
    traces, counted, _, evaluate = long_runs(tmp_path / "mine")
    taken = counted.updates != len(RUNS) * HORIZON
    tally("checkpoints of another study", 1, taken, end_of(traces, evaluate) != whole[1])
