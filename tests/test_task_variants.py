"""A task with a part of its data or a model of another width: laws of its samples."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from lrtune import Run, Task, train
from lrtune.errors import ArgumentError, TaskError
from lrtune.task.random_state import preserve_random_state
from lrtune.task.variants import own_width, with_share, with_width

ROWS = 120
LABELS = torch.arange(ROWS) % 4 % 3  # half of the rows are of class 0
INPUTS = torch.arange(ROWS * 3, dtype=torch.float32).reshape(ROWS, 3) / 100


class Labelled(TensorDataset):
    """A data set whose labels are at hand."""

    targets = LABELS.tolist()


FORMS = {
    "tensors": lambda: (INPUTS, LABELS),
    "dataset": lambda: Labelled(INPUTS, LABELS),
    "loader": lambda: DataLoader(Labelled(INPUTS, LABELS), 8, shuffle=True),
    "in order": lambda: DataLoader(TensorDataset(INPUTS, LABELS), 8),
    "subset": lambda: DataLoader(Subset(TensorDataset(INPUTS, LABELS), range(ROWS)), 8),
}


def brought(form, **options):
    size = {"batch_size": 8} if form in ("tensors", "dataset") else {}
    return Task(zoo.model("linear"), FORMS[form](), device="cpu", **size, **options)


def rows_of(task, seed=0, epoch=0):
    """The numbers of the rows that an epoch draws."""
    with preserve_random_state():
        batches = list(task.epoch(seed, epoch))
    return [round(float(row[0]) * 100) // 3 for inputs, _ in batches for row in inputs]


def sample(task):
    """All rows that are ever drawn."""
    return {row for epoch in range(12) for row in rows_of(task, epoch=epoch)}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=10)
@given(shares=st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)))
def test_samples_are_nested_and_have_every_class_as_often(form, shares):
    task = brought(form)
    small, large = (sample(with_share(task, share)) for share in sorted(shares))
    assert small <= large
    for share, rows in zip(sorted(shares), (small, large), strict=True):
        counts = np.bincount(LABELS[sorted(rows)], minlength=3)
        missing = round(share * ROWS) - len(rows)
        assert missing <= 7, "twelve epochs draw nearly all, though the last batch is left out"
        whole = np.bincount(LABELS) * share
        assert np.abs(counts - whole).max() <= 2 + missing


@pytest.mark.parametrize("form", FORMS)
def test_a_sample_is_the_same_each_time_and_for_every_seed(form):
    one, other = (with_share(brought(form), 0.4) for _ in range(2))
    assert rows_of(one) == rows_of(other)
    assert set(rows_of(one, seed=3)) <= sample(one)
    if form not in ("in order", "subset"):
        assert rows_of(one) != rows_of(one, seed=3), "in an order of its own"
    else:
        assert rows_of(one) == sorted(rows_of(one))


@pytest.mark.parametrize("form", FORMS)
def test_the_whole_is_the_task_itself_and_nothing_of_it_changes(form):
    task = brought(form)
    before = rows_of(task), task.describe()
    assert with_share(task, 1) is task
    part = with_share(task, 0.25)
    assert part.epoch_steps in (3, None)
    assert (rows_of(task), task.describe()) == before
    assert part.describe() == task.describe()


@pytest.mark.parametrize("form", ["tensors", "dataset", "loader"])
def test_what_is_held_out_for_validation_stays_out(form):
    task = brought(form, val=0.25)
    part = with_share(task, 0.5)
    whole, few = sample(task), sample(part)
    assert few < whole
    assert 38 <= len(few) <= 45
    assert part.val_counts == task.val_counts


def test_a_list_is_divided_by_batches():
    batches = [(INPUTS[i : i + 8], LABELS[i : i + 8]) for i in range(0, ROWS, 8)]
    task = Task(zoo.model("linear"), batches, device="cpu")
    third, half = (sample(with_share(task, share)) for share in (1 / 3, 0.5))
    assert third < half
    assert (len(third), len(half)) == (5 * 8, 8 * 8)


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(INPUTS, LABELS, strict=True)


@pytest.mark.parametrize(
    ("form", "share", "told"),
    [
        ("tensors", 0.0, "share=0.0; expected a number > 0 and <= 1"),
        ("tensors", 1.5, "share=1.5"),
        ("tensors", "half", "share='half'"),
        ("tensors", 0.05, r"5 % of 120 training samples are 6; expected at least 8"),
        ("loader", 0.01, "a batch has. Give a larger share"),
    ],
)
def test_a_wrong_share_is_refused(form, share, told):
    with pytest.raises(TaskError, match=told):
        with_share(brought(form), share)


def test_a_stream_has_no_samples_to_choose():
    task = Task(zoo.model("linear"), DataLoader(Stream(), 8), device="cpu")
    with pytest.raises(TaskError, match="train is a DataLoader whose samples cannot be chosen"):
        with_share(task, 0.5)


# --- widths ---------------------------------------------------------------------------------------


def make(width=8):
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 3))


def widened(factory=make, **options):
    return Task(factory, (INPUTS, LABELS), batch_size=8, device="cpu", **options)


def test_a_task_is_made_with_another_width():
    task = widened(val=(INPUTS, LABELS))
    wide = with_width(task, 32)
    assert (own_width(task), own_width(wide)) == (8, 32)
    assert wide.new_model()[0].out_features == 32
    assert task.new_model()[0].out_features == 8
    assert wide.run_bytes.total > task.run_bytes.total
    assert "227 parameters" in repr(wide)
    runs = [Run("a", 0.1)]
    same = train(with_width(task, 8), runs, 9)
    known = train(task, runs, 9)
    assert same.frame.equals(known.frame), "its own width changes nothing"
    assert train(wide, runs, 9).frame["batch"].tolist() == known.frame["batch"].tolist()


class Wide(nn.Module):
    def __init__(self, depth=1, width=16):
        super().__init__()
        self.layers = make(width)

    def forward(self, inputs):
        return self.layers(inputs)


@pytest.mark.parametrize("factory", [Wide, partial(Wide, 2), partial(make, width=4)])
def test_classes_and_partials_have_widths_too(factory):
    task = widened(factory)
    known = own_width(task)
    assert known in (16, 4)
    assert with_width(task, 2 * known).run_bytes.total > task.run_bytes.total


@pytest.mark.parametrize(
    ("factory", "told"),
    [
        (make(8), "the model was given as an nn.Module"),
        (lambda: make(8), "the model was given as a lambda"),
        (lambda width=None: make(width or 8), "whose default is the width that you use"),
        (partial(nn.Linear, 3, 3), "def make"),
    ],
)
def test_a_model_without_a_width_is_refused(factory, told):
    task = widened(factory)
    assert own_width(task) is None
    with pytest.raises(TaskError, match=told):
        with_width(task, 4)


def test_a_width_is_a_whole_number():
    with pytest.raises(ArgumentError, match="width must be a whole number >= 1, got 0"):
        with_width(widened(), 0)


def test_the_users_model_is_not_touched_by_its_samples():
    model = zoo.model("convolution")
    before = copy.deepcopy(model.state_dict())
    task = Task(model, zoo.images(), batch_size=8, device="cpu")
    train(with_share(task, 0.5), [Run("a", 0.1)], 5)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
