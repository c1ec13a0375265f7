"""Why a run stands: laws of its continuations, planted trainings, checkpoints, and the cost."""

import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.diagnosis.broken_plateaus import BROKEN, checkpoint_of, digits, narrow, regression
from benchmarks.diagnosis.healthy import TRAIN
from lrtune import Cohort, Run, Task
from lrtune.diagnosis.observations.checkpoints import read_checkpoint
from lrtune.diagnosis.observations.continuations import (
    AGAIN,
    AVERAGED,
    HIGHER,
    LARGER,
    LOWER,
    REST,
    UNDECAYED,
    go_on,
)
from lrtune.diagnosis.observations.division import LEAST_STEPS
from lrtune.diagnosis.observations.full_gradient import gradient_excess, gradients_of
from lrtune.diagnosis.registry import CONTINUATIONS
from lrtune.diagnosis.trials import LEAST_BUDGET, STEPS, Trials
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.testing import bowl

X = torch.linspace(-1, 1, 600).reshape(150, 4)
Y = torch.arange(150) % 3
LR = 0.1


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3))


def small(optimizer=SGD, **more):
    return Task(net, (X, Y), optimizer=optimizer, batch_size=10, device="cpu", **more)


class Continued:
    """What the continuations of a training show, without what `diagnose` looks at besides."""

    def __init__(self, task, lr=None, steps=STEPS, **more):
        self.seen = Trials(task, lr, steps, **more)
        self.plateau = self.seen.plateau
        looked = [] if self.plateau is None else CONTINUATIONS
        self.findings = [found for check in looked for found in check(self.plateau)]
        self.cost = self.seen.spent
        self.steps = 0 if self.plateau is None else self.plateau.steps
        self.orders = 0 if self.plateau is None else len(self.plateau.seeds)

    def __eq__(self, other):
        return (self.findings, self.cost) == (other.findings, other.cost)

    __hash__ = None

    @property
    def names(self):
        return [one.name for one in self.findings]


@functools.cache
def continued(name, *, broken=True):
    """The continuations of a case and of its healthy twin, by the name of its finding."""
    training = CASES[name][1 if broken else 2]
    more = {key: one() if key == "checkpoint" else one for key, one in training.more.items()}
    return Continued(training.task(), training.lr, training.steps, **more)


def state_of(task, steps=12, lr=LR):
    cohort = Cohort(task, [Run("run", lr)], steps).advance()
    return cohort.inspect("run")


def plain_losses(task, state, lr, steps, seed, *, parts=1, decays=True):
    """A training loop of ten lines, which goes on from a state."""
    with preserve_random_state():
        own, losses = task.copy_state(state, lr), []
        if not decays:
            for group in own.optimizer.param_groups:
                group["weight_decay"] = 0.0
        for step, batch in zip(range(steps), task.batches(seed), strict=False):
            seed_everything(derive_seed(seed, NOISE, step))
            if step % parts == 0:
                own.optimizer.zero_grad()
            loss = task.loss(own, batch)
            loss.backward()
            if step % parts == parts - 1:
                for weight in own.model.parameters():
                    weight.grad /= parts
                own.optimizer.step()
            losses.append(loss.item())
    return losses


# --- the continuations --------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [SGD, Adam, AdamW])
def test_continuations_equal_a_plain_loop(optimizer):
    task = small(optimizer)
    state = state_of(task)
    ways = [REST, AGAIN, LOWER, HIGHER, LARGER, UNDECAYED]
    made = go_on(task, state, ways, LR, 8, seeds=[3, 4]).losses
    for row, seed in enumerate((3, 4)):
        for way in (AGAIN, LOWER, HIGHER):
            expected = plain_losses(task, state, LR * way.factor, 8, seed)
            assert made[way.name][row].tolist() == expected
        assert made[LARGER.name][row].tolist() == plain_losses(task, state, LR, 8, seed, parts=4)
        undecayed = plain_losses(task, state, LR, 8, seed, decays=False)
        assert made[UNDECAYED.name][row].tolist() == undecayed


