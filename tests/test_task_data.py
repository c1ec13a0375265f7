"""Data: a seed determines the endless stream of batches, whatever form the data have."""

import random
from collections import UserDict, namedtuple
from itertools import islice

import numpy as np
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from lrtune.errors import TaskError
from lrtune.task.batches import (
    DIGEST_NUMBERS,
    clone_batch,
    count_examples,
    describe_batch,
    digest,
    leaves,
    to_device,
)
from lrtune.task.data import as_data
from lrtune.task.random_state import preserve_random_state

EVERYTHING = zoo.DATA | zoo.ORDERED


def data_of(name, source=None):
    size = zoo.BATCH if name in zoo.UNCUT else None
    return as_data(EVERYTHING[name]() if source is None else source, size, what="train")


def taken(data, seed, batches=9):
    """The digests of the first batches of a stream."""
    with preserve_random_state():
        return [digest(batch) for batch in islice(data.batches(seed), batches)]


def rows_of(batch):
    """Which examples a batch holds, by their first number."""
    inputs = batch["inputs"] if isinstance(batch, dict) else batch[0]
    return inputs[:, 0].tolist()


# --- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_stream_is_decided_by_its_seed(name):
    data = data_of(name)
    assert taken(data, 3) == taken(data, 3) == taken(data_of(name), 3)


@pytest.mark.parametrize("name", zoo.DATA)
def test_another_seed_or_epoch_is_another_order(name):
    one, other = (taken(data_of(name), seed) for seed in (0, 1))
    assert not set(one) & set(other)
    assert len(set(one)) == 9


@pytest.mark.parametrize("name", sorted(set(EVERYTHING) - {"augmented"}))
def test_every_epoch_holds_every_example_once(name):
    data = data_of(name)
    with preserve_random_state():
        batches = list(islice(data.batches(0), 9))
    every = sorted(zoo.vectors()[0][:, 0].tolist())
    for epoch in (batches[:3], batches[3:6], batches[6:]):
        assert sorted(row for batch in epoch for row in rows_of(batch)) == every


@pytest.mark.parametrize("name", EVERYTHING)
@settings(max_examples=6)
@given(draws=st.lists(st.integers(0, 5), min_size=6, max_size=6))
def test_what_runs_between_two_batches_does_not_matter(name, draws):
    data = data_of(name)
    seen = []
    with preserve_random_state():
        for batch, count in zip(data.batches(0), draws, strict=False):
            seen.append(digest(batch))
            torch.rand(count), np.random.random(count), [random.random() for _ in range(count)]
    assert seen == taken(data, 0, 6)


@pytest.mark.parametrize("name", EVERYTHING)
def test_two_streams_side_by_side_do_not_mix(name):
    data = data_of(name)
    with preserve_random_state():
        streams = [data.batches(seed) for seed in (0, 1)]
        pairs = [[digest(next(one)) for one in streams] for _ in range(7)]
    assert [list(one) for one in zip(*pairs, strict=True)] == [taken(data, s, 7) for s in (0, 1)]


@pytest.mark.parametrize("persistent", [True, False])
def test_workers_are_seeded_too(persistent):
    """Their augmentation draws from the global generators of other processes."""
    options = {"num_workers": 2, "persistent_workers": persistent, "shuffle": True}
    loader = DataLoader(zoo.Augmented(), zoo.BATCH, **options)
    before = zoo.photograph(loader)
    one, again, other = (taken(as_data(loader, None, what="train"), seed, 5) for seed in (0, 0, 1))
    assert one == again
    assert not set(one) & set(other)
    assert zoo.photograph(loader) == before


@pytest.mark.parametrize("name", zoo.DATA)
def test_what_the_user_draws_from_a_loader_meanwhile_does_not_matter(name):
    source = EVERYTHING[name]()
    data = data_of(name, source)
    first = taken(data, 0)
    if name not in zoo.UNCUT:
        with preserve_random_state():
            list(source)
    assert taken(data, 0) == first


# --- size -----------------------------------------------------------------------------------------


def sizes(source, batch_size=None, *, batches=None):
    data = as_data(source, batch_size, what="train")
    with preserve_random_state():
        epoch = data.epoch(0, 0) if batches is None else islice(data.batches(0), batches)
        return [count_examples(batch) for batch in epoch]


@settings(max_examples=50)
@given(rows=st.integers(1, 40), size=st.integers(1, 20))
def test_a_short_last_batch_is_dropped_unless_it_is_the_only_one(rows, size):
    tensors = torch.arange(rows), torch.arange(rows)
    for source in (tensors, TensorDataset(*tensors)):
        full, rest = divmod(rows, size)
        assert sizes(source, size) == ([size] * full or [rest])


def test_batches_of_64_are_made_when_nothing_is_said():
    tensors = torch.zeros(150, 1), torch.zeros(150)
    assert sizes(tensors) == sizes(TensorDataset(*tensors)) == [64, 64]


def test_short_data_are_cycled():
    assert sizes([(torch.zeros(2), torch.zeros(2))], batches=5) == [2] * 5
    assert sizes((torch.zeros(3, 1), torch.zeros(3)), 2, batches=4) == [2] * 4


def test_a_users_own_short_batch_stays():
    loader = DataLoader(TensorDataset(torch.zeros(10), torch.zeros(10)), 4)
    assert sizes(loader) == [4, 4, 2]


# --- what is refused ------------------------------------------------------------------------------

