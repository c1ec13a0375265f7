"""How a task makes its optimizers, and the rates of their groups; which set their own rate."""

import contextlib
import functools

import pytest
import torch
import zoo
from torch import nn
from torch.optim import SGD, AdamW

import lrtune
from lrtune import Task
from lrtune.schedules import cosine
from lrtune.schedules.torch_schedulers import to_torch
from lrtune.task.optimizers import unapplied_multipliers
from lrtune.testing import bowl

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


# --- what a sweep does to parameter groups --------------------------------------------------------


class Two(nn.Module):
    """Two weights, whose sum is the loss: each update lowers a weight by its group's rate."""

    def __init__(self):
        super().__init__()
        self.back, self.head = (nn.Parameter(torch.ones(1)) for _ in range(2))

    def forward(self, inputs):
        return (self.back + self.head) * inputs.new_ones(())


def grouped(back):
    """A task whose backbone has the rate `back(lr)`, and the head `lr`; and the rates it was given.

    Each entry is (rate of the backbone, rate of the head).
    """
    seen = []

    class Spy(SGD):
        def step(self, closure=None):
            seen.append(tuple(float(group["lr"]) for group in self.param_groups))
            return super().step(closure)

    def make(model, lr):
        groups = [{"params": [model.back], "lr": back(lr)}, {"params": [model.head]}]
        return Spy(groups, lr=lr)

    task = Task(
        Two(), [torch.ones(1)], objective=lambda model, batch: model(batch).sum(), optimizer=make,
        device="cpu",
    )  # fmt: skip
    seen.clear()
    return task, seen


BACKBONES = {
    "fixed": lambda lr: 1e-3,
    "frozen": lambda lr: 0.0,
    "a tenth": lambda lr: lr / 10,
    "at most": lambda lr: min(lr, 1e-3),
    "at least": lambda lr: max(lr, 1e-3),
    "a sum": lambda lr: 1e-4 + lr / 2,
    "a root": lambda lr: lr**0.5,
}


@pytest.mark.parametrize("engine", ["loop", "vmapped"])
@pytest.mark.parametrize("kind", BACKBONES)
def test_in_a_sweep_a_group_has_the_rate_that_the_factory_gives_it(kind, engine):
    """At every step, whatever the group's rate is of the swept one."""
    back = BACKBONES[kind]
    task, seen = grouped(back)
    sweep = lrtune.range_test(
        task, high=10.0, steps=20, seeds=2, evaluate=lrtune.Evaluator(task, engine=engine)
    )
    rates = sweep.frame["lr"].tolist()
    # The first step is that of a check, and the runs beside the sweeps do not learn.
    swept = [pair for pair in seen[1:] if pair[1]]
    assert {head for _, head in swept} >= set(rates)
    assert len(swept) == 2 * 21
    for own, head in swept:
        assert own == pytest.approx(back(head), rel=1e-9)


def test_rates_that_are_tensors_are_swept_as_well():
    task, seen = grouped(lambda lr: torch.tensor(1e-3, dtype=torch.float64))
    lrtune.range_test(task, steps=9, seeds=1)
    assert {own for own, _ in seen} == {1e-3}


def test_groups_that_follow_the_rate_are_scaled_bit_for_bit_as_before():
    task, seen = grouped(lambda lr: lr / 3)
    sweep = lrtune.range_test(task, steps=30, seeds=1)
    start, high = 1e-7, 10.0
    multipliers = [start ** (1 - step / 31) for step in range(31)]
    assert seen[1:] == [((high / 3) * one, high * one) for one in multipliers]  # after a check
    assert sweep.frame["lr"].tolist() == [high * one for one in multipliers[:-1]]


@pytest.mark.parametrize("high", [0.1, 1.0, 10.0])
def test_how_far_a_sweep_goes_changes_nothing_of_a_group_with_a_rate_of_its_own(high):
    task, seen = grouped(lambda lr: 1e-3)
    lrtune.range_test(task, high=high, steps=20, seeds=1)
    assert {own for own, _ in seen} == {1e-3}


def test_a_group_that_a_sweep_may_not_touch_learns_as_if_there_were_no_sweep():
    """The losses of a sweep are those of a loop that raises the rate of the head alone."""
    draw = torch.Generator().manual_seed(0)
    batch = torch.randn(16, 4, generator=draw), torch.randn(16, 2, generator=draw)

    def make(model, lr):
        back, head = model[0].parameters(), model[2].parameters()
        return AdamW([{"params": back, "lr": 1e-3}, {"params": head}], lr=lr)

    model = torch.nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    task = Task(model, [batch], loss=nn.MSELoss(), optimizer=make, device="cpu")
    sweep = lrtune.range_test(task, low=1e-5, high=1.0, steps=40, seeds=1)
    optimizer, losses = make(model, 1.0), []
    for lr in sweep.frame["lr"]:
        optimizer.zero_grad()
        nn.MSELoss()(model(batch[0]), batch[1]).backward()
        optimizer.param_groups[1]["lr"] = lr
        optimizer.step()
        losses.append(nn.MSELoss()(model(batch[0]), batch[1]).item())
    assert sweep.frame["loss"].tolist() == pytest.approx(losses, rel=1e-6)


