"""Losses that call backward(), batches that hold a graph, and weights tied by their memory."""

import pytest
import torch
import zoo
from torch import nn
from torch.nn import functional

import lrtune
from lrtune import Run, Task
from lrtune.errors import EngineError, TaskError

X, Y = zoo.vectors()


def task(model=lambda: nn.Linear(3, 3), train=(X, Y), **more):
    return Task(model, train, device="cpu", **more)


def cross_entropy(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


# --- backward() in the loss


def backward_too(model, batch):
    loss = cross_entropy(model, batch)
    if model.training:
        loss.backward(retain_graph=True)
    return loss


def a_part_too(model, batch):
    model(batch[0]).square().mean().backward()
    return cross_entropy(model, batch)


def loss_of_outputs(outputs, labels):
    loss = functional.cross_entropy(outputs, labels)
    loss.backward(retain_graph=True)
    return loss


@pytest.mark.parametrize(
    "more",
    [{"objective": backward_too}, {"objective": a_part_too}, {"loss": loss_of_outputs}],
)
def test_a_loss_that_calls_backward_is_refused(more):
    with pytest.raises(TaskError, match=r"calls backward\(\) itself: 2 weights.*without backward"):
        task(**more)


def test_a_gradient_penalty_is_no_backward():
    """It asks for a gradient without storing it."""

    def penalty(model, batch):
        inputs = batch[0].detach().requires_grad_()
        outputs = model(inputs)
        (slope,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
        return functional.cross_entropy(outputs, batch[1]) + slope.square().mean()

    assert lrtune.train(task(objective=penalty), [Run("a", 0.1)], 3).runs["steps"].item() == 3


# --- graphs in the data


@pytest.mark.parametrize(
    ("batch", "whose"),
    [
        (lambda encoder: (encoder(X), Y), "the outputs of another model"),
        (lambda encoder: {"x": X, "more": [encoder(X)[:, :1], Y]}, "the outputs of another model"),
        (lambda _: (X.clone().requires_grad_(), Y), "inputs"),
    ],
)
def test_batches_that_require_gradients_are_refused_and_nothing_is_changed(batch, whose):
    encoder = nn.Linear(3, 3)
    made = batch(encoder)
    with pytest.raises(TaskError, match=rf"1 of \d tensors of a batch.*{whose}.*Pass x.detach"):
        task(train=[made], objective=lambda model, one: model(X).sum())
    assert encoder.weight.grad is None
    assert task(train=[(encoder(X).detach(), Y)]).batch_examples == len(X)


# --- ties by memory


class Tied(nn.Module):
    """Two parameters that are views of the same numbers."""

    def __init__(self, tie):
        super().__init__()
        self.one, self.two = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        tie(self)

    def forward(self, inputs):
        return self.two(self.one(inputs).relu())


def transposed(model):
    model.two.weight = nn.Parameter(model.one.weight.t())


def by_data(model):
    model.two.weight.data = model.one.weight.data


def by_part(model):
    whole = torch.randn(5, 3)
    model.one.weight, model.two.weight = nn.Parameter(whole[:3]), nn.Parameter(whole[2:])


def as_buffer(model):
    model.register_buffer("seen", model.one.weight.detach())


TIES = [transposed, by_data, by_part, as_buffer]


@pytest.mark.parametrize("tie", TIES)
def test_weights_tied_by_memory_are_refused_where_they_would_be_copied(tie):
    model = Tied(tie)
    with pytest.raises(TaskError, match=r"(weight|seen) and .* share memory.*Pass a function"):
        task(model)
    with pytest.raises(EngineError, match="share memory"):
        lrtune.train(task(lambda: Tied(tie)), [Run("a", 0.1)], 5, engine="vmapped")


@pytest.mark.parametrize("tie", TIES[:2])
def test_a_function_makes_them_rightly(tie):
    batches = list(zip(X.split(8), Y.split(8), strict=True))
    ours = lrtune.train(
        task(lambda: zoo.born(lambda: Tied(tie)), batches), [Run("a", 0.1)], 3, engine="auto"
    )
    model = zoo.born(lambda: Tied(tie))
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), []
    for batch in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert ours.frame["loss"].tolist() == losses


def test_one_parameter_and_parts_of_one_memory_that_do_not_overlap_pass():
    """As the weights of an LSTM on a GPU, which lie one behind the other."""

    def side_by_side(model):
        whole = torch.randn(6, 3)
        model.one.weight, model.two.weight = nn.Parameter(whole[:3]), nn.Parameter(whole[3:])

    def same(model):
        model.two.weight = model.one.weight

    for tie in (side_by_side, same):
        assert task(Tied(tie)).batch_examples == len(X)
    assert task(zoo.model("linear")).batch_examples == len(X)
