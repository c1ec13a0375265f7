"""The parts of a study: locations, rows, keys, fingerprints, processes; laws first."""

import contextlib
import json
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from lrtune import Run
from lrtune.cli.task_file import default_study
from lrtune.errors import ArgumentError, StudyError, printable
from lrtune.results.serialization import commit, provenance
from lrtune.schedules import GrowUntilPlateau, ReduceOnPlateau, cosine, linear
from lrtune.study import leases, tables
from lrtune.study.catalog import study_location
from lrtune.study.database import FOLDER, Database
from lrtune.study.fingerprint import fingerprint, seed_fingerprint
from lrtune.study.identity import fingerprint_from_json
from lrtune.study.tables import (
    packed,
    storable,
    unpacked,
    verify_checksum,
    with_checksum,
)
from lrtune.task.value_texts import text_digest
from lrtune.testing import bowl
from lrtune.training.run_keys import run_keys
from tests.study.tasks import a_task, net, numbers

# --- locations


@given(st.text())
def test_whatever_a_study_is_called_it_stays_in_its_folder_or_is_refused(text):
    assume("://" not in text)
    try:
        found = study_location(text)
    except ArgumentError as error:
        assert str(error).isprintable()  # noqa: PT017
        return
    assert found.file.parent == FOLDER
    assert found.file.name == f"{text}.db"
    assert str(found) == text


@given(st.text(), st.sampled_from(["sqlite", "postgresql+psycopg", "mysql", "sqlite+pysqlite", ""]))
def test_whatever_url_is_given_it_is_understood_or_refused(text, driver):
    try:
        found = study_location(f"{driver}://{text}")
    except ArgumentError as error:
        assert str(error).isprintable()  # noqa: PT017
        return
    assert found.url.drivername in ("sqlite", "postgresql+psycopg")
    assert (found.file is None) == (found.url.drivername == "postgresql+psycopg")


@pytest.mark.parametrize(
    "study",
    ["../up", "a/b", "", ".hidden", "-rf", "a b", "x" * 101, "a\0b", "a\nb", "sqlite://",
     "sqlite:///:memory:", "sqlite:///x.db?mode=memory", "sqlite:///x.db#../y", "mysql://h/d"],
)  # fmt: skip
def test_locations_that_are_refused(study):
    with pytest.raises(ArgumentError, match="--study"):
        study_location(study)


def test_a_password_is_shown_nowhere():
    found = study_location("postgresql+psycopg://me:secret@host/db#night")
    assert "secret" not in f"{found} {found.database}"
    assert found.name == "night"


@given(st.one_of(st.none(), st.text()), st.one_of(st.none(), st.text()))
def test_the_default_name_is_always_a_name(target, device):
    study_location(default_study(target, device))


def test_files_of_one_name_in_two_folders_are_two_studies():
    names = [default_study(one) for one in ("a/train.py:task", "b/train.py", "pkg.mod:task", None)]
    assert names == ["a-train-task", "b-train-task", "pkg-mod-task", "digits"]
    assert default_study(str(Path.cwd() / "a/train.py")) == names[0]
    assert default_study(None, "cuda:1") == "digits-cuda-1"


@given(st.text())
def test_printable_text_cannot_command_a_terminal(text):
    assert printable(text).isprintable()
    assert len(printable(text)) <= 60


# --- rows

NUMBERS = st.lists(st.floats(width=64))
ROW = {
    "study": st.integers(0, 2**62),
    "name": st.text(),
    "value": st.text(),
}


@given(NUMBERS)
def test_numbers_come_back_bit_for_bit(values):
    back = unpacked(packed(values, "<f8"), "<f8", len(values))
    assert back.tobytes() == np.array(values, dtype="<f8").tobytes()
    assert back.dtype == np.float64


@given(st.binary(), st.integers(-5, 50))
def test_bytes_from_anywhere_are_numbers_of_that_length_or_refused(blob, count):
    with contextlib.suppress(StudyError):
        assert len(unpacked(blob, "<f8", count)) == count


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.integers(-3, 3))
def test_another_length_is_refused(values, more):
    assume(more)
    with pytest.raises(StudyError, match="damaged"):
        unpacked(packed(values, "<i8"), "<i8", len(values) + more)


