"""A floor is a number below which no loss falls: a loss that does is told, with both numbers."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional

import lrtune
from lrtune import Run, Task, Trace
from lrtune.errors import ArgumentError, TaskError

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(60, 3, generator=DRAW)
Y = (X @ torch.randn(3, 3, generator=DRAW)).argmax(1)


def cross_entropy(outputs, labels):
    return functional.cross_entropy(outputs, labels)


def task(floor, val=(X, Y), loss=cross_entropy):
    def make():
        torch.manual_seed(0)
        return nn.Linear(3, 3)

    return Task(make, (X, Y), loss=loss, val=val, floor=floor, device="cpu")


VERBS = {
    "train": lambda one: lrtune.train(one, [Run("a", 0.5)], 60),
    "search": lambda one: lrtune.search(one, steps=60),
    "range_test": lambda one: lrtune.range_test(one, steps=60),
    "compare": lambda one: lrtune.compare(one, 0.5, steps=60, schedules=["step"]),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_loss_below_the_floor_is_refused(verb):
    with pytest.raises(
        TaskError, match=r"floor=0.7, but the training loss of run .* is 0\."
    ) as told:
        VERBS[verb](task(0.7))
    assert float(re.search(r"is (0\.\d+)", str(told.value))[1]) < 0.7


def test_a_validation_loss_below_it_is_refused():
    """It may lie below that of training, as with easier data."""
    easy = (100 * X, (100 * X @ torch.eye(3)).argmax(1))
    identity = nn.Linear(3, 3)
    identity.weight.data = torch.eye(3)
    brought = Task(
        identity, (X, Y), loss=cross_entropy, val=easy, floor=0.4, optimizer=torch.optim.SGD,
        device="cpu",
    )  # fmt: skip
    with pytest.raises(TaskError, match=r"floor=0.4, but the selection loss of 'a' is"):
        lrtune.train(brought, [Run("a", 1e-6)], 1)


@pytest.mark.filterwarnings("ignore::lrtune.errors.AnswerWarning")
@pytest.mark.parametrize("floor", [None, 0.0, 1e-9])
def test_a_floor_that_no_loss_reaches_is_none_to_speak_of(floor):
    for verb in VERBS.values():
        verb(task(floor))


def test_a_sum_and_a_loss_at_its_floor_pass():
    summed = task(0.0, loss=nn.CrossEntropyLoss(reduction="sum"))
    assert lrtune.train(summed, [Run("a", 0.01)], 9).runs["outcome"].item() == "FINISHED"
    hinge = task(0.0, loss=lambda out, y: functional.multi_margin_loss(out, y, margin=1e-3))
    assert lrtune.train(hinge, [Run("a", 1.0)], 60).runs["outcome"].item() == "FINISHED"


def test_a_trace_of_the_users_own_has_none_below_its_floor():
    runs = [Run("a", 0.1), Run("b", 0.2)]
    with pytest.raises(ArgumentError, match=r"floor=0.9, but losses\['b'\] falls to 0.3"):
        Trace.of(runs, 2, {"a": [2.0, 1.0], "b": [2.0, 0.3]}, floor=0.9)
    Trace.of(runs, 2, {"a": [2.0, 1.0], "b": [2.0, float("nan")]}, floor=0.9)