def test_the_schedule_of_a_training_multiplies_every_group_as_torchs_schedulers_do():
    task, seen = grouped(lambda lr: 1e-3)
    lrtune.train(task, [lrtune.Run("a", 0.1, cosine())], 8)
    optimizer = SGD(
        [{"params": [torch.zeros(1)], "lr": 1e-3}, {"params": [torch.zeros(1)]}], lr=0.1
    )
    scheduler, rates = to_torch(cosine(), optimizer, 8), []
    for _ in range(8):
        rates.append(tuple(group["lr"] for group in optimizer.param_groups))
        optimizer.step()
        scheduler.step()
    assert seen == [pytest.approx(pair) for pair in rates]


def test_a_search_keeps_a_rate_of_a_groups_own_at_every_peak():
    task, seen = grouped(lambda lr: 1e-3)
    with contextlib.suppress(lrtune.LrtuneError):  # a loss without a bottom has no best rate
        lrtune.search(task, steps=40, schedule="constant", budget=2.0)
    assert len({head for _, head in seen}) > 3
    assert {own for own, _ in seen} == {1e-3}


def test_a_sweep_is_no_training_with_the_same_multipliers():
    """A study would else answer one with the other."""
    from lrtune.schedules import growth
    from lrtune.training.run_keys import run_keys

    runs = []
    lrtune.range_test(
        bowl(), low=1e-3, high=1.0, steps=20, seeds=1,
        evaluate=lambda some, steps, **more: (runs.extend(some), lrtune.Evaluator(bowl())(
            some, steps, **more))[1],
    )  # fmt: skip
    trained = lrtune.Run("b", 1.0, growth(1e-3))
    assert len(set(run_keys("task", [runs[0], trained], 21, "loop"))) == 2


# --- multipliers that nobody applies --------------------------------------------------------------


def weights(*scales, name="lr_scale", **more):
    return [{"params": [torch.zeros(1)], name: scale, **more} for scale in scales]


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        (weights(0.1, 0.5, 1.0), {"lr_scale": [0.1, 0.5]}),
        (weights(0.5, 0.5), {"lr_scale": [0.5, 0.5]}),
        (weights(1.0, 1.0), {}),
        (weights(2.0, 1.0, name="lr_mult"), {"lr_mult": [2.0]}),
        ([*weights(0.5, lr=0.05), *weights(1.0)], {}),  # applied
        ([*weights(0.5, lr=0.05), *weights(0.1)], {"lr_scale": [0.1]}),  # applied to one of them
        ([*weights(0.5, lr=1e-3), *weights(1.0, lr=1e-3)], {"lr_scale": [0.5]}),
        ([*weights(0.5, lr=5e-4), *weights(1.0, lr=1e-3)], {}),
        ([{"params": [torch.zeros(1)]}], {}),
        ([*weights(0.5), {"params": [torch.zeros(1)]}], {"lr_scale": [0.5]}),
        (weights(0.5, 1.0, name="lr_decay"), {}),  # of Adagrad, and no multiplier
    ],
)
@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_multipliers_without_effect_are_found(groups, found, kind):
    assert unapplied_multipliers(kind([dict(group) for group in groups], lr=0.1)) == found


def test_a_multiplier_that_the_optimizer_knows_is_its_own_affair():
    class Scaled(SGD):
        def __init__(self, params, lr, lr_scale=1.0):
            super().__init__(params, lr)
            self.defaults["lr_scale"] = lr_scale

    assert unapplied_multipliers(Scaled(weights(0.5, 1.0), lr=0.1)) == {}


def test_a_task_knows_the_multipliers_that_its_optimizer_leaves_without_effect():
    def layer_decay(model, lr):
        return AdamW([{"params": [model.weight], "lr_scale": 0.7}, {"params": [model.bias]}], lr=lr)

    task = Task(zoo.model("linear"), (X, Y), optimizer=layer_decay)
    assert task.unapplied_multipliers == {"lr_scale": [0.7]}
    assert Task(zoo.model("linear"), (X, Y)).unapplied_multipliers == {}