def test_no_update_is_the_loss_of_the_state_itself():
    task = small()
    state = state_of(task)
    made = go_on(task, state, [REST, AGAIN], LR, 5, seeds=[1]).losses
    with preserve_random_state():
        own = task.copy_state(state, LR)
        for step, batch in zip(range(5), task.batches(1), strict=False):
            seed_everything(derive_seed(1, NOISE, step))
            assert made[REST.name][0, step] == task.loss(own, batch).item()
    assert made[REST.name][0, 0] == made[AGAIN.name][0, 0]


def test_averaged_weights_are_the_mean_of_all_so_far_before_the_batch():
    """On a bowl the weight itself can be read off the loss."""
    task = bowl(1.0)
    state = state_of(task, steps=3, lr=0.5)
    made = go_on(task, state, [REST, AGAIN, AVERAGED], 0.5, 6, seeds=[1]).losses
    weights = np.sqrt(2 * made[AGAIN.name][0])
    means = np.cumsum(weights) / np.arange(1, 7)
    assert np.allclose(made[AVERAGED.name][0], means**2 / 2)


def test_a_continuation_does_not_depend_on_those_beside_it():
    task = small(Adam)
    state = state_of(task)
    every = go_on(task, state, [REST, AGAIN, AVERAGED, LOWER, HIGHER, LARGER], LR, 6, seeds=[1, 2])
    for way in (LOWER, LARGER):
        alone = go_on(task, state, [way], LR, 6, seeds=[1, 2])
        assert np.array_equal(alone.losses[way.name], every.losses[way.name])


def test_a_little_memory_holds_fewer_continuations_at_once_and_changes_none(monkeypatch):
    from lrtune.diagnosis.observations import continuations

    task = small()
    state = state_of(task)
    ways = [REST, AGAIN, AVERAGED, LOWER, HIGHER]
    every = go_on(task, state, ways, LR, 6, seeds=[1]).losses
    monkeypatch.setattr(continuations, "max_runs", lambda *_: 1)
    few = go_on(task, state, ways, LR, 6, seeds=[1]).losses
    assert all(np.array_equal(few[way.name], every[way.name]) for way in ways)


def test_a_noisy_bowl_has_the_floor_that_theory_says():
    """SGD on h / 2 w**2 with gradients of noise s ends at a mean of lr s**2 / (2 (2 - lr h))."""
    task, lr = bowl(1.0, noise=0.5), 0.2
    state = state_of(task, steps=100, lr=lr)
    made = go_on(task, state, [REST, AGAIN, LOWER, LARGER, AVERAGED], lr, 300, seeds=range(1, 9))
    floors = {name: some[:, 150:].mean() for name, some in made.losses.items()}
    excess = lr * 0.25 / (2 * (2 - lr))
    assert floors[AGAIN.name] == pytest.approx(excess, rel=0.35)
    assert floors[LOWER.name] < 0.35 * excess
    assert floors[LARGER.name] < 0.6 * excess
    assert floors[AVERAGED.name] < 0.35 * excess


def test_going_on_changes_neither_the_state_nor_the_user_nor_random_numbers():
    model = net()
    task = Task(model, (X, Y), batch_size=10, device="cpu")
    state = state_of(task)
    kept = copy.deepcopy((state.model.state_dict(), state.optimizer.state_dict()))
    mine, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    go_on(task, state, [REST, AGAIN, AVERAGED, LARGER, UNDECAYED], LR, 6, seeds=[1])
    Continued(task, LR, 300)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, mine[name]) for name, value in model.state_dict().items())
    now = state.model.state_dict(), state.optimizer.state_dict()
    assert all(torch.equal(now[0][name], value) for name, value in kept[0].items())
    assert repr(now[1]) == repr(kept[1])


def test_gradients_of_noise_alone_are_within_their_noise_and_others_are_not():
    random = torch.Generator().manual_seed(0)
    noise = [torch.randn(8, 50, generator=random) for _ in range(200)]
    assert sum(gradient_excess(one) > 2 for one in noise) < 20
    assert gradient_excess(noise[0] + 1.0) > 2
    task = small(optimizer=lambda model, lr: SGD(model.parameters(), lr=lr, weight_decay=0.5))
    state = state_of(task)
    with_decay = gradients_of(task, state, 1, 2)
    for group in state.optimizer.param_groups:
        group["weight_decay"] = 0.0
    weights = torch.cat([weight.flatten() for weight in state.model.parameters()])
    expected = gradients_of(task, state, 1, 2) + 0.5 * weights.double()
    assert torch.allclose(with_decay, expected.detach())


