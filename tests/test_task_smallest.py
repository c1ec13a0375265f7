"""A last batch that is too small for the model is found before anything trains."""

import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
)

from lrtune import Run, Task, compare, range_test, search, train
from lrtune.errors import TaskError

ROWS, BATCH = 65, 64
X, Y = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0)), torch.arange(ROWS) % 3
SET = TensorDataset(X, Y)


def normed():
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


class Fixed(nn.Linear):
    """A model that is written for batches of 64."""

    def forward(self, inputs):
        return super().forward(inputs.view(BATCH, 3))


def spread(outputs, targets):
    """A loss that is NaN for a single row, and raises nothing."""
    squares = (outputs - outputs.mean(0)).square().sum(0)
    return nn.functional.cross_entropy(outputs, targets) + (squares / (len(outputs) - 1)).mean()


def by_name(examples):
    inputs, labels = zip(*examples, strict=True)
    return {"inputs": torch.stack(inputs), "labels": torch.stack(labels)}


def pieces(size=BATCH):
    return list(zip(X.split(size), Y.split(size), strict=True))


SHORT = {
    "in order": lambda: DataLoader(SET, BATCH),
    "shuffled": lambda: DataLoader(SET, BATCH, shuffle=True),
    "workers": lambda: DataLoader(SET, BATCH, shuffle=True, num_workers=1),
    "distributed": lambda: DataLoader(
        SET, BATCH, sampler=DistributedSampler(SET, num_replicas=1, rank=0)
    ),
    "some rows": lambda: DataLoader(SET, 9, sampler=SubsetRandomSampler(list(range(10)))),
    "list": pieces,
    "list, in the middle": lambda: [*pieces(16)[:2], pieces(16)[-1], *pieces(16)[2:4]],
}


@pytest.mark.parametrize("name", SHORT)
def test_a_last_batch_of_one_row_is_found_before_training(name):
    source = SHORT[name]()
    with zoo.untouched(source), pytest.raises(TaskError) as caught:
        Task(zoo.born(normed), source, device="cpu")
    message = str(caught.value)
    for part in (
        "the smallest batch of an epoch, ",
        "[1, 3]",
        "has 1 row, the first one ",
        "Expected more than 1 value per channel",
        "drop_last=True",
    ):
        assert part in message


@pytest.mark.parametrize(
    "changes",
    [{"model": Fixed(3, 3)}, {"loss": spread}],
    ids=["a shape", "not finite"],
)
def test_whatever_breaks_on_the_smallest_batch_is_told(changes):
    given = {"model": zoo.born(normed)[:1].append(nn.Linear(8, 3))} | changes
    with pytest.raises(TaskError, match="has 1 row, the first one 64, and") as caught:
        Task(given.pop("model"), DataLoader(SET, BATCH), device="cpu", **given)
    assert "shape" in str(caught.value) or "its loss is nan" in str(caught.value)


def test_a_share_for_validation_may_leave_a_last_batch_of_one_row():
    inputs, labels = torch.randn(72, 3), torch.zeros(72, dtype=torch.int64)
    loader = DataLoader(TensorDataset(inputs, labels), BATCH)
    Task(zoo.born(normed), loader, device="cpu")
    with pytest.raises(TaskError, match="has 1 row"):
        Task(zoo.born(normed), loader, val=7 / 72, device="cpu")


def test_a_first_batch_of_one_row_gets_the_way_out():
    for options in ({"batch_size": 1}, {}):
        data = (X, Y) if options else (X[:1], Y[:1])
        with pytest.raises(TaskError, match="needs two rows at least: give larger batches"):
            Task(zoo.born(normed), data, device="cpu", **options)


FINE = {
    "drops it": lambda: DataLoader(SET, BATCH, drop_last=True),
    "tensors": lambda: (X, Y),
    "data set": lambda: SET,
    "two rows": lambda: DataLoader(TensorDataset(X[:-1], Y[:-1]), 31),
    "even": lambda: DataLoader(SET, 13),
    "one batch": lambda: DataLoader(SET, 99),
}


@pytest.mark.parametrize("name", FINE)
def test_a_model_with_batch_norm_is_accepted_where_no_batch_has_one_row(name):
    train(Task(zoo.born(normed), FINE[name](), device="cpu"), [Run("a", 0.01)], 6)


def test_validation_in_eval_mode_may_have_single_rows():
    task = Task(zoo.born(normed), (X, Y), val=DataLoader(SET, BATCH), device="cpu")
    assert train(task, [Run("a", 0.01)], 2).validations["loss"].notna().all()


@settings(max_examples=25)
@given(rows=st.integers(1, 40), size=st.integers(1, 12), shuffle=st.booleans())
def test_the_smallest_batch_is_one_of_the_loaders(rows, size, shuffle):
    loader = DataLoader(TensorDataset(X[:rows], Y[:rows]), size, shuffle=shuffle)
    smallest = Task(zoo.model("linear"), loader, device="cpu")._train.smallest_batch()
    sizes = [len(labels) for _, labels in loader]
    assert (min(sizes) if smallest is None else len(smallest[1])) == min(sizes)
    if smallest is not None:
        assert min(sizes) < max(sizes)
        assert {tuple(row) for row in smallest[0].tolist()} <= {tuple(row) for row in X.tolist()}


class Streamed(IterableDataset):
    def __iter__(self):
        yield from zip(X, Y, strict=True)


VERBS = {
    "train": lambda task: train(task, [Run("a", 0.01)], 6),
    "range test": lambda task: range_test(task, steps=20),
    "search": lambda task: search(task, steps=100),
    "compare": lambda task: compare(task, 0.01, schedules=["step"], steps=20, budget=9),
}


@pytest.mark.parametrize("verb", VERBS)
def test_where_no_size_is_known_the_error_says_what_differs(verb):
    """A stream tells its batches one by one."""
    task = Task(zoo.born(normed), DataLoader(Streamed(), BATCH), device="cpu")
    with pytest.raises(ValueError, match="more than 1 value per channel") as caught:
        VERBS[verb](task)
    note = "this batch has 1 row, the first one 64: leave short batches out (drop_last=True)"
    assert note in caught.value.__notes__
