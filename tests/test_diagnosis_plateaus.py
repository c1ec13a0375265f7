"""Why a run stands: laws of its continuations, planted trainings, checkpoints, and the cost."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

import lrtune
from benchmarks.diagnosis.broken_plateaus import BROKEN, checkpoint_of, digits, narrow
from lrtune import Cohort, Run, Task
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
from lrtune.diagnosis.observations.full_gradient import gradient_excess, gradients_of
from lrtune.diagnosis.plateaus import CHECKS, LEAST_BUDGET, diagnose_plateau
from lrtune.errors import ArgumentError, CheckpointError
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.testing import bowl

X = torch.linspace(-1, 1, 600).reshape(150, 4)
Y = torch.arange(150) % 3
LR = 0.1


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3))


def small(optimizer=SGD, **more):
    return Task(net, (X, Y), optimizer=optimizer, batch_size=10, device="cpu", **more)


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
    diagnose_plateau(task, LR, 300)
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
    "noise-floor": "regression on noisy targets",
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
    _, broken, healthy = CASES[name]
    found = broken.diagnose()
    assert name in [one.name for one in found.findings[:2]]
    finding = next(one for one in found.findings if one.name == name)
    assert any(letter.isdigit() for letter in finding.evidence)
    assert all(text.endswith(".") for text in (finding.evidence, finding.cause, finding.remedy))
    if finding.chart is not None:
        assert all(len(points) > 2 for points in finding.chart.lines.values())
    others = healthy.diagnose().findings
    assert [one.name for one in others if one.severity != "note"] == []
    assert name not in [one.name for one in others]


def test_every_name_has_at_least_three_broken_trainings():
    names = {name for found in CHECKS.values() for name in found}
    assert names == set(BROKEN) == set(QUICK)
    assert all(len(cases) >= 3 for cases in BROKEN.values())


def test_the_step_where_overfitting_begins_is_where_the_validation_loss_is_lowest():
    finding = CASES["overfitting"][1].diagnose().findings[0]
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
            narrow, train=digits_data(), optimizer=SGD, device="cpu",
            objective=lambda model, batch, by=by: scaled(model, batch, by),
        )  # fmt: skip
        result = diagnose_plateau(task, 1e-3 / by, 600)
        found.append([(one.name, one.severity) for one in result.findings])
    assert found[0] == found[1] == [("rate-too-low", "warning")]


def digits_data():
    return lrtune.demo.images()[0]


def test_a_loss_that_becomes_nan_is_a_rate_that_is_too_high():
    result = diagnose_plateau(bowl(1.0), 50.0, 4000)
    assert [one.name for one in result.findings] == ["rate-too-high"]
    assert result.steps > 0
    assert "NaN or infinite" in result.findings[0].evidence


def test_sharpness_is_measured_where_the_caller_can():
    asked = []

    def sharpness(task, state):
        asked.append((task, state))
        return 1e9

    _, broken, _ = next(case for case in BROKEN["rate-too-high"] if case[0] == "LSTM")
    task = broken.task()
    result = diagnose_plateau(task, broken.lr, broken.steps, sharpness=sharpness)
    assert "The sharpness is 1e+09" in result.findings[0].evidence
    assert asked[0][0] is task
    assert len(asked) == 1


# --- the cost -----------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [100, 300, 700, 2000])
def test_it_costs_no_more_than_its_budget(budget):
    for make, lr in ((small, 0.1), (lambda: digits(narrow, batch_size=16), 3.0)):
        result = diagnose_plateau(make(), lr, 1000, budget=budget)
        assert result.cost <= budget
        assert (result.steps == 0) == (result.orders == 0) == (result.looked_at == ())


def test_by_default_it_costs_half_a_training_or_300_updates():
    assert diagnose_plateau(small(), LR, 100).cost <= LEAST_BUDGET
    assert 300 < diagnose_plateau(small(), LR, 2000).cost <= 1000


def test_a_small_budget_says_nothing():
    result = diagnose_plateau(small(), LR, 1000, budget=60)
    assert result.findings == ()
    assert result.orders == 0


def test_more_budget_gives_longer_continuations_and_then_more_orders():
    some = [diagnose_plateau(bowl(1.0), 0.1, 1000, budget=b) for b in (300, 1000, 6000)]
    assert some[0].steps < some[1].steps < some[2].steps
    assert [one.orders for one in some] == [2, 3, 6]


def test_equal_questions_have_equal_answers():
    first, second = (CASES["noise-floor"][1].diagnose() for _ in range(2))
    assert first == second


# --- a checkpoint -------------------------------------------------------------------------------


def test_a_checkpoint_is_continued_as_the_training_it_is_of():
    """A checkpoint of lrtune's own, a plain dict, and a file hold the same state."""
    task = small(Adam)
    cohort = Cohort(task, [Run("run", LR)], 40).advance()
    own = cohort.checkpoint("run")
    plain = {"model": own["model"], "optimizer": own["optimizer"]}
    one, other = (diagnose_plateau(task, checkpoint=some, budget=400) for some in (own, plain))
    assert one == other
    assert one.step == 0


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
    result = diagnose_plateau(small(), LR, checkpoint=given, budget=200)
    torch.save(given, tmp_path / "c.pt")
    assert diagnose_plateau(small(), LR, checkpoint=tmp_path / "c.pt", budget=200) == result
    assert result.steps > 0


