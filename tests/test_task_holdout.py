"""val=0.1: a share of the training data, whatever form they have; what is left is trained on."""

from itertools import chain, islice

import numpy as np
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrtune import Run, Task, train
from lrtune.errors import TaskError
from lrtune.task.random_state import preserve_random_state
from tests import halved
from tests.halved import BATCH, FORMS, ROWS, rows_of

SHARED = [*sorted(halved.BY_INDEX), "list", "list of dicts", "graphs", "objects"]
REFUSED = sorted(set(FORMS) - set(SHARED) - {"single rows"})
UNCUT = {"tensors", "arrays", "tensor dataset", "dataset", "labelled dataset", "subset"}


def shared(source, share, size=None):
    """A task that holds a share out."""
    model = zoo.born(lambda: nn.Linear(3, 4))
    return Task(model, source, val=share, objective=halved.objective, batch_size=size, device="cpu")


def validated(task):
    with preserve_random_state():
        return sorted(row for _, batch in task._val.batches() for row in rows_of(batch))


def epoch(task, seed=0):
    """The rows of an epoch, batch by batch."""
    with preserve_random_state():
        return [rows_of(batch) for batch in task._train.epoch(seed, 0)]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("name", sorted(set(SHARED) - {"objects"}))
def test_training_and_validation_rows_are_disjoint_and_together_all(name, share):
    source = FORMS[name]()
    with zoo.untouched(None if name in halved.NOTING else source):
        task = shared(source, share, 1 if name in UNCUT else None)  # so that none is dropped
        held = validated(task)
        trained = {row for seed in range(9) for batch in epoch(task, seed) for row in batch}
    assert set(held) | trained == set(range(ROWS))
    assert not set(held) & trained
    if name in halved.BY_INDEX:
        assert len(held) == round(share * ROWS)
        assert sum(task.val_counts.values()) == len(held)


@pytest.mark.parametrize("name", SHARED)
def test_the_share_is_always_the_same_and_can_be_trained(name):
    one, other = (shared(FORMS[name](), 0.3) for _ in range(2))
    assert validated(one) == validated(other)
    trace = train(one, [Run("a", 0.1)], 3)
    assert trace.validations["part"].tolist() == ["selection", "test"]
    assert len({len(frame) for frame in (train(other, [Run("a", 0.1)], 3).frame, trace.frame)}) == 1


def test_the_share_is_stratified():
    labels = torch.arange(90) % 3
    inputs = torch.randn(90, 3)
    inputs[:, 0] = torch.arange(90) / ROWS
    for source in ((inputs, labels), DataLoader(TensorDataset(inputs, labels), 9)):
        counts = torch.bincount(labels[validated(shared(source, 0.2))])
        assert (counts - 6).abs().max() <= 1


@given(st.integers(2, 60), st.integers(2, 9))
@settings(max_examples=30)
def test_of_a_list_every_kth_batch_is_held_out(batches, kth):
    source = [(torch.full((2, 3), float(n)) / ROWS, torch.zeros(2).long()) for n in range(batches)]
    if batches < kth / 2:
        with pytest.raises(TaskError, match=r"holds out 0 of .* expected at least 2"):
            shared(source, 1 / kth)
        return
    held = validated(shared(source, 1 / kth))
    assert held[::2] == held[1::2] == list(range((kth - 1) // 2, batches, kth))


# --- the loader over the rest ---------------------------------------------------------------------


def sizes(task):
    return [len(batch) for batch in epoch(task)]


def test_the_rest_comes_with_the_settings_of_the_users_loader():
    dataset = TensorDataset(*halved.rows())
    assert sizes(shared(DataLoader(dataset, 8), 0.2)) == [8, 8, 8, 8, 1]
    assert sizes(shared(DataLoader(dataset, 8, drop_last=True), 0.2)) == [8, 8, 8, 8]
    assert sizes(shared(dataset, 0.2, 8)) == sizes(shared(halved.rows(), 0.2, 8)) == [8] * 4
    assert sizes(shared(dataset, 0.8, 64)) == sizes(shared(halved.rows(), 0.8, 64)) == [8]
    named = shared(DataLoader(dataset, 8, collate_fn=halved.by_name), 0.2)
    assert named.describe()["batch"] == "{labels: int64[8], inputs: float32[8, 3]}"
    with preserve_random_state():
        ((part, batch), *_) = named._val.batches()
    assert (part, sorted(batch)) == ("selection", ["inputs", "labels"])


@pytest.mark.parametrize("own", [True, False], ids=["own generator", "global generator"])
def test_the_rest_is_shuffled_if_the_users_loader_shuffles(own):
    dataset, generator = TensorDataset(*halved.rows()), torch.Generator().manual_seed(3)
    loader = DataLoader(dataset, BATCH, shuffle=True, generator=generator if own else None)
    with zoo.untouched(loader):
        task = shared(loader, 0.2)
        one, again, other = epoch(task), epoch(task), epoch(task, 1)
    assert one == again != other
    assert sorted(chain(*one)) == sorted(chain(*other)) != list(chain(*one))
    assert epoch(task) == epoch(shared(loader, 0.2))
    ordered = list(chain(*epoch(shared(DataLoader(dataset, BATCH), 0.2))))
    assert ordered == sorted(ordered)


def test_a_task_without_a_share_draws_what_it_drew():
    plain = Task(zoo.model("linear"), zoo.vectors(), batch_size=8)
    with preserve_random_state():
        drawn = torch.cat([batch[0] for batch in islice(plain.batches(0), 3)])
    assert sorted(drawn[:, 0].tolist()) == sorted(zoo.vectors()[0][:, 0].tolist())


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFUSED)
def test_a_share_of_what_cannot_be_chosen_from_is_refused(name):
    with pytest.raises(TaskError, match=r"whose samples cannot be chosen\. Pass validation data"):
        shared(FORMS[name](), 0.1)


@pytest.mark.parametrize("share", [0, 1, 1.0, 0.0, -0.1, 5, float("nan"), np.float64(2)])
def test_a_number_that_is_no_share_is_refused(share):
    with pytest.raises(TaskError, match=r"expected a share of the training data, > 0 and < 1"):
        shared(halved.rows(), share)


@pytest.mark.parametrize("name", ["tensors", "dataset", "loader", "graphs"])
def test_a_share_that_is_too_small_or_too_large_is_refused(name):
    for share in (0.01, 0.03):
        with pytest.raises(TaskError, match="expected at least 2"):
            shared(FORMS[name](), share)
    if name != "graphs":
        with pytest.raises(TaskError, match="nothing is left to train on"):
            shared(FORMS[name](), 0.999)
