"""Disks that are full or read-only, files that are damaged or locked: told, and left alone."""

import os
import random
import re
import subprocess
import sys
import threading
from pathlib import Path
from unittest.mock import patch

import pytest

from lrtune.errors import LrtuneError, StudyError
from lrtune.study import database
from lrtune.study.contents import open_study
from lrtune.study.records import StudyRecords
from lrtune.study.study import Study
from tests.faults.searching import answer, recorded
from tests.planted import without_checkpoints
from tests.study.tasks import a_task


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished study: its file, its answer, and how many runs it holds."""
    file = tmp_path_factory.mktemp("whole") / "study.db"
    told, study = answer(f"sqlite:///{file}")
    return file, told, len(study._records.trained)


def refused(file):
    """Whether a study is refused, in a sentence, by who trains and by who reads."""
    where, told = f"sqlite:///{file}", []
    for use in (lambda: Study(where, TASK), lambda: open_study(where).reported):
        try:
            use()
        except LrtuneError as error:
            assert 20 < len(str(error)) < 900  # noqa: PT017
            told.append(str(error))
    return told


TASK = a_task()


# --- a disk that fills up


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, if this process may mount one: a function that sizes it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("to mount a disk takes root; the fake disk below does not")

    def size(kib):
        how = f"remount,size={kib}k"
        subprocess.run(["mount", "-o", how, str(folder)], check=True, capture_output=True)

    try:
        yield folder, size
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def test_a_disk_that_fills_up_stops_a_search_and_nothing_else(disk, whole, tally, times):
    folder, size = disk
    draw = random.Random(0)
    for n in range(times(20, 2)):
        file = folder / f"{n}.db"
        size(kib := draw.randint(100, 900))
        try:
            told, _ = answer(f"sqlite:///{file}")
        except StudyError as error:
            told = None
            assert re.search("Free some space|No space|not written whole", str(error)), (kib, error)  # noqa: PT017
        size(20_000)
        before = recorded(file)
        again, study = answer(f"sqlite:///{file}")
        lost = len(before - recorded(file)) + abs(
            len(before) + len(study._records.trained) - whole[2]
        )
        tally(
            "a disk that fills up (a small tmpfs)",
            1,
            lost,
            {*again} != {*whole[1]} or told not in (None, whole[1]),
        )
        database.remove_file(file)


def test_sqlite_that_says_the_disk_is_full_stops_a_search_and_nothing_else(
    tmp_path, whole, tally, times, monkeypatch
):
    """Needs no root: pages beyond a limit are refused as a full disk does."""
    real, draw = database.connect_file, random.Random(1)

    for n in range(times(20, 2)):
        file, pages = tmp_path / f"{n}.db", draw.randint(1, 220)

        def small(path, mode, pages=pages):
            link = real(path, mode)
            if ".part" not in str(path):
                link.execute(f"PRAGMA max_page_count = {pages}")
            return link

        with monkeypatch.context() as limited:
            limited.setattr(database, "connect_file", small)
            try:
                answer(f"sqlite:///{file}")
            except StudyError as error:
                assert "Free some space. What was recorded is safe" in str(error)  # noqa: PT017
        before = recorded(file)
        again, study = answer(f"sqlite:///{file}")
        lost = len(before - recorded(file)) + abs(
            len(before) + len(study._records.trained) - whole[2]
        )
        tally("SQLite says that the disk is full", 1, lost, again != whole[1])


# --- folders and files that cannot be written


def as_nobody(do):
    """Whether `do` held, in a process that file modes bind: as root they do not."""
    child = os.fork()
    if not child:
        code = 1
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            do()
            code = 0
        except BaseException as error:  # noqa: BLE001 - told to the parent
            print(repr(error), file=sys.stderr)  # noqa: T201
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def public():
    """A folder that everybody may enter."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="lrtune-ro-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_folder_that_cannot_be_written_is_told_and_can_be_read(public, whole, tally):
    file = public / "study.db"
    file.write_bytes(whole[0].read_bytes())
    file.chmod(0o444)
    public.chmod(0o555)

    def writes():
        for where in (file, public / "new.db", public / "deep" / "new.db"):
            with pytest.raises(StudyError, match="--no-study"):
                Study(f"sqlite:///{where}", TASK)

    newest = {re.match(r'{"kind": "([a-z-]+)"', text)[1]: text for text in whole[1]}

    def reads():
        reported = open_study(f"sqlite:///{file}").reported
        assert [without_checkpoints(one) for one in reported] == [*newest.values()]

    assert as_nobody(writes)
    assert as_nobody(reads)
    assert file.read_bytes() == whole[0].read_bytes()
    assert [one.name for one in public.iterdir()] == ["study.db"]
    tally("a read-only folder", 4)