def test_the_rate_of_a_checkpoint_is_that_of_its_optimizer():
    saved = checkpoint_of(_digits, 1e-3, 20)
    found = diagnose_plateau(_digits(), checkpoint=saved)
    assert found == diagnose_plateau(_digits(), 1e-3, checkpoint=saved)
    assert [one.name for one in found.findings] == ["rate-too-low"]
    assert diagnose_plateau(_digits(), LR, checkpoint=saved).findings == ()


def test_a_checkpoint_whose_rate_has_gone_to_nothing_ended_early():
    task = digits(narrow)
    state = state_of(task, steps=30, lr=0.02)
    torch.optim.lr_scheduler.LambdaLR(state.optimizer, lambda _: 1e-4)
    saved = {"model": state.model.state_dict(), "optimizer": state.optimizer.state_dict()}
    found = diagnose_plateau(task, checkpoint=saved, budget=600)
    assert [one.name for one in found.findings] == ["ended-early"]


def test_a_checkpoint_that_overfits_is_seen_to():
    _, broken, healthy = CASES["overfitting"]
    for training, wanted in ((broken, True), (healthy, False)):
        saved = checkpoint_of(training.task, training.lr, 200)
        found = diagnose_plateau(training.task(), checkpoint=saved, budget=1500).findings
        assert ("overfitting" in [one.name for one in found]) == wanted


WRONG = {
    "no rate": (lambda: checkpoint_of(small, LR, 2)["model"], {}, "tells no learning rate"),
    "a list": (lambda: [1, 2], {}, r"the checkpoint is \[1, 2\]"),
    "another model": (lambda: nn.Linear(2, 2).state_dict(), {"lr": LR}, "does not fit the Sequen"),
    "another optimizer": (
        lambda: {
            "model": net().state_dict(),
            "optimizer": SGD([{"params": [nn.Parameter(X)]}] * 1, lr=0.1).state_dict(),
        },
        {},
        "optimizer does not fit",
    ),
    "no file": (lambda: "nowhere.pt", {}, "cannot be read as a checkpoint"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_checkpoint_that_does_not_fit_is_refused_with_a_way_out(wrong):
    make, more, message = WRONG[wrong]
    with pytest.raises(CheckpointError, match=message) as error:
        diagnose_plateau(small(), checkpoint=make(), **more)
    assert any(way in str(error.value) for way in ("Pass ", "Leave it out"))


def test_a_pickled_model_is_not_executed(tmp_path):
    torch.save(net(), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"Pass model\.state_dict\(\)"):
        diagnose_plateau(small(), checkpoint=tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"lr": None}, "expected the rate and the length"),
        ({"lr": -1.0}, "lr must be a finite number > 0"),
        ({"at": 900}, "leaves some of the budget"),
        ({"at": 0}, "at must be a whole number"),
        ({"orders": 1}, "orders must be a whole number >= 2"),
        ({"budget": -1}, "budget must be a finite number > 0"),
    ],
)
def test_wrong_arguments_are_refused(more, message):
    arguments = {"lr": LR, "steps": 500} | more
    with pytest.raises(ArgumentError, match=message):
        diagnose_plateau(small(), **arguments)


def test_a_width_that_the_model_does_not_take_is_left_out():
    def stubborn(width=2):
        if width != 2:
            raise ValueError("two, please")
        return narrow(width)

    result = diagnose_plateau(digits(stubborn), 0.1, 1200)
    assert "capacity" not in [one.name for one in result.findings]
