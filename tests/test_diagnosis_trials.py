"""What short trainings show of a task, on broken tasks and on their healthy twins."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam

import lrtune
from benchmarks.diagnosis.broken_runs import BROKEN
from benchmarks.diagnosis.trainings import as_training
from lrtune.demo import images
from lrtune.diagnosis.checks.sharpness import sharpness_chart
from lrtune.diagnosis.observations.curvature import largest_rate, sharpness
from lrtune.diagnosis.observations.gradient_noise import gradient_noise, noise_scale
from lrtune.diagnosis.observations.main_training import train_grid, train_run
from lrtune.diagnosis.observations.one_batch import overfit_one_batch, with_adam
from lrtune.diagnosis.registry import TRIALS
from lrtune.diagnosis.trials import LEAST_BUDGET, Trials
from lrtune.results.runs import Run
from lrtune.task.random_state import preserve_random_state
from lrtune.testing import Bowl, bowl

TRAIN, VAL = images()
MINE = {
    name: check
    for check, found in TRIALS.items()
    if check.__module__.split(".")[-1] in ("one_batch", "informative", "noise_scale", "sharpness")
    for name in found
}
CASES = [(name, *case) for name, cases in BROKEN.items() for case in cases[:3]]


def mlp(outputs=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, outputs))


def task_of(train=TRAIN, model=mlp, **given):
    return lrtune.Task(model, train, device="cpu", **given)


def trials(case):
    training = as_training(case)
    return Trials(training.task(), training.lr, training.steps)


def state_of(task, lr=0.1):
    with preserve_random_state():
        return task.init_state(0, lr)


@pytest.mark.parametrize(("name", "make"), [(name, bad) for name, _, bad, _ in CASES])
def test_a_broken_task_is_found(name, make):
    (told,) = MINE[name](trials(make))
    assert told.name == name
    assert told.severity == ("note" if name == "batch-size" else "warning")
    assert any(character.isdigit() for character in told.evidence)
    assert told.evidence.endswith(".")
    assert told.chart is not None
    assert all(told.chart.lines.values())


@pytest.mark.parametrize(("name", "make"), [(name, good) for name, *_, good in CASES])
def test_its_healthy_twin_is_not(name, make):
    seen = trials(make)
    assert [one for one in MINE[name](seen) if one.severity != "note"] == []
    assert seen.spent <= LEAST_BUDGET


# --- one batch


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e4])
def test_whether_a_batch_is_learned_does_not_depend_on_the_scale_of_the_loss(factor):
    def scaled(outputs, targets):
        return factor * nn.functional.cross_entropy(outputs, targets)

    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = mlp()

        def forward(self, x):
            return self.model(x.mean(0, keepdim=True)).expand(len(x), -1)

    assert overfit_one_batch(task_of(loss=scaled)).learned
    assert not overfit_one_batch(task_of(model=Blind, loss=scaled)).learned


def test_a_batch_of_a_single_class_can_be_learned():
    ones = (TRAIN[0][:64], torch.ones(64, dtype=torch.int64))
    tried = overfit_one_batch(task_of([ones]))
    assert tried.guess == 0
    assert tried.learned


def test_a_trained_model_has_nothing_to_learn_and_is_in_order():
    model = mlp()
    optimizer = Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(TRAIN[0]), TRAIN[1]).backward()
        optimizer.step()
    assert overfit_one_batch(task_of(model=model)).learned


def test_adam_keeps_the_groups_of_the_optimizer_and_their_decay():
    def groups(model, lr):
        return SGD(
            [
                {"params": model[1].parameters(), "lr": lr / 7, "weight_decay": 0.3},
                {"params": model[3].parameters()},
            ],
            lr=lr,
            momentum=0.9,
        )

    made = state_of(with_adam(task_of(optimizer=groups)), 0.7).optimizer
    assert type(made) is Adam
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.1, 0.7])
    assert [group["weight_decay"] for group in made.param_groups] == [0.3, 0.0]


def test_sparse_gradients_are_left_to_the_optimizer_that_takes_them():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.tell = nn.Embedding(30, 8, sparse=True), nn.Linear(8, 3)

        def forward(self, ids):
            return self.tell(self.words(ids).mean(1))

    ids = torch.randint(0, 30, (96, 5), generator=torch.Generator().manual_seed(0))
    seen = Trials(task_of((ids, ids[:, 0] % 3), Words, optimizer=SGD))
    assert all(name.startswith("its own SGD") for name in seen.one_batch.curves)
    for check in MINE.values():
        assert [one for one in check(seen) if one.severity != "note"] == []


# --- the main training


def test_the_main_training_is_a_cohort_of_three_rates_of_which_one_goes_on():
    run = train_grid(task_of(val=VAL), 600)
    outcomes = dict(zip(run.trace.runs["run"], run.trace.runs["outcome"], strict=True))
    assert run.rates == (0.1, 0.01, 0.001)
    assert sorted(outcomes.values()) == ["FINISHED", "RETIRED", "RETIRED"]
    assert outcomes[run.name] == "FINISHED"
    assert list(run.states) == [0, 15, 60]
    assert len(run.losses) == 60
    assert run.updates == 3 * 15 + 45
    assert {step for _, step, _ in run.validations} == {15, 30, 45, 60}


def test_it_begins_where_every_run_of_the_task_does_and_moves_on():
    task = task_of()
    run = train_run(task, Run("lr 0.05", 0.05), 600, 60, 0)
    fresh = state_of(task).model.state_dict()
    start = run.states[0].model.state_dict()
    assert all(torch.equal(one, start[name]) for name, one in fresh.items())
    moved = run.states[60].model.state_dict()
    assert not any(torch.equal(one, moved[name]) for name, one in fresh.items())
    assert run.lr == 0.05


def test_where_all_rates_fail_lower_ones_are_tried():
    run = train_grid(bowl(1e6), 600)
    assert all(run.failed(f"lr {lr:g}") for lr in run.rates)
    assert run.lr < 2e-6


def test_data_that_no_rate_trains_on_show_nothing_and_raise_nothing():
    inputs = TRAIN[0].clone()
    inputs[5] = torch.nan
    batches = [(inputs[k : k + 64], TRAIN[1][k : k + 64]) for k in range(128, 0, -64)]
    batches.append((inputs[:64], TRAIN[1][:64]))
    seen = Trials(task_of(batches, val=VAL))
    assert seen.main_training is None
    for check in MINE.values():
        assert [one for one in check(seen) if one.severity != "note"] == []


@pytest.mark.parametrize(("steps", "budget"), [(100, 300), (2000, 1000)])
def test_trials_spend_half_a_training_or_300_updates(steps, budget):
    seen = Trials(task_of(val=VAL), steps=steps)
    for check in MINE.values():
        list(check(seen))
    assert 0 < seen.spent <= budget


def test_trials_change_nothing_of_the_user_and_repeat_bit_by_bit():
    model, drawn = mlp(), torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    task = task_of(model=model, val=VAL)
    first, second = (
        [(one.sharpness, one.gradient_noise, one.one_batch) for one in [Trials(task)]]
        for _ in range(2)
    )
    assert first == second
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(parameter.grad is None for parameter in model.parameters())


# --- gradient noise


def gradients_of(mean, noise, count, seed=0):
    generator = np.random.default_rng(seed)
    return mean[None] + noise * generator.standard_normal((count, len(mean)))


@settings(deadline=None, max_examples=30)
@given(st.floats(0.1, 5), st.integers(0, 10**6))
def test_the_noise_scale_lies_in_its_interval_nine_times_in_ten(noise, seed):
    """Of batches of 8: tr(covariance of a sample) / |gradient|^2 = 8 * 50 * noise^2 / 50."""
    misses = 0
    for place in range(20):
        gradients = gradients_of(np.ones(50), noise, 16, seed + place)
        _, low, high = noise_scale(gradients @ gradients.T, 8)
        misses += not low <= 8 * noise**2 <= high
    assert misses <= 8  # of 20, where 2 are expected


@given(st.floats(0.01, 100), st.integers(0, 1000))
def test_the_noise_scale_knows_neither_the_scale_of_the_loss_nor_a_rotation(factor, seed):
    gradients = gradients_of(np.ones(12), 1.0, 8, seed)
    turned = np.linalg.qr(np.random.default_rng(seed).standard_normal((12, 12)))[0]
    plain = noise_scale(gradients @ gradients.T, 4)
    moved = factor * gradients @ turned
    assert noise_scale(moved @ moved.T, 4) == pytest.approx(plain, rel=1e-6)


def test_the_noise_scale_of_all_there_is_has_no_noise_in_its_gradient():
    """The batches are all of an epoch, so their mean is the gradient itself."""
    gradients = gradients_of(np.zeros(50), 1.0, 16)
    gradients -= gradients.mean(0)
    assert noise_scale(gradients @ gradients.T, 8) is None
    gradients += 1.0
    scale, low, high = noise_scale(gradients @ gradients.T, 8, of=16)
    assert low <= scale <= high
    assert scale == pytest.approx(8 * gradients.var(0, ddof=1).sum() / 50)


def test_the_noise_scale_of_a_bowl_is_that_of_its_tilts():
    task = bowl(4.0, noise=0.5)
    (found,) = gradient_noise(task, state_of(task), 0)
    truth = 0.25  # (0.5 * 4)^2 / 4^2, of batches of one; the interval misses it once in ten
    assert found.low / 2 <= truth <= 2 * found.high


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_noise_scale_of_a_task_knows_not_the_scale_of_its_loss(factor):
    def scaled(outputs, targets):
        return factor * nn.functional.cross_entropy(outputs, targets)

    plain, moved = (
        gradient_noise(task, state_of(task), 0)[0] for task in (task_of(), task_of(loss=scaled))
    )
    assert moved.scale == pytest.approx(plain.scale, rel=1e-3)


def test_an_epoch_of_few_batches_is_cut_into_pieces():
    whole, cut, repeated = (
        gradient_noise(task, state_of(task), 0)
        for task in (task_of(batch_size=1438), task_of(batch_size=64), task_of([TRAIN] * 2))
    )
    assert whole[0].batch == 1438
    assert cut[0].low / 2 <= whole[0].scale <= 2 * cut[0].high
    assert repeated == []  # a list of batches: nobody knows how many an epoch has


# --- sharpness


@pytest.mark.parametrize("curvature", [1e-3, 4.0, 1e5])
def test_the_sharpness_of_a_bowl_is_its_curvature(curvature):
    task = bowl(curvature)
    (found,) = sharpness(task, state_of(task), 0, 0.1)
    assert found.value == pytest.approx(curvature)


class Valley(nn.Module):
    """A quadratic loss whose curvatures are known, most of them small or negative."""

    def __init__(self, curvatures):
        super().__init__()
        self.curvatures = torch.tensor(curvatures)
        self.w = nn.Parameter(torch.ones(len(curvatures)))

    def forward(self):
        return (self.curvatures * self.w**2).sum() / 2


def valley(curvatures, **given):
    return task_of(
        (torch.zeros(8, 1),),
        partial(Valley, curvatures),
        objective=lambda model, batch: model() + 0 * batch[0].sum(),
        **given,
    )


@pytest.mark.parametrize("low", [-30.0, 0.0, 9.0])
def test_the_sharpness_is_the_largest_eigenvalue_and_not_the_largest_size(low):
    task = valley([10.0, *np.linspace(low, 5, 60).tolist()])
    (found,) = sharpness(task, state_of(task), 0, 0.1)
    assert found.value == pytest.approx(10, rel=0.05)


def test_groups_with_a_lower_rate_count_less():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = Bowl(100.0), Bowl(3.0)

        def forward(self):
            return self.one() + self.two()

    def slow(model, lr):
        return SGD(
            [{"params": model.one.parameters(), "lr": lr / 50}, {"params": [model.two.w]}], lr
        )

    task = task_of(
        (torch.zeros(8, 1),), Two, objective=lambda m, b: m() + 0 * b[0].sum(), optimizer=slow
    )
    (found,) = sharpness(task, state_of(task, 0.3), 0, 0.3)
    assert found.value == pytest.approx(3)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.5, "nesterov": True},
        {"weight_decay": 3.0},
        {"momentum": 0.9, "dampening": 0.5},
    ],
)
def test_a_bowl_diverges_above_the_largest_rate_and_not_below(given):
    """The oracle: gradient descent on a parabola of curvature 4."""

    def size_after(factor):
        model = Bowl(4.0)
        lr = factor * largest_rate(SGD(model.parameters(), lr=1.0, **given), 4.0)
        optimizer = SGD(model.parameters(), lr=lr, **given)
        for _ in range(1000):
            optimizer.zero_grad()
            model().backward()
            optimizer.step()
        return abs(model.w.item())

    assert size_after(0.98) < 0.1
    assert not size_after(1.02) < 10  # NaN is no small number


def test_nothing_is_said_of_a_bound_for_optimizers_that_precondition():
    seen = Trials(task_of(optimizer=Adam), 100.0)
    assert list(MINE["sharpness"](seen)) == []
    assert list(sharpness_chart(seen).lines) == ["sharpness"]
    bounded = sharpness_chart(Trials(task_of(), 0.1)).lines
    assert list(bounded) == ["sharpness", "stable at lr 0.1 below"]
    assert bounded["stable at lr 0.1 below"][0][1] == pytest.approx(38)


def test_attention_and_recurrent_nets_have_a_sharpness():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.read = nn.LSTM(8, 8, batch_first=True)
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.tell = nn.Linear(8, 10)

        def forward(self, x):
            return self.tell(self.layer(self.read(x[:, 0])[0]).mean(1))

    task = task_of(model=Both)
    (found,) = sharpness(task, state_of(task), 0, 0.1)
    assert found.value > 0


# --- labels


@pytest.mark.parametrize("wrong", ["both", "validation"])
def test_the_cause_names_the_part_whose_labels_are_wrong(wrong):
    def permuted(data):
        order = torch.randperm(len(data[1]), generator=torch.Generator().manual_seed(0))
        return data[0], data[1][order]

    train = permuted(TRAIN) if wrong == "both" else TRAIN
    train = tuple(torch.cat([one] * 4) for one in train)  # an epoch that lasts
    (told,) = MINE["uninformative-labels"](
        Trials(task_of(train, val=permuted(VAL), optimizer=Adam, batch_size=32))
    )
    assert ("held-out inputs or labels are not" in told.cause) is (wrong == "validation")


def test_too_few_samples_of_too_many_classes_tell_nothing():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3000, 20, generator=generator)
    labels = torch.randint(0, 100, (3000,), generator=generator)
    seen = Trials(
        task_of((inputs[:2500], labels[:2500]), partial(nn.Linear, 20, 100),
                val=(inputs[2500:], labels[2500:]))
    )  # fmt: skip
    assert list(MINE["uninformative-labels"](seen)) == []


def test_a_mode_that_is_broken_is_not_the_fault_of_the_labels():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = mlp()

        def forward(self, x):
            return self.model(x if self.training else -9 * x.flip(-1))

    seen = Trials(task_of(model=Odd, val=VAL))
    assert list(MINE["uninformative-labels"](seen)) == []