def test_a_blob_that_would_fill_the_memory_is_not_inflated():
    bomb = zlib.compress(bytes(200_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(StudyError):
            unpacked(bomb, "<f8", 10)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    with pytest.raises(StudyError, match="expected 0"):
        unpacked(bomb, "<f8", 10**12)


@given(st.fixed_dictionaries(ROW), st.data())
def test_a_row_that_was_changed_anywhere_is_refused(row, data):
    row = {key: storable(value) if isinstance(value, str) else value for key, value in row.items()}
    kept = with_checksum(tables.decisions, row)
    assert verify_checksum(tables.decisions, kept) is kept
    name = data.draw(st.sampled_from([*ROW, "checksum"]))
    other = data.draw(st.text() if name == "checksum" else ROW[name])
    assume(other != kept[name])
    with pytest.raises(StudyError, match="checksum"):
        verify_checksum(tables.decisions, {**kept, name: other})


@given(st.text(st.characters(categories=["Cs", "Cc", "L"])))
def test_storable_text_is_accepted_by_every_database(text):
    assert "\0" not in storable(text).encode("utf-8").decode()


# --- keys


def test_a_run_is_what_it_is_made_of():
    def key(*, lr=0.1, shape=cosine(), seed=0, steps=10, engine="loop", task="t"):
        return run_keys(task, [Run("any", lr, shape, seed)], steps, engine)[0]

    others = [
        key(lr=0.1 + 2**-56), key(shape=cosine(0.1)), key(shape=linear()), key(seed=1),
        key(steps=11), key(engine="vmapped"), key(task="u"), key(shape=lambda p: p),
        key(shape=lambda p: p / 2), key(shape=ReduceOnPlateau()),
        key(shape=ReduceOnPlateau(factor=0.2)), key(shape=GrowUntilPlateau()),
    ]  # fmt: skip
    assert len({key(), *others}) == len(others) + 1
    assert key(shape=ReduceOnPlateau()) == key(shape=ReduceOnPlateau())


@given(st.lists(st.text()), st.lists(st.text()))
def test_a_digest_tells_lists_apart(one, two):
    assert (text_digest(one) == text_digest(two)) == (one == two)


@pytest.mark.slow
def test_keys_are_the_same_in_another_process():
    code = (
        "from lrtune import Run; from lrtune.training.run_keys import run_keys; "
        "from lrtune.schedules import ReduceOnPlateau, cosine; "
        "runs = [Run('a', 0.1, cosine()), Run('b', 0.1, ReduceOnPlateau())]; "
        "print(*run_keys('t', runs, 9, 'loop'))"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    runs = [Run("a", 0.1, cosine()), Run("b", 0.1, ReduceOnPlateau())]
    assert seen.stdout.split() == run_keys("t", runs, 9, "loop")


# --- fingerprints

OTHERS = {
    "model": {"model": net(hidden=7)},
    "model ": {"model": net(drop=0.3)},
    "the initial weights differ": {"model": net(seed=4)},
    "optimizer": {"optimizer": partial(torch.optim.SGD, momentum=0.8)},
    "optimizer ": {"optimizer": partial(torch.optim.SGD, momentum=0.9, weight_decay=1e-4)},
    "optimizer: SGD": {"optimizer": torch.optim.AdamW},
    "loss": {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)},
    "loss ": {"loss": nn.functional.cross_entropy},
    "the first batches differ": {"train": numbers(9)},
    "data": {"batch_size": 6},
    "validation": {"val": None},
    "the first validation batches differ": {"val": numbers(8, rows=20)},
}


@pytest.mark.parametrize("part", OTHERS)
def test_each_part_of_a_task_is_told_apart_in_words(part):
    told = fingerprint(a_task()).differences(fingerprint(a_task(**OTHERS[part])))
    assert any(part.strip() in one for one in told), told


@pytest.mark.slow
def test_a_fingerprint_survives_json_and_another_process():
    here = fingerprint(a_task())
    again = fingerprint_from_json(here.to_json())
    assert again == here
    assert again.differences(here) == []
    code = (
        "from tests.study.tasks import a_task; from lrtune.study.fingerprint import fingerprint;"
        "print(fingerprint(a_task()).to_json())"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert fingerprint_from_json(seen.stdout) == here


def test_code_that_does_something_else_is_seen_by_the_first_losses():
    class Twice(nn.Linear):
        factor = 1.0

        def forward(self, inputs):
            return super().forward(inputs) * Twice.factor

    torch.manual_seed(0)
    model = Twice(6, 2)
    one = fingerprint(a_task(model=model))
    Twice.factor = 2.0
    (told,) = one.differences(fingerprint(a_task(model=model)))
    assert "the code of model, loss or optimizer: the first updates have the losses" in told


def test_a_factory_is_told_by_the_seeds_that_are_used():
    def model():
        return nn.Linear(6, 2)

    assert seed_fingerprint(a_task(model=model), 5) == seed_fingerprint(a_task(model=model), 5)
    assert seed_fingerprint(a_task(model=model), 5) != seed_fingerprint(a_task(model=model), 6)


def test_taking_a_fingerprint_touches_nothing():
    model, task = net(), bowl(4.0)
    task = a_task(model=model, loss=nn.CrossEntropyLoss())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()
    fingerprint(task), seed_fingerprint(task, 1)
    assert states[0].equal(torch.get_rng_state())
    assert states[1] == np.random.get_state()[1].tolist()
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inside: st.one_of(st.lists(inside), st.dictionaries(st.text(), inside)),
)


@given(st.one_of(st.text(), JSON.map(json.dumps)))
def test_a_fingerprint_from_anywhere_is_one_or_refused(text):
    try:
        fingerprint_from_json(text).differences(fingerprint_from_json(text))
    except StudyError as error:
        assert "damaged" in str(error)  # noqa: PT017


# --- processes


def test_a_process_is_known_by_its_birth_and_not_by_its_number():
    me = {"token": "t", "heartbeat": 0, **leases.this_process()}
    monitor = leases.LivenessMonitor()
    assert monitor.is_dead(me)  # a lease that could not be given back delays nobody
    leases.TRAINING.add("t")
    try:
        assert not monitor.is_dead(me)
    finally:
        leases.TRAINING.discard("t")
    assert monitor.is_dead({**me, "started": "1"})  # the number was given out again
    child = subprocess.Popen(["sleep", "60"])
    theirs = {**me, "pid": child.pid, "started": leases._started(child.pid)}
    assert not monitor.is_dead(theirs)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert monitor.is_dead(theirs)  # a zombie is dead, too
    child.wait()
    assert monitor.is_dead(theirs)


def test_a_process_of_another_host_dies_when_its_heartbeat_ends_whatever_the_clocks_say(
    monkeypatch,
):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "time", lambda: float("nan"))  # nobody may ask the wall clock
    far = {"token": "t", "heartbeat": 3, "host": "elsewhere", "pid": os.getpid(), "started": "x"}
    monitor = leases.LivenessMonitor()
    assert not monitor.is_dead(far)
    now[0] += leases.GRACE * 0.9
    assert not monitor.is_dead({**far, "heartbeat": 4})
    now[0] += leases.GRACE * 0.9
    assert not monitor.is_dead({**far, "heartbeat": 4})
    now[0] += leases.GRACE * 0.2
    assert monitor.is_dead({**far, "heartbeat": 4})


def test_without_proc_a_process_that_trains_lives(monkeypatch):
    """As on macOS: no process can be looked up, so each is a host of its own."""

    def missing(*_arguments, **_more):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    leases._host.cache_clear()
    try:
        me = {"token": "t", "heartbeat": 0, **leases.this_process()}
        monkeypatch.setattr(leases, "TRAINING", {"t"})
        assert not leases.LivenessMonitor().is_dead(me)
    finally:
        leases._host.cache_clear()


def test_a_heartbeat_counts_up_and_survives_a_busy_database(tmp_path, monkeypatch):
    database = Database(study_location(f"sqlite:///{tmp_path}/x.db"), create=True)
    held, write, calls = leases.Leases(database, 1), database.write, []

    def busy_at_first():
        calls.append(1)
        if len(calls) == 1:
            raise StudyError("locked")
        return write()

    def counted():
        with database.read() as link:
            return link.execute(tables.leases.select()).mappings().one()["heartbeat"]

    with database.write() as link:
        held.take(link, [leases.Request("k", 1, 0)])
    monkeypatch.setattr(leases, "HEARTBEAT", 0.01)
    monkeypatch.setattr(database, "write", busy_at_first)
    with held.heartbeats():
        deadline = time.monotonic() + 30
        while counted() < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert counted() >= 2
    held.release()


# --- origin


def test_the_commit_is_read_without_asking_git(tmp_path):
    def git(*arguments):
        settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", *settings, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert commit(tmp_path / "nowhere") in ("", commit(tmp_path))
    git("init", "-q")
    assert commit(tmp_path) == ""
    git("commit", "-q", "--allow-empty", "-m", "x")
    head = git("rev-parse", "HEAD")
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    assert commit(inside) == head
    git("pack-refs", "--all")
    assert commit(tmp_path) == head
    git("worktree", "add", "-q", str(tmp_path / "tree"))
    assert commit(tmp_path / "tree") == head
    git("checkout", "-q", "--detach")
    assert commit(tmp_path) == head
    (tmp_path / ".git" / "HEAD").write_text("ref: ../../../etc/passwd")
    assert commit(tmp_path) == ""


def test_the_origin_is_text():
    assert all(isinstance(value, str) for value in provenance().values())


def test_numbers_are_little_endian_on_every_machine():
    assert zlib.decompress(packed([1.5], "<f8")) == struct.pack("<d", 1.5)
