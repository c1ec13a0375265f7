"""How a task makes its optimizers, and which of them set their own rate."""

import functools

import pytest
import torch
import zoo
from torch.optim import SGD, AdamW

from lrtune import Task

X, Y = zoo.vectors()


class OwnRate(torch.optim.Optimizer):
    """SGD with an estimate of the rate that doubles at each update, kept as Prodigy keeps it."""

    def __init__(self, params, lr=1.0, d0=1e-6):
        super().__init__(params, {"lr": lr, "d": d0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for one in group["params"]:
                one.sub_(group["lr"] * group["d"] * one.grad)
            group["d"] *= 2


def only_the_last(model, lr):
    groups = [{"params": [model.weight]}, {"params": [model.bias], "d": 1e-6}]
    return SGD(groups, lr=lr)


@pytest.mark.parametrize(
    ("optimizer", "adapts"),
    [
        (None, False), (AdamW, False), (functools.partial(SGD, momentum=0.9), False),
        (OwnRate, True), (functools.partial(OwnRate, d0=1e-3), True), (only_the_last, True),
        (lambda model, lr: OwnRate(model.parameters(), lr), True),
    ],
)  # fmt: skip
def test_an_optimizer_that_sets_its_own_rate_is_known_by_its_groups(optimizer, adapts):
    task = Task(zoo.model("linear"), (X, Y), optimizer=optimizer)
    assert task.adapts_rate is adapts
    assert task.on("cpu").adapts_rate is adapts
