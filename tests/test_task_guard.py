"""Losses that use the user's own model instead of the copy that is trained are refused."""

import pytest
import torch
import zoo
from torch import nn

from lrtune import Task
from lrtune.errors import TaskError

entropy = nn.functional.cross_entropy


def task(model, **more):
    return Task(model, zoo.vectors(), batch_size=8, device="cpu", **more)


def normed():
    return zoo.born(lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3)))


def bits(model):
    """Numbers, modes and gradients; a buffer that was put back counts its changes."""
    numbers = {name: value.tolist() for name, value in model.state_dict().items()}
    return (
        numbers,
        [part.training for part in model.modules()],
        [p.grad for p in model.parameters()],
    )


def test_a_loss_that_weighs_the_users_own_weights_is_refused():
    model = zoo.model("linear")
    with zoo.untouched(model), pytest.raises(TaskError, match="depends on weight of your Linear"):
        task(model, loss=lambda out, label: entropy(out, label) + model.weight.norm())


def test_the_objective_that_the_message_asks_for_is_taken():
    model = zoo.model("linear")
    task(
        model,
        objective=lambda model, batch: entropy(model(batch[0]), batch[1]) + model.weight.norm(),
    )


OBJECTIVES = {
    "trains it": lambda mine, _given, batch: entropy(mine(batch[0]), batch[1]),
    "moves its buffers": lambda mine, given, batch: entropy(
        given(batch[0]) + 0 * mine(batch[0]).detach(), batch[1]
    ),
    "turns its mode": lambda mine, given, batch: (
        entropy(given(batch[0]), batch[1]) + 0 * len(str(mine.eval()))
    ),
    "hangs something onto it": lambda mine, given, batch: (
        entropy(given(batch[0]), batch[1]) + 0 * len(str(setattr(mine, "latest", batch)))
    ),
    "replaces a buffer": lambda mine, given, batch: (
        entropy(given(batch[0]), batch[1])
        + 0 * len(str(setattr(mine[0], "running_var", torch.zeros(3))))
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_that_uses_the_users_model_is_refused_and_undone(name):
    mine = normed()
    before, attributes = bits(mine), set(vars(mine))
    with pytest.raises(TaskError, match=r"your Sequential itself.*objective=lambda model, batch"):
        task(mine, objective=lambda given, batch: OBJECTIVES[name](mine, given, batch))
    assert bits(mine) == before
    assert set(vars(mine)) == attributes


def test_the_model_is_restored_when_another_check_fails():
    mine = normed()
    before = bits(mine)

    def objective(_model, batch):
        mine(batch[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        task(mine, objective=objective)
    assert bits(mine) == before


def test_reading_the_model_without_changing_it_is_accepted():
    mine = normed()
    mine[0].running_mean[0] = torch.nan  # which differs from itself
    with zoo.untouched(mine):
        task(mine.requires_grad_(), loss=lambda o, t: entropy(o.nan_to_num(), t) * len(mine))
