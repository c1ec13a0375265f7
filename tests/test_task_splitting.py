"""Dividing rows: disjoint, exhaustive, stratified, and the same everywhere."""

import os
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lrtune.task.splitting import (
    StreamKeys,
    StreamSplitter,
    class_labels,
    fair_order,
    split_in_halves,
)

CLASSES = st.lists(st.integers(-3, 6), max_size=80)


def counts(classes):
    return {each: classes.count(each) for each in set(classes)}


# --- rows that can be had in any order


@given(CLASSES)
def test_halves_are_disjoint_exhaustive_and_stratified(classes):
    halves = [half.tolist() for half in split_in_halves(torch.tensor(classes, dtype=torch.int64))]
    assert sorted(halves[0] + halves[1]) == list(range(len(classes)))
    assert len(halves[0]) - len(halves[1]) in (0, 1)
    one, other = (counts([classes[row] for row in half]) for half in halves)
    assert all(abs(one.get(each, 0) - other.get(each, 0)) <= 1 for each in classes)


@given(CLASSES)
def test_every_first_part_of_a_fair_order_has_each_class_by_its_share(classes):
    order = fair_order(torch.tensor(classes, dtype=torch.int64)).tolist()
    assert sorted(order) == list(range(len(classes)))
    whole, ordered = counts(classes), [classes[row] for row in order]
    for taken in range(1, len(order) + 1):
        first = ordered[:taken]
        for each, count in whole.items():
            most = 1 + len(whole) * count / len(classes)  # of classes, each rounds its own share
            assert abs(first.count(each) - taken * count / len(classes)) <= most


def test_the_order_is_not_the_users():
    assert fair_order(torch.zeros(50, dtype=torch.int64)).tolist() != list(range(50))


@pytest.mark.slow
def test_the_order_is_the_same_in_another_process():
    classes = [(7 * row) % 5 for row in range(60)]
    code = (
        "import torch; from lrtune.task.splitting import *; "
        f"classes = {classes}; tensor = torch.tensor(classes); keys = StreamKeys(); "
        "halves = [half.tolist() for half in split_in_halves(tensor)]; "
        "torch.manual_seed(3); "
        "print((fair_order(tensor).tolist(), halves, StreamSplitter().split(classes), "
        "[keys.key(each) for each in classes]))"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    tensor, keys = torch.tensor(classes), StreamKeys()
    halves = [half.tolist() for half in split_in_halves(tensor)]
    here = (
        fair_order(tensor).tolist(), halves, StreamSplitter().split(classes),
        [keys.key(each) for each in classes],
    )  # fmt: skip
    assert seen.stdout.strip() == repr(here)


# --- rows that stream by


@given(st.lists(CLASSES, max_size=6))
def test_of_each_two_consecutive_rows_of_a_class_one_goes_to_each_half(batches):
    splitter, sides = StreamSplitter(), {}
    for batch in batches:
        halves = splitter.split(batch)
        assert sorted(halves[0] + halves[1]) == list(range(len(batch)))
        for position, each in enumerate(batch):
            sides.setdefault(each, []).append(position in halves[1])
    for half_of in sides.values():
        pairs = zip(half_of[::2], half_of[1::2], strict=False)
        assert all(one != other for one, other in pairs)


@given(CLASSES, st.data())
def test_how_rows_are_cut_into_batches_does_not_matter(classes, data):
    cut = data.draw(st.integers(0, len(classes)))
    whole, parts = StreamSplitter(), StreamSplitter()
    first, second = parts.split(classes[:cut]), parts.split(classes[cut:])
    expected = tuple(
        one + [cut + row for row in more] for one, more in zip(first, second, strict=True)
    )
    assert whole.split(classes) == expected


@given(st.integers(1, 200))
def test_halves_of_a_stream_are_balanced_though_each_row_is_a_class(rows):
    halves = StreamSplitter().split(range(rows))
    assert halves[0][0] == 0, "the selection half is never empty"
    assert abs(len(halves[0]) - len(halves[1])) <= 1


@given(st.integers(20, 3000), st.integers(2, 20))
def test_a_sample_of_a_stream_is_spread_over_it(rows, samples):
    keys = StreamKeys()
    lowest = sorted(range(rows), key=[keys.key(0) for _ in range(rows)].__getitem__)[:samples]
    places = [0, *sorted(lowest), rows]
    gaps = [after - before for before, after in pairwise(places)]
    assert max(gaps) <= 4 * rows / samples + 2


def test_a_sample_of_a_stream_has_each_class_by_its_share():
    generator = torch.Generator().manual_seed(1)
    classes = torch.randint(0, 4, (2000,), generator=generator).tolist()
    keys = StreamKeys()
    order = sorted(range(2000), key=[keys.key(each) for each in classes].__getitem__)
    for samples in (100, 200, 400):
        found = counts([classes[row] for row in order[:samples]])
        for each, count in counts(classes).items():
            assert abs(found[each] - samples * count / 2000) <= 5


# --- classes

TARGETS = {
    "int64": (torch.tensor([3, 1, 3]), [3, 1, 3]),
    "uint8": (torch.tensor([3, 1, 3], dtype=torch.uint8), [3, 1, 3]),
    "bool": (torch.tensor([True, False, True]), [1, 0, 1]),
    "floats": (torch.ones(3), None),
    "complex": (torch.ones(3, dtype=torch.complex64), None),
    "pictures": (torch.ones(3, 2, dtype=torch.int64), None),
    "another number of rows": (torch.ones(4, dtype=torch.int64), None),
    "a list": ([1, 2, 3], None),
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_classes_where_each_row_has_one_integer(name):
    targets, classes = TARGETS[name]
    found = class_labels(targets, 3)
    assert (None if found is None else found.tolist()) == classes
