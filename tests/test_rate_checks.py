"""An optimizer trains at the rates that a schedule sets, and at no others, or it is refused."""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as native

import lrtune
from lrtune import Run, Task
from lrtune.errors import TaskError

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(64, 3, generator=DRAW)
BATCHES = list(zip(X.split(16), (X.sum(1) > 0).long().split(16), strict=True))


def task(optimizer):
    torch.manual_seed(0)
    return Task(nn.Linear(3, 3), BATCHES, optimizer=optimizer, device="cpu")


def plain(model, lr):
    return SGD(model.parameters(), lr=lr, momentum=0.9)


class Wrapper(Optimizer):
    """A wrapper that does nothing by itself; its groups are those of the inner optimizer."""

    def __init__(self, base):
        self.base, self.defaults, self.state = base, base.defaults, base.state
        self.param_groups = base.param_groups

    def zero_grad(self):
        self.base.zero_grad()

    def step(self, closure=None):
        return self.base.step()

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, state):
        self.base.load_state_dict(state)


class Copied(Wrapper):
    """Its groups are copies, which the inner optimizer never sees."""

    def __init__(self, base):
        super().__init__(base)
        self.param_groups = [dict(group) for group in base.param_groups]


class Lookahead(Wrapper):
    """Every second update goes back half of the way, at any rate."""

    def __init__(self, base):
        super().__init__(base)
        self.weights = [one for group in self.param_groups for one in group["params"]]
        self.slow, self.count = [one.detach().clone() for one in self.weights], 0

    def step(self, closure=None):
        self.base.step()
        self.count += 1
        if self.count % 2 == 0:
            with torch.no_grad():
                for slow, weight in zip(self.slow, self.weights, strict=True):
                    weight.copy_(slow.lerp_(weight, 0.5))


class Accumulating(Wrapper):
    """Updates with every fourth gradient."""

    count = 0

    def step(self, closure=None):
        self.count += 1
        if self.count % 4 == 0:
            self.base.step()


class Dividing(SGD):
    """Divides by its rate, as some write momentum: at a rate of 0 the weights are NaN."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for one in group["params"]:
                one.sub_(group["lr"] * ((group["lr"] * one.grad) / group["lr"]))


class Decaying(SGD):
    """Lowers its own rate from an update on."""

    first, count = 0, 0

    def step(self, closure=None):
        super().step(closure)
        self.count += 1
        if self.count > self.first:
            for group in self.param_groups:
                group["lr"] *= 0.9


class DecayingLater(Decaying):
    first = 5


def with_scheduler(make, *, kept=True, base=plain):
    def made(model, lr):
        optimizer = base(model, lr)
        scheduler = make(optimizer, lr)
        if kept:
            optimizer.scheduler = scheduler
        return optimizer

    return made


def hooked(model, lr):
    optimizer = plain(model, lr)

    def hook(*_):
        optimizer.param_groups[0]["lr"] *= 0.9

    optimizer.register_step_post_hook(hook)
    return optimizer


SCHEDULERS = {
    "OneCycleLR": lambda optimizer, lr: native.OneCycleLR(optimizer, lr, total_steps=60),
    "LambdaLR": lambda optimizer, _: native.LambdaLR(optimizer, lambda step: min(1, step / 99)),
    "ExponentialLR": lambda optimizer, _: native.ExponentialLR(optimizer, 0.9),
    "CosineAnnealingLR": lambda optimizer, _: native.CosineAnnealingLR(optimizer, 60),
}


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_in_the_optimizers_function_is_refused_with_the_way_out(name, kept):
    with pytest.raises(TaskError, match=r"makes a .* as schedule=lrtune\.from_torch\(") as told:
        task(with_scheduler(SCHEDULERS[name], kept=kept))
    assert not kept or name in str(told.value)


def test_a_scheduler_of_a_wrapped_optimizer_is_refused():
    make = with_scheduler(SCHEDULERS["ExponentialLR"])
    with pytest.raises(TaskError, match="makes a scheduler"):
        task(lambda model, lr: Wrapper(make(model, lr)))


def test_a_group_that_notes_its_initial_rate_is_none():
    def noted(model, lr):
        return SGD([{"params": list(model.parameters()), "initial_lr": lr}], lr=lr)

    assert task(noted).describe()["optimizer"] == "SGD"


def test_an_initial_rate_that_is_another_one_is_refused():
    def noted(model, lr):
        return SGD([{"params": list(model.parameters()), "initial_lr": 0.5}], lr=lr)

    with pytest.raises(TaskError, match=r"initial_lr=0\.5 beside lr=0\.001; expected none"):
        task(noted)


@pytest.mark.parametrize("make", [hooked, Decaying])
def test_an_optimizer_that_changes_its_rate_is_refused(make):
    with pytest.raises(TaskError, match=r"given 0\.001, and after the update it has 0\.0009"):
        task(make)


@pytest.mark.parametrize(
    "verb",
    [
        lambda one: lrtune.train(one, [Run("a", 0.1)], 20),
        lambda one: lrtune.range_test(one, steps=40),
        lambda one: lrtune.search(one, steps=40),
        lambda one: lrtune.compare(one, 0.1, steps=40, schedules=["cosine"]),
    ],
    ids=["train", "range_test", "search", "compare"],
)
def test_one_that_does_so_later_is_refused_there(verb):
    one = task(DecayingLater)
    with pytest.raises(TaskError, match="changes its own rate"):
        verb(one)


def half_copied(model, lr):
    optimizer = Wrapper(SGD([{"params": [one]} for one in model.parameters()], lr=lr))
    optimizer.param_groups = [optimizer.param_groups[0], dict(optimizer.param_groups[1])]
    return optimizer


DEAF = {
    "copies of the groups": lambda model, lr: Copied(plain(model, lr)),
    "copies of one group": half_copied,
    "Rprop": torch.optim.Rprop,
}


@pytest.mark.parametrize("make", DEAF.values(), ids=DEAF)
def test_an_optimizer_that_does_not_read_its_rate_is_refused(make):
    with pytest.raises(TaskError, match=r"the same, bit for bit, at lr=0\.001 and at lr=1e-06"):
        task(make)


READING = {
    name: getattr(torch.optim, name)
    for name in ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "RMSprop", "ASGD")
} | {
    "Adadelta": torch.optim.Adadelta,
    "a rate that is a tensor": lambda model, lr: SGD(model.parameters(), lr=torch.tensor(lr)),
    "Lookahead": lambda model, lr: Lookahead(plain(model, lr)),
    "a wrapper": lambda model, lr: Wrapper(plain(model, lr)),
    "accumulation": lambda model, lr: Accumulating(plain(model, lr)),
    "a division by the rate": Dividing,
    "weight decay": functools.partial(SGD, weight_decay=0.1),
}


@pytest.mark.parametrize("make", READING.values(), ids=READING)
def test_others_train_as_in_a_plain_loop(make):
    one = task(make)
    losses = lrtune.train(one, [Run("a", 0.01)], 8).frame["loss"].tolist()
    torch.manual_seed(0)
    model, found = nn.Linear(3, 3), []
    given = make(model.parameters(), lr=0.01) if isinstance(make, (type, functools.partial)) else (
        make(model, 0.01))  # fmt: skip
    for step in range(8):
        inputs, labels = copy.deepcopy(BATCHES[step % 4])
        given.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        given.step()
        found.append(loss.item())
    assert losses == found