# --- what is found ------------------------------------------------------------------------------

QUICK = {
    "noise-floor": "a bowl",
    "converged": "softmax with weight decay",
    "rate-too-low": "MLP",
    "rate-too-high": "CNN",
    "capacity": "MLP of two units",
    "overfitting": "MLP, 100 samples",
    "ended-early": "cosine over a tenth",
}
CASES = {name: next(case for case in BROKEN[name] if case[0] == QUICK[name]) for name in QUICK}


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_training_is_named_with_its_evidence_and_its_twin_is_not(name):
    found = continued(name).findings
    assert name in [one.name for one in found[:2]]
    finding = next(one for one in found if one.name == name)
    assert any(letter.isdigit() for letter in finding.evidence)
    assert all(text.endswith(".") for text in (finding.evidence, finding.cause, finding.remedy))
    if finding.chart is not None:
        assert all(len(points) > 2 for points in finding.chart.lines.values())
    others = continued(name, broken=False)
    assert [one.name for one in others.findings if one.severity != "note"] == []
    assert name not in others.names


def test_every_name_has_at_least_three_broken_trainings():
    names = {name for found in CONTINUATIONS.values() for name in found}
    assert names == set(BROKEN) == set(QUICK)
    assert all(len(cases) >= 3 for cases in BROKEN.values())


def test_the_step_where_overfitting_begins_is_where_the_validation_loss_is_lowest():
    finding = continued("overfitting").findings[0]
    val = dict(finding.chart.lines["validation"])
    step = min(val, key=val.get)
    assert f"{step:,.0f}" in finding.evidence
    train = dict(finding.chart.lines["training"])
    assert train[max(train)] < train[step]


@pytest.mark.parametrize("factor", [1 / 64, 16.0])
def test_the_scale_of_the_loss_changes_no_finding(factor):
    """With plain SGD a loss times f at a rate over f is the same training."""

    def scaled(model, batch, by):
        return by * nn.functional.cross_entropy(model(batch[0]), batch[1])

    found = []
    for by in (1.0, factor):
        task = Task(
            narrow, train=TRAIN, optimizer=SGD, device="cpu",
            objective=lambda model, batch, by=by: scaled(model, batch, by),
        )  # fmt: skip
        result = Continued(task, 1e-3 / by, 600)
        found.append([(one.name, one.severity) for one in result.findings])
    assert found[0] == found[1] == [("rate-too-low", "warning")]


def test_a_loss_that_becomes_nan_is_a_rate_that_is_too_high():
    result = Continued(bowl(1.0), 50.0, 4000)
    assert result.names == ["rate-too-high"]
    assert "NaN or infinite" in result.findings[0].evidence


def test_a_rate_above_what_the_sharpness_allows_is_told_with_it():
    """A regression has the curvature of its inputs, whatever its weights are."""
    task = regression(1.0, 64)
    result, lr = Continued(task, 0.7, 1000), 0.7
    finding, curvature = result.findings[0], result.plateau.sharpness
    first = next(task.batches(0))[0]
    truth = 2 * torch.linalg.eigvalsh(first.T @ first / len(first))[-1].item()
    assert finding.name == "rate-too-high"
    assert f"The sharpness is {curvature:.3g}, which allows for rates up to" in finding.evidence
    assert curvature == pytest.approx(truth, rel=0.05)
    assert lr > 0.9 * 2 / curvature


# --- the cost -----------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [100, 300, pytest.param(2000, marks=pytest.mark.slow)])
def test_it_costs_no_more_than_its_budget(budget):
    for make, lr in ((small, 0.1), (lambda: digits(narrow, batch_size=16), 3.0)):
        result = Continued(make(), lr, 1000, budget=budget)
        assert result.cost <= budget
        assert (result.steps == 0) == (result.orders == 0) == (result.plateau is None)


def test_by_default_it_costs_half_a_training_or_300_updates():
    assert Continued(small(), LR, 100).cost <= LEAST_BUDGET
    assert 300 < Continued(small(), LR, 2000).cost <= 1000


