"""Validation data: a limit, an end, and a loss that does not draw."""

import itertools

import pytest
import torch
import zoo
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, Sampler, TensorDataset

from lrtune import Run, Task, search, train
from lrtune.errors import TaskError
from lrtune.study.fingerprint import fingerprint
from lrtune.task.random_state import preserve_random_state
from lrtune.task.streams import ENDLESS

X, Y = zoo.vectors()
BATCHES = list(zip(X.split(4), Y.split(4), strict=True))


def task(val, **more):
    return Task(zoo.model("linear"), (X, Y), val=val, device="cpu", **more)


class Stream:
    """Batches, again and again if it is endless."""

    def __init__(self, *, endless=False, length=None):
        self.endless, self.length, self.read = endless, length, zoo.Tally()

    def __iter__(self):
        for batch in itertools.cycle(BATCHES) if self.endless else BATCHES:
            self.read.append(0)
            yield batch


class Told(Stream):
    """It tells a length, and does not keep to it."""

    def __len__(self):
        return 6


class Rows(IterableDataset):
    def __iter__(self):
        return itertools.cycle(zip(X, Y, strict=True))


class Infinite(Sampler):
    """As those that are made for training by the number of steps."""

    def __iter__(self):
        return itertools.cycle(range(len(X)))


class Repeats(DataLoader):
    def __iter__(self):
        while True:
            yield from super().__iter__()


ENDLESS_ONES = {
    "iterable": lambda: Stream(endless=True),
    "one that tells a length": lambda: Told(endless=True),
    "iterable data set": lambda: DataLoader(Rows(), 8),
    "data set": Rows,
    "sampler": lambda: DataLoader(TensorDataset(X, Y), 8, sampler=Infinite()),
    "loader": lambda: Repeats(TensorDataset(X, Y), 8),
}


# --- an end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENDLESS_ONES)
def test_a_stream_without_an_end_is_refused(name, monkeypatch):
    monkeypatch.setattr("lrtune.task.streams.ENDLESS", 50)
    with pytest.raises(TaskError, match="val gave 50 batches and did not end") as caught:
        task(ENDLESS_ONES[name]())
    assert "Task(..., val_batches=200)" in str(caught.value)


@pytest.mark.parametrize("name", ENDLESS_ONES)
def test_a_stream_without_an_end_is_read_as_far_as_the_user_says(name):
    brought = task(ENDLESS_ONES[name](), val_batches=3)
    assert sum(brought.val_counts.values()) in (12, 24, 3 * 64)
    assert train(brought, [Run("a", 0.1)], 3).validations["loss"].notna().all()


def test_the_bound_is_one_that_real_data_do_not_meet():
    assert ENDLESS == 10_000
    with pytest.raises(TaskError, match="10,000 batches"):
        task(Stream(endless=True))


def test_a_stream_is_read_once_to_its_end_and_never_for_its_counts():
    source = Stream()
    brought = task(source)
    read = len(source.read)
    assert sum(brought.val_counts.values()) == len(X)
    assert len(source.read) == read


@pytest.mark.parametrize("make", [list, lambda some: DataLoader(TensorDataset(X, Y), 4)])
def test_what_is_known_to_end_is_not_read_for_that(make, monkeypatch):
    monkeypatch.setattr("lrtune.task.streams.ENDLESS", 2)
    assert sum(task(make(BATCHES)).val_counts.values()) == len(X)


# --- a limit --------------------------------------------------------------------------------------


def rows_of(brought, samples=None):
    with preserve_random_state():
        batches = [x for _, (x, _) in brought._val.batches(samples)]
    return sorted(tuple(row) for batch in batches for row in batch.tolist())


@pytest.mark.parametrize("count", [1, 2, 5, 6, 99])
def test_the_first_batches_of_a_stream_are_validated_on(count):
    for source in (Stream(), BATCHES):
        brought = task(source, val_batches=count)
        assert rows_of(brought) == sorted(tuple(row) for row in X[: 4 * count].tolist())
        assert sum(brought.val_counts.values()) == min(4 * count, len(X))
        few = rows_of(brought, 3)
        assert set(few) <= set(rows_of(brought))


def test_data_that_go_by_rows_are_limited_to_a_fair_sample():
    order = Y.argsort(stable=True)  # class by class, as in a folder of images
    for data in ((X[order], Y[order]), DataLoader(TensorDataset(X[order], Y[order]), 6)):
        size = {"batch_size": 6} if isinstance(data, tuple) else {}
        brought = (
            Task(zoo.model("linear"), [(X, Y)], val=data, val_batches=2, device="cpu")
            if not size
            else task(data, val_batches=2, **size)
        )
        with preserve_random_state():
            labels = torch.cat([y for _, (_, y) in brought._val.batches()])
        assert len(labels) == 12
        shares = torch.bincount(labels, minlength=3) / 12
        assert (shares - torch.bincount(Y, minlength=3) / len(Y)).abs().max() < 0.1


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "3"])
def test_a_limit_that_is_none_is_refused(count):
    with pytest.raises(TaskError, match="val_batches must be a whole number >= 1, got"):
        task(BATCHES, val_batches=count)


def test_a_limit_without_data_of_its_own_is_refused():
    with pytest.raises(TaskError, match=r"but val=0\.5\. Make the share smaller"):
        task(0.5, val_batches=2)
    with pytest.raises(TaskError, match=r"but val=None\. Pass val=\.\.\., or leave it out"):
        task(None, val_batches=2)


def test_a_limit_and_a_weight_are_part_of_what_a_study_compares():
    digests = [
        fingerprint(task(BATCHES, **more)).digests["validation"]
        for more in (
            {},
            {"val_batches": 5},
            {"val_batches": 6},
            {"batch_weight": lambda batch: len(batch[1])},
            {"batch_weight": lambda batch: 2 * len(batch[1])},
        )
    ]
    assert len(set(digests)) == len(digests)


# --- a loss that draws ----------------------------------------------------------------------------


def mixup(model, batch):
    """As it is often written: mixed whenever it is called."""
    inputs, labels = batch
    share, order = torch.rand(()), torch.randperm(len(inputs))
    outputs = model(share * inputs + (1 - share) * inputs[order])
    return share * functional.cross_entropy(outputs, labels) + (1 - share) * (
        functional.cross_entropy(outputs, labels[order])
    )


def mixup_in_training(model, batch):
    if model.training:
        return mixup(model, batch)
    return functional.cross_entropy(model(batch[0]), batch[1])


class AlwaysDrops(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, inputs):
        return self.layer(functional.dropout(inputs, 0.5, training=True))


DRAWS = {
    "mixup": ({"objective": mixup}, True),
    "mixup in training": ({"objective": mixup_in_training}, False),
    "plain": ({}, False),
    "dropout in eval mode": ({"model": zoo.born(AlwaysDrops)}, True),
    "dropout": ({"model": zoo.model("dropout")}, False),
    "without validation": ({"objective": mixup, "val": None}, False),
}


@pytest.mark.parametrize("name", DRAWS)
def test_whether_a_validation_loss_draws_is_known(name):
    changes, draws = DRAWS[name]
    given = {"model": zoo.model("linear"), "val": (X, Y)} | changes
    with zoo.untouched(given["model"]):
        brought = Task(given.pop("model"), (X, Y), device="cpu", **given)
    assert brought.draws_in_eval is draws


def test_a_search_with_a_limited_stream_pays_for_what_it_reads():
    found = search(task(Stream(endless=True), val_batches=4), steps=60, budget=3.0)
    assert found.best.of == 16