def test_a_folder_that_becomes_read_only_in_the_middle_is_told(public, whole, tally, times):
    """It happens: a disk with errors is mounted again, read-only."""
    for n in range(times(5, 1)):
        file = public / f"{n}.db"
        public.chmod(0o777)

        def breaks(file=file, n=n):
            real = StudyRecords.record

            def record(*arguments, **more):
                real(*arguments, **more)
                if len(recorded(file)) > 5 * n:
                    file.chmod(0o400)

            with (
                patch.object(StudyRecords, "record", record),
                pytest.raises(StudyError, match="cannot be written"),
            ):
                answer(f"sqlite:///{file}")

        assert as_nobody(breaks)
        file.chmod(0o666)
        before = recorded(file)
        assert before, "what was recorded before it became read-only"
        again, study = answer(f"sqlite:///{file}")
        lost = len(before - recorded(file)) + abs(
            len(before) + len(study._records.trained) - whole[2]
        )
        tally("a database that becomes read-only in the middle", 1, lost, again != whole[1])


# --- damage


def judged(file, whole):
    """A copy that was damaged: (refused, lost, changed); refused, it is as it was before."""
    raw = file.read_bytes()
    told = refused(file)
    if told:
        assert file.read_bytes() == raw, "a damaged file is left as it is"
        return True, 0, 0
    again, study = answer(f"sqlite:///{file}")
    return False, study.trained, int(again != whole[1])


def test_a_database_cut_anywhere_is_refused_and_left_alone(whole, tally, times, copy_of):
    size, draw = whole[0].stat().st_size, random.Random(5)
    cuts = [0, 1, 15, 16, 99, 100, 4095, 4096, size - 4096, size - 1]
    cuts += [draw.randrange(size) for _ in range(times(190, 10))]
    for cut in cuts:
        file = copy_of(whole[0])
        os.truncate(file, cut)
        was_refused, lost, changed = judged(file, whole)
        assert was_refused
        tally("a database cut off at a random byte", 1, lost, changed)


def test_a_database_with_flipped_bits_is_refused_or_means_the_same(whole, tally, times, copy_of):
    """A bit of a page that is not in use, changes nothing of ours."""
    size, draw, caught = whole[0].stat().st_size, random.Random(6), 0
    for _ in range(tried := times(200, 15)):
        file = copy_of(whole[0])
        with file.open("r+b") as opened_:
            at = draw.randrange(size)
            opened_.seek(at)
            (byte,) = opened_.read(1)
            opened_.seek(at)
            opened_.write(bytes([byte ^ 1 << draw.randrange(8)]))
        was_refused, lost, changed = judged(file, whole)
        caught += was_refused
        tally("a database with a flipped bit", 1, lost, changed)
    assert caught or tried < 15, "nothing was refused, so it shows nothing"


def test_a_database_with_a_page_of_noise_is_refused_or_means_the_same(whole, tally, times, copy_of):
    size, draw = whole[0].stat().st_size, random.Random(7)
    for _ in range(times(60, 5)):
        file = copy_of(whole[0])
        with file.open("r+b") as opened_:
            opened_.seek(draw.randrange(size // 512) * 512)
            opened_.write(draw.randbytes(512))
        _, lost, changed = judged(file, whole)
        tally("a database with 512 bytes of noise", 1, lost, changed)


def test_a_log_that_a_kill_left_and_something_cut_costs_at_most_the_last_call(
    tmp_path, whole, tally, times
):
    """SQLite's log holds the transactions in flight; what is cut off there is trained again."""
    from tests.faults.searching import begun, ended

    draw = random.Random(8)
    for n in range(times(15, 2)):
        file = tmp_path / f"{n}.db"
        ended(begun(f"sqlite:///{file}"), draw.uniform(0.2, 0.9))
        log = Path(f"{file}-wal")
        if log.exists() and log.stat().st_size:
            os.truncate(log, draw.randrange(log.stat().st_size))
        again, _ = answer(f"sqlite:///{file}")
        tally("kill -9, and the log of SQLite is cut off", 1, 0, again != whole[1])


# --- locked


def test_a_database_that_is_locked_is_waited_for_or_told(tmp_path, whole, tally, monkeypatch):
    import sqlite3

    file = tmp_path / "study.db"
    file.write_bytes(whole[0].read_bytes())
    link = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    link.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.5, lambda: link.execute("ROLLBACK"))
    release.start()
    again, study = answer(f"sqlite:///{file}")  # it waits
    release.join()
    tally("SQLite locked for a while", 1, study.trained, again != whole[1])
    monkeypatch.setattr(database, "PATIENCE", 0.2)
    link.execute("BEGIN IMMEDIATE")
    with pytest.raises(StudyError, match="locked by another process"):
        answer(f"sqlite:///{file}")
    link.execute("ROLLBACK")
    link.close()
    again, study = answer(f"sqlite:///{file}")
    tally("SQLite locked for too long", 1, study.trained, again != whole[1])