def test_a_small_budget_says_nothing():
    result = Continued(small(), LR, 1000, budget=60)
    assert result.plateau is None
    assert result.seen.short_of == 1


@pytest.mark.slow
def test_more_budget_gives_more_orders_of_the_batches_and_then_longer_continuations():
    some = [Continued(bowl(1.0), 0.1, 1000, budget=b) for b in (300, 600, 1000, 3400)]
    seen = [one.orders * one.steps for one in some]
    assert seen == sorted(set(seen))
    assert [one.orders for one in some] == [2, 3, 4, 4]
    assert min(one.steps for one in some) >= LEAST_STEPS


@pytest.mark.slow
def test_equal_questions_have_equal_answers():
    _, broken, _ = CASES["noise-floor"]
    assert Continued(broken.task(), broken.lr, broken.steps) == continued("noise-floor")


# --- a checkpoint -------------------------------------------------------------------------------


def test_a_checkpoint_is_continued_as_the_training_it_is_of():
    """A checkpoint of lrtune's own, a plain dict, and a file hold the same state."""
    task = small(Adam)
    cohort = Cohort(task, [Run("run", LR)], 40).advance()
    own = cohort.checkpoint("run")
    plain = {"model": own["model"], "optimizer": own["optimizer"]}
    one, other = (Continued(task, checkpoint=some, budget=400) for some in (own, plain))
    assert one == other
    assert one.plateau.stall.step == 0


def _digits():
    return digits(narrow)


def prefixed(saved, prefix):
    return {prefix + name: value for name, value in saved.items()}


@pytest.mark.parametrize(
    "form",
    [
        lambda model, optimizer: model,
        lambda model, optimizer: {"model_state_dict": model, "optimizer_state_dict": optimizer},
        lambda model, optimizer: {"state_dict": prefixed(model, "module."), "epoch": 3},
        lambda model, optimizer: prefixed(model, "_orig_mod."),
        lambda model, optimizer: {
            "state_dict": prefixed(model, "model."), "optimizer_states": [optimizer]
        },
    ],
)  # fmt: skip
def test_checkpoints_of_usual_forms_are_read(form, tmp_path):
    saved = checkpoint_of(small, LR, 20)
    given = form(saved["model"], saved["optimizer"])
    result = Continued(small(), LR, checkpoint=given, budget=200)
    torch.save(given, tmp_path / "c.pt")
    read = read_checkpoint(tmp_path / "c.pt")
    assert Continued(small(), LR, checkpoint=read, budget=200) == result
    assert result.steps > 0


def test_the_rate_of_a_checkpoint_is_that_of_its_optimizer():
    saved = checkpoint_of(_digits, 1e-3, 20)
    found = Continued(_digits(), checkpoint=saved)
    assert found == Continued(_digits(), 1e-3, checkpoint=saved)
    assert found.names == ["rate-too-low"]
    assert Continued(_digits(), LR, checkpoint=saved).findings == []


def test_a_checkpoint_whose_rate_has_gone_to_nothing_ended_early():
    task = digits(narrow)
    state = state_of(task, steps=30, lr=0.02)
    torch.optim.lr_scheduler.LambdaLR(state.optimizer, lambda _: 1e-4)
    saved = {"model": state.model.state_dict(), "optimizer": state.optimizer.state_dict()}
    found = Continued(task, checkpoint=saved, budget=600)
    assert found.names == ["ended-early"]


@pytest.mark.slow
def test_a_checkpoint_that_overfits_is_seen_to():
    _, broken, healthy = CASES["overfitting"]
    for training, wanted in ((broken, True), (healthy, False)):
        saved = checkpoint_of(training.task, training.lr, 200)
        found = Continued(training.task(), checkpoint=saved, budget=3000)
        assert ("overfitting" in found.names) == wanted


def test_a_width_that_the_model_does_not_take_is_left_out():
    def stubborn(width=2):
        if width != 2:
            raise ValueError("two, please")
        return narrow(width)

    result = Continued(digits(stubborn), 0.1, 1200)
    assert result.plateau.wider is None
    assert "capacity" not in result.names