X, Y = zoo.vectors()
REFUSED = {
    "none": (None, None, "train is a NoneType; expected a DataLoader"),
    "number": (3, None, "train is a int; expected a DataLoader"),
    "scalar": (torch.tensor(1.0), None, "train is a Tensor; expected a DataLoader"),
    "generator": ((batch for batch in [(X, Y)]), None, "iterated only once"),
    "iterator": (iter([(X, Y)]), None, "Pass list"),
    "rows differ": ((X, Y[:5]), None, r"shapes \(24, 3\), \(5,\); expected the same number"),
    "no rows": ((X[:0], Y[:0]), None, r"shapes \(0, 3\), \(0,\)"),
    "no tensors": ((), None, r"shapes \(\)"),
    "numbers": ((1.0, 2.0), None, r"shapes \(\), \(\)"),
    "tuple of batches": (
        ((X, Y), (X, Y)),
        None,
        "tuple, tuple; expected .* Put batches into a list",
    ),
    "words": ((X, ["a"] * 24), None, "Tensor, list; expected tensors or arrays of numbers"),
    "objects": ((X, np.array([None] * 24)), None, "Tensor, ndarray; expected"),
    "empty set": (TensorDataset(X[:0]), None, "empty TensorDataset. Check the path"),
    "size 0": ((X, Y), 0, "batch_size must be a whole number >= 1, got 0"),
    "size -1": (TensorDataset(X, Y), -1, "got -1"),
    "size true": ((X, Y), True, "got True"),
    "size half": ((X, Y), 0.5, r"got 0\.5"),
    "size of a loader": (DataLoader(TensorDataset(X, Y)), 8, "batch_size=8 goes with .*Leave"),
    "size of a list": ([(X, Y)], 8, "train is a list that makes its own batches"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_data_are_refused_with_the_way_out(name):
    source, size, told = REFUSED[name]
    with pytest.raises(TaskError, match=told):
        as_data(source, size, what="train")


def test_data_without_a_batch_are_refused():
    short = (DataLoader(source, 64, drop_last=True) for source in (zoo.Augmented(), zoo.Streamed()))
    for source in ([], *short):
        with (
            preserve_random_state(),
            pytest.raises(TaskError, match="no batch in epoch 0") as caught,
        ):
            next(as_data(source, None, what="train").batches(0))
        assert "drop_last=True and fewer examples than one batch" in str(caught.value)


def test_a_sampler_that_cannot_be_copied_is_refused():
    class Bound(zoo.Stateful):
        def __deepcopy__(self, memo):
            raise RuntimeError("I am bound to this process")

    loader = DataLoader(TensorDataset(X, Y), 8, sampler=Bound())
    with (
        preserve_random_state(),
        pytest.raises(TaskError, match=r"cannot be copied \(RuntimeError: I am bound"),
    ):
        next(as_data(loader, None, what="train").batches(0))


# --- batches --------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "inputs labels")  # noqa: PYI024 - users do write it
FORMS = {
    "tuple": (X, Y),
    "list": [X, Y],
    "named tuple": Pair(X, Y),
    "dict": {"inputs": X, "labels": Y},
    "nested": ({"a": X, "more": [Y, (X, Y)]}, "name", None, 3),
    "user dict": UserDict(inputs=X, labels=Y),
    "sparse": (X.to_sparse(), Y),
    "others": (X.half(), X.bfloat16(), X > 0, torch.complex(X, X), torch.zeros(0), torch.tensor(1)),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_batch_of_any_form_can_be_told_moved_and_cloned(name):
    batch = FORMS[name]
    there = to_device(batch, torch.device("cpu"))
    assert type(there) is type(batch)
    assert digest(there) == digest(clone_batch(batch)) == digest(batch)
    assert describe_batch(there) == describe_batch(batch)
    for one, other in zip(leaves(batch), leaves(there), strict=True):
        assert one is other, "it is there already"
    if name != "user dict":
        own = [leaf for leaf in leaves(clone_batch(batch)) if isinstance(leaf, torch.Tensor)]
        assert not {id(leaf) for leaf in own} & {id(leaf) for leaf in leaves(batch)}


def test_a_digest_tells_batches_apart():
    batches = [
        (X, Y), (Y, X), (X,), (X, Y + 1), (X.double(), Y), (X.T, Y), (-X, Y), (X[1:], Y[1:]),
        {"inputs": X, "labels": 1}, {"inputs": X, "labels": 2}, ("a",), ("b",), (None,), (),
    ]  # fmt: skip
    assert len({digest(batch) for batch in batches}) == len(batches)


def test_a_digest_does_not_see_where_an_object_lives():
    assert digest((X, object())) == digest((X, object()))


@pytest.mark.parametrize(
    ("count", "every"),
    [
        (DIGEST_NUMBERS - 1, 1),
        (DIGEST_NUMBERS, 1),
        (DIGEST_NUMBERS + 1, 3),
        (2 * DIGEST_NUMBERS, 3),
        (2 * DIGEST_NUMBERS + 1, 3),
    ],
)
def test_a_digest_reads_at_most_so_many_numbers(count, every):
    nothing = digest(torch.zeros(count))
    ones = torch.eye(100, count)
    assert [digest(one) != nothing for one in ones] == [place % every == 0 for place in range(100)]


@pytest.mark.parametrize("width", [8, 14, 16, 28, 30, 32, 64, 96, 100, 112, 224])
def test_a_digest_reads_more_than_one_column_of_images(width):
    images = torch.zeros(8, 1, width, width)
    other = images.clone()
    other[:, :, 1:-1, 1:-1] = torch.rand(width - 2, width - 2)  # the border stays black
    assert digest(images) != digest(other)


def test_the_length_of_a_batch_is_that_of_its_first_tensor():
    batches = (X, Y), {"a": 3, "b": X[:4]}, ("a", torch.tensor(1.0)), ()
    assert [count_examples(batch) for batch in batches] == [24, 4, 1, 1]
