"""Batches are loaded once for all cohorts of an evaluator, and are what the loader would give."""

import itertools

import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lrtune import Run, Task, search
from lrtune.diagnosis.observations.order import BATCHES
from lrtune.diagnosis.observations.reruns import UPDATES
from lrtune.diagnosis.observed import FIRST
from lrtune.results.runs import grid
from lrtune.task.batches import digest
from lrtune.task.memory import available_bytes
from lrtune.task.part_guess import TRAIN_BATCHES
from lrtune.task.random_state import preserve_random_state
from lrtune.training import Evaluator
from lrtune.training.batch_cache import BatchCache


class Counting:
    """Shuffled batches, each counted; with `buffer`, all of them in the same memory."""

    def __init__(self, *, buffer: bool = False) -> None:
        self.images, self.labels = zoo.images()
        self.loaded, self.fail_at = zoo.Tally(), zoo.Tally()
        self.own = (torch.zeros(6, *self.images.shape[1:]), torch.zeros(6, dtype=torch.long))
        self.buffer = buffer

    def __iter__(self):
        for rows in torch.randperm(24).split(6):
            self.loaded.append(rows)
            if len(self.loaded) in self.fail_at:
                raise OSError("the disk is gone")
            batch = self.images[rows], self.labels[rows]
            if self.buffer:  # as loaders do that hand out views of one array
                for mine, new in zip(self.own, batch, strict=True):
                    mine.numpy()[:] = new.numpy()
                batch = self.own
            yield batch


def task(source, val=None):
    return Task(zoo.model("convolution"), source, val=val, device="cpu")


@given(
    most=st.integers(0, 14),
    turns=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), min_size=1, max_size=8),
    buffer=st.booleans(),
    seed=st.integers(0, 3),
    cleared=st.none() | st.integers(0, 7),
)
@settings(max_examples=90, deadline=None)
def test_whoever_reads_whenever_gets_the_batches_of_the_seed(most, turns, buffer, seed, cleared):
    """Three readers in turns; whatever there is room for, and whatever the loader's memory.

    Before turn `cleared` memory runs out, and the cache is cleared.
    """
    brought = task(Counting(buffer=buffer))
    size = sum(leaf.nbytes for leaf in next(iter(Counting())))
    with preserve_random_state():
        alone = [known for _, known in itertools.islice(brought.device_batches(seed), 48)]
        cache = BatchCache(brought, most=most * size)
        readers = [cache.read(seed) for _ in range(3)]
        at = [0, 0, 0]
        for turn, (reader, count) in enumerate(turns):
            if turn == cleared:
                cache.clear()
                assert not cache.clear(), "there is nothing left"
            for batch, known in itertools.islice(readers[reader], count):
                assert known == digest(batch) == alone[at[reader]]
                at[reader] += 1


@pytest.mark.parametrize("buffer", [False, True])
def test_a_search_is_the_same_with_and_without_a_batch_cache(buffer, monkeypatch):
    images, labels = zoo.images()
    kept = search(task(Counting(buffer=buffer), val=(images, labels)), steps=96, budget=1.0)
    monkeypatch.setattr("lrtune.task.memory.BATCH_CACHE_SHARE", 0)
    assert search(
        task(Counting(buffer=buffer), val=(images, labels)), steps=96, budget=1.0
    ).to_json() == (kept.to_json())


def test_a_search_loads_no_batch_twice():
    """As many as its longest run has updates, and a few that show their order, and guessing."""
    source = Counting()
    brought = task(source)
    source.loaded.clear()
    found = search(brought, steps=192, budget=1.0)
    longest = int(found.curves["step"].max()) + 1
    first = FIRST + 4 + 2  # the first ones, an epoch's samples, and twice the first one
    looked_at = 4 * BATCHES + first + 3 * UPDATES  # orders, and three short runs
    most = longest + TRAIN_BATCHES + 1 + looked_at
    assert longest <= len(source.loaded) <= most < found.cost * 192


def test_without_room_every_cohort_loads_its_own(monkeypatch):
    monkeypatch.setattr("lrtune.task.memory.BATCH_CACHE_SHARE", 0)
    source = Counting()
    train = Evaluator(task(source))
    source.loaded.clear()
    for name in "abc":
        train([Run(name, 0.1)], 10, stage="short")
    assert len(source.loaded) == 30


def test_after_a_loader_has_failed_the_next_call_begins_afresh():
    source = Counting()
    train = Evaluator(task(source))
    source.fail_at.append(len(source.loaded) + 7)
    with pytest.raises(OSError, match="the disk is gone"):
        train([Run("a", 0.1)], 12, stage="short")
    again = train([Run("a", 0.1)], 12, stage="short").frame
    assert again.equals(Evaluator(task(Counting()))([Run("a", 0.1)], 12, stage="short").frame)


def test_validation_data_are_gone_through_once_for_all_runs():
    source, val = Counting(), Counting()
    train = Evaluator(task(source, val=val))
    val.loaded.clear()
    trace = train(grid([0.01, 0.02, 0.05], [0, 1, 2]), 3, stage="short")
    assert len(trace.validations) == 2 * 9
    assert len(val.loaded) == 4


def test_an_error_in_validation_tells_the_run():
    class Picky(nn.Module):
        def forward(self, outputs, targets):
            if not torch.is_grad_enabled() and outputs.abs().max() > 1e3:
                raise ValueError("too large")
            return nn.functional.cross_entropy(outputs, targets)

    images, labels = zoo.images()
    brought = Task(
        zoo.model("convolution"), (images, labels), val=(images, labels), loss=Picky(), device="cpu"
    )
    with pytest.raises(ValueError, match="too large") as caught:
        Evaluator(brought)(grid([0.01, 1e4], [3]), 2, stage="short")
    assert any("validating run" in note and "10000" in note for note in caught.value.__notes__)


def test_room_is_what_the_container_allows(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("lrtune.task.memory.CONTAINER", limit)
    whole = available_bytes(torch.device("cpu"))
    limit.write_text("max\n")
    assert available_bytes(torch.device("cpu")) == whole
    limit.write_text("1048576\n")
    assert available_bytes(torch.device("cpu")) == 524288
    monkeypatch.delattr("os.sysconf")
    limit.unlink()
    assert available_bytes(torch.device("cpu")) == 2 * 2**30
