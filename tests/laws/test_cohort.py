"""The laws of the cohort: DESIGN.md section 3, laws 1 to 4, 6 and 9, of the loop engine."""

import copy
import functools
import random

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lrtune import Cohort, Run, Task, train
from lrtune.analysis.curves import diverged_at
from lrtune.schedules import (
    FEEDBACK,
    ReduceOnPlateau,
    constant,
    cosine,
    multistep,
    one_cycle,
    warmup,
)
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.testing import bowl
from lrtune.training import cohort as cohort_module

STEPS = 12
SHAPES = {"constant": constant(), "warmup": warmup(0.25, cosine()), "cycle": one_cycle()}
POOL = [
    Run(f"{shape}/{rate:g}/{seed}", rate, schedule, seed)
    for shape, schedule in SHAPES.items()
    for rate in (0.01, 0.3)
    for seed in (0, 1)
] + [
    *(Run(f"absurd/{rate:g}", rate, seed=0) for rate in (1e30, 1e36)),
    *(Run(name, 0.1, make(), seed=1) for name, make in FEEDBACK.items()),
    Run("watching", 0.1, ReduceOnPlateau(on="val", every=3, patience=0.0), seed=1),
]


def adam_in_groups(model, lr):
    """AdamW, whose first group has a tenth of the rate."""
    first, *others = (p for p in model.parameters() if p.requires_grad)
    return torch.optim.AdamW([{"params": [first], "lr": lr / 10}, {"params": others}], lr=lr)


def normed_dropout():
    """Everything in which runs might disturb each other: statistics, noise, buffers."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(12, 3), zoo.Counting(),
    )  # fmt: skip


@functools.cache
def task(optimizer=None):
    kind = {"adam": adam_in_groups, None: None}[optimizer]
    images, labels = zoo.images()
    return Task(
        normed_dropout, (images, labels), optimizer=kind, val=(images[:9], labels[:9]), batch_size=8
    )


@functools.cache
def alone(run, optimizer=None):
    """The run without neighbours: its rows, and its row of the table of runs."""
    trace = train(task(optimizer), [run], STEPS, validate=False)
    return trace.frame, trace.runs


def rows(frame, name):
    return frame[frame["run"] == name].reset_index(drop=True)


def assert_same(one, other):
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def assert_undisturbed(trace, runs, optimizer=None):
    for run in runs:
        frame, table = alone(run, optimizer)
        assert_same(rows(trace.frame, run.name), frame)
        assert_same(rows(trace.runs, run.name), table)


def weights(cohort, name):
    """What the run has become, to the last bit."""
    state = cohort._engine.states[name].state
    return [tensor.tolist() for tensor in state.model.state_dict().values()]


# --- 1. same data ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*zoo.DATA, *zoo.ORDERED])
def test_all_runs_of_a_seed_see_the_same_batches(name):
    source = (zoo.DATA | zoo.ORDERED)[name]()
    brought = Task(zoo.model("linear"), source, **zoo.options(name))
    runs = [Run(f"{rate}/{seed}", rate, seed=seed) for seed in (0, 1) for rate in (0.1, 0.01, 1e3)]
    frame = train(brought, runs, 8, validate=False).frame
    seen = frame.assign(seed=frame["run"].str[-1]).groupby(["seed", "step"])["batch"]
    assert seen.nunique().eq(1).all()
    digests = seen.first().unstack("seed")  # noqa: PD010 - one level, one column per seed
    assert len(digests) == 8, "three batches make an epoch, and the data are cycled"
    assert digests["0"].tolist()[:3] != digests["0"].tolist()[3:6] or name in zoo.ORDERED
    assert (digests["0"].tolist() == digests["1"].tolist()) == (name in zoo.ORDERED)


def test_the_same_batches_come_whatever_the_runs_do_between_them():
    """Random layers draw from the global generators, from which many loaders shuffle."""
    digests = [
        train(Task(zoo.model(name), zoo.Shuffled()), [Run("a", 0.1)], 7).frame["batch"].tolist()
        for name in ("linear", "dropout", "Noisy")
    ]
    assert digests[0] == digests[1] == digests[2]


# --- 2. independence ------------------------------------------------------------------------------


@settings(max_examples=25)
@given(runs=st.lists(st.sampled_from(POOL), min_size=1, max_size=6, unique=True))
def test_neighbours_and_order_are_irrelevant(runs):
    assert_undisturbed(train(task(), runs, STEPS, validate=False), runs)


def test_neighbours_are_irrelevant_to_adam_in_groups():
    runs = POOL[::-1][:7]
    assert_undisturbed(train(task("adam"), runs, STEPS, validate=False), runs, "adam")


@pytest.mark.parametrize("name", zoo.MODELS)
def test_neighbours_are_irrelevant_to_models_of_every_kind(name):
    brought = Task(zoo.model(name), zoo.tensors(name), batch_size=8)
    quiet, loud, other = Run("quiet", 0.05), Run("loud", 1e30), Run("other", 0.05, seed=1)
    together = train(brought, [loud, quiet, other], 7)
    assert_same(rows(together.frame, "quiet"), train(brought, [quiet], 7).frame)
    assert_same(rows(together.frame, "other"), train(brought, [other], 7).frame)


@pytest.mark.parametrize("kind", ["loss", "objective"])
def test_a_loss_that_remembers_does_so_for_each_run(kind):
    class Remembering(nn.Module):
        """Divides the loss by its running mean."""

        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.ones(()))

        def forward(self, *given):
            if kind == "objective":
                model, (inputs, labels) = given
                given = model(inputs), labels
            loss = nn.functional.cross_entropy(*given)
            self.mean = 0.9 * self.mean + 0.1 * loss.detach()
            return loss / self.mean

    brought = Task(zoo.model("linear"), zoo.vectors(), batch_size=8, **{kind: Remembering()})
    run = Run("a", 0.1)
    together = train(brought, [Run("b", 3.0), run, Run("c", 0.2)], 7)
    assert_same(rows(together.frame, "a"), train(brought, [run], 7).frame)


def test_validation_is_no_neighbour_either():
    runs = POOL[:4]
    cohort = Cohort(task(), runs, STEPS)
    for step in range(0, STEPS, 3):
        cohort.advance(step).validate(step or None)
    assert_undisturbed(cohort.advance().trace, runs)
    measured = cohort.trace.validations
    single = Cohort(task(), runs[:1], STEPS).advance(6).validate(6).trace.validations
    assert measured[(measured["run"] == runs[0].name) & (measured["step"] == 6)][
        "loss"
    ].tolist() == (single["loss"].tolist())


# --- 3. prefix ------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    splits=st.lists(st.integers(0, STEPS), max_size=4).map(sorted),
    runs=st.lists(st.sampled_from(POOL), min_size=1, max_size=4, unique=True),
    optimizer=st.sampled_from([None, "adam"]),
)
def test_advancing_in_parts_equals_advancing_at_once(splits, runs, optimizer):
    cohort = Cohort(task(optimizer), runs, STEPS)
    for to in splits:
        cohort.advance(to)
        so_far = cohort.trace.frame
        assert so_far["step"].max() < to or not len(so_far)
    assert_undisturbed(cohort.advance().trace, runs, optimizer)


def test_the_trace_of_a_paused_cohort_is_the_beginning_of_the_whole():
    run = POOL[0]
    paused = Cohort(task(), [run], STEPS).advance(5).trace
    assert_same(paused.frame, alone(run)[0].iloc[:5])
    assert paused.runs["outcome"].tolist() == ["PAUSED"]
    assert paused.runs["steps"].tolist() == [5]


@settings(max_examples=15)
@given(at=st.integers(0, STEPS), kept=st.sets(st.sampled_from(POOL[:6]), min_size=1, max_size=3))
def test_retiring_runs_does_not_disturb_those_that_are_kept(at, kept):
    runs = POOL[:6]
    cohort = Cohort(task(), runs, STEPS).advance(at).retain([run.name for run in kept])
    assert set(cohort.live) == kept
    trace = cohort.advance().trace
    assert_undisturbed(trace, kept)
    for run in set(runs) - kept:
        assert_same(rows(trace.frame, run.name), alone(run)[0].iloc[:at])
        assert rows(trace.runs, run.name)["outcome"].item() == "RETIRED"


@settings(max_examples=15)
@given(
    at=st.integers(0, STEPS - 1),
    parent=st.sampled_from(POOL[:12]),
    optimizer=st.sampled_from([None, "adam"]),
)
def test_a_fork_with_the_same_rate_and_schedule_is_its_parent(at, parent, optimizer):
    neighbour = next(run for run in POOL if run.seed == parent.seed and run != parent)
    twin = Run("twin", parent.lr, parent.schedule, parent.seed)
    faster = Run("faster", parent.lr * 2, parent.schedule, parent.seed)
    cohort = Cohort(task(optimizer), [parent, neighbour], STEPS).advance(at)
    trace = cohort.fork(parent.name, [faster, twin]).advance().trace
    assert_undisturbed(trace, [parent, neighbour], optimizer)
    whole = rows(trace.frame, parent.name)
    assert_same(
        rows(trace.frame, "twin").drop(columns="run"),
        whole.iloc[at:].reset_index(drop=True).drop(columns="run"),
    )
    assert weights(cohort, "twin") == weights(cohort, parent.name)
    assert rows(trace.frame, "faster")["lr"].tolist() == (2 * whole["lr"].iloc[at:]).tolist()
    if at < STEPS - 1:
        assert rows(trace.frame, "faster")["loss"].iloc[0] == whole["loss"].iloc[at]
        assert weights(cohort, "faster") != weights(cohort, "twin")


@pytest.mark.parametrize("name", sorted(set(zoo.MODELS) - {"pending"}))
def test_models_of_every_kind_can_be_forked(name):
    brought = Task(zoo.model(name), zoo.tensors(name), batch_size=8)
    cohort = Cohort(brought, [Run("a", 0.05)], 6).advance(3).fork("a", [Run("b", 0.05)]).advance()
    frame = cohort.trace.frame
    assert rows(frame, "b")["loss"].tolist() == rows(frame, "a")["loss"].tolist()[3:]
    assert weights(cohort, "a") == weights(cohort, "b")


# --- 4. solo --------------------------------------------------------------------------------------


def by_hand(model, batches, optimizer, schedule, *, steps, seed=0):
    """Ten lines of plain PyTorch; the seeding of the noise is the documented one."""
    losses, peaks = [], [group["lr"] for group in optimizer.param_groups]
    for step in range(steps):
        inputs, labels = batches[step % len(batches)]
        seed_everything(derive_seed(seed, NOISE, step))
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * schedule(step / steps)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def sgd_momentum(model, lr):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True)


def default(model, lr):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


SOLO = {"sgd": sgd_momentum, "adamw in groups": adam_in_groups, "default": default}


def batches_of(name):
    inputs, labels = zoo.tensors(name)
    return list(zip(inputs.split(8), labels.split(8), strict=True))


@pytest.mark.parametrize("optimizer", SOLO)
@pytest.mark.parametrize("name", ["linear", "convolution", "dropout", "Counting", "Tied"])
@pytest.mark.parametrize("seed", [0, 5])
def test_a_cohort_of_one_is_a_plain_loop(name, optimizer, seed):
    model, schedule, make = zoo.model(name), warmup(0.25, cosine(floor=0.1)), SOLO[optimizer]
    brought = Task(model, batches_of(name), optimizer=None if make is default else make)
    cohort = Cohort(brought, [Run("solo", 0.07, schedule, seed)], 40).advance()
    mine = copy.deepcopy(model)
    with preserve_random_state():
        losses = by_hand(mine, batches_of(name), make(mine, 0.07), schedule, steps=40, seed=seed)
    frame = cohort.trace.frame
    assert frame["loss"].tolist() == losses
    assert frame["lr"].tolist() == [0.07 * schedule(step / 40) for step in range(40)]
    assert weights(cohort, "solo") == [one.tolist() for one in mine.state_dict().values()]
    assert np.mean(losses[-6:]) < np.mean(losses[:6]), "it has learned"


@pytest.mark.parametrize("optimizer", SOLO)
def test_it_equals_a_loop_with_torchs_own_scheduler(optimizer):
    model, steps, make = zoo.model("convolution"), 30, SOLO[optimizer]
    run = Run("solo", 0.05, multistep((0.3, 0.6)))
    mine = copy.deepcopy(model)
    own = make(mine, run.lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(own, lambda step: run.schedule(step / steps))
    losses = []
    for step in range(steps):
        own.zero_grad()
        inputs, labels = batches_of("convolution")[step % 3]
        loss = nn.functional.cross_entropy(mine(inputs), labels)
        loss.backward()
        own.step()
        scheduler.step()
        losses.append(loss.item())
    brought = Task(model, batches_of("convolution"), optimizer=make)
    assert train(brought, [run], steps).frame["loss"].tolist() == losses


@pytest.mark.parametrize("optimizer", SOLO)
def test_a_schedule_with_momentum_moves_the_momentum(optimizer):
    model, steps, make = zoo.model("linear"), 20, SOLO[optimizer]
    mine, schedule = copy.deepcopy(model), one_cycle()
    own, losses = make(mine, 0.05), []
    peaks = [group["lr"] for group in own.param_groups]
    for step in range(steps):
        for group, peak in zip(own.param_groups, peaks, strict=True):
            group["lr"], momentum = peak * schedule(step / steps), schedule.momentum(step / steps)
            adam = {"betas": (momentum, 0.999)}
            group.update(adam if "betas" in group else {"momentum": momentum})
        own.zero_grad()
        inputs, labels = batches_of("linear")[step % 3]
        loss = nn.functional.cross_entropy(mine(inputs), labels)
        loss.backward()
        own.step()
        losses.append(loss.item())
    brought = Task(model, batches_of("linear"), optimizer=make)
    assert train(brought, [Run("solo", 0.05, schedule)], steps).frame["loss"].tolist() == losses


# --- 6. quarantine --------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 2, 7, 32, 1000])
def test_runs_that_fail_change_nothing_whatever_the_block(block, monkeypatch):
    monkeypatch.setattr(cohort_module, "BLOCK", block)
    steps = 70
    good = [Run("good/0", 0.05), Run("good/1", 0.05, cosine(), seed=1)]
    bad = [Run(f"bad/{rate:g}/{seed}", rate, seed=seed) for rate in (3.0, 1e30) for seed in (0, 1)]
    calm = train(task(), good, steps)
    wild = train(task(), [bad[0], good[0], bad[1], bad[2], good[1], bad[3]], steps)
    for run in good:
        assert_same(rows(wild.frame, run.name), rows(calm.frame, run.name))
        assert rows(wild.validations, run.name).equals(rows(calm.validations, run.name))
    told = wild.runs.set_index("run")
    assert told.loc[["bad/1e+30/0", "bad/1e+30/1"], "outcome"].tolist() == ["NONFINITE"] * 2
    for run in bad:
        assert len(rows(wild.frame, run.name)) == told.loc[run.name, "steps"] < steps
        if told.loc[run.name, "outcome"] == "NONFINITE":
            assert not np.isfinite(rows(wild.frame, run.name)["loss"].iloc[-1])
    assert not set(wild.validations["run"]) & {run.name for run in bad}


@pytest.mark.parametrize("block", [1, 5, 1000])
def test_a_run_ends_at_the_very_step_whatever_the_block(block, monkeypatch):
    """The bowl, whose losses are known: w is multiplied by -3 at each step."""
    monkeypatch.setattr(cohort_module, "BLOCK", block)
    runs = [Run("diverges", 1.0), Run("explodes", 1e200), Run("learns", 0.1)]
    trace = train(bowl(curvature=4.0), runs, 100)
    losses = [2.0 * 9.0**step for step in range(100)]
    end = diverged_at(losses)
    assert end == 8
    assert rows(trace.frame, "diverges")["loss"].tolist() == pytest.approx(losses[: end + 1])
    assert rows(trace.frame, "explodes")["loss"].tolist() == [2.0, np.inf]
    assert trace.runs["outcome"].tolist() == ["DIVERGED", "NONFINITE", "FINISHED"]
    assert trace.runs["steps"].tolist() == [end + 1, 2, 100]


def test_a_loss_that_refuses_nan_ends_one_run_and_not_all():
    """BCELoss raises where its input is no probability."""
    inputs, labels = zoo.vectors()
    targets = (labels == 0).float()[:, None]

    def net():
        hidden = nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU()
        return nn.Sequential(*hidden, nn.Linear(8, 1), nn.Sigmoid())

    brought = Task(zoo.born(net), (inputs, targets), loss=nn.BCELoss(), batch_size=8)
    absurd = Run("absurd", 1e30), Run("reacting", 1e30, FEEDBACK["reduce-on-plateau"]())
    calm, wild = (
        train(brought, runs, STEPS) for runs in ([Run("good", 0.1)], [*absurd, Run("good", 0.1)])
    )
    assert wild.runs["outcome"].tolist() == ["NONFINITE", "NONFINITE", "FINISHED"]
    assert_same(rows(wild.frame, "good"), calm.frame)


def test_an_error_of_the_users_is_no_outcome():
    """It passes, with a note that says which run was trained; the layers were finite."""

    def picky(outputs, labels):
        if outputs.detach().abs().max() > 20:
            raise ValueError("too large for me")
        return nn.functional.cross_entropy(outputs, labels)

    brought = Task(zoo.model("linear"), zoo.vectors(), loss=picky, batch_size=8)
    with pytest.raises(ValueError, match="too large for me") as caught:
        train(brought, [Run("a", 0.01), Run("b", 200.0)], STEPS)
    assert "training run 'b' (lr 200, seed 0)" in caught.value.__notes__[0]


# --- 9. same noise --------------------------------------------------------------------------------


def draws(name, runs, steps):
    """What a noisy model drew: run, step to numbers."""
    seen = {}

    class Spy(zoo.Noisy):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            seen.setdefault(current["run"], []).append(zoo.Noisy.drawn)
            return outputs

    current = {"run": None}

    def objective(model, batch):
        current["run"] = id(model)
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    brought = Task(zoo.born(Spy), zoo.vectors(), objective=objective, batch_size=8)
    assert brought.drift is None  # it has tried a copy, once and for all
    seen.clear()
    train(brought, runs, steps)
    return list(seen.values())


def test_every_run_of_a_seed_draws_the_same_noise():
    runs = [Run("a", 0.1), Run("b", 0.01), Run("c", 1e30), Run("d", 0.1, seed=1)]
    a, b, c, d = draws("Noisy", runs, STEPS)
    assert a == b
    assert len(a) == len(c) == STEPS
    assert c == a
    assert len(set(a + d)) == 2 * STEPS, "other steps and seeds draw other numbers"
    assert all(x != y for one, two in zip(a, d, strict=True) for x, y in zip(one, two, strict=True))


def test_dropout_drops_the_same_units_in_every_run():
    dropped = []

    def objective(model, batch):
        out = model(torch.ones(8, 50))
        dropped.append(tuple((out.detach() == 0).flatten().tolist()))
        return out.mean() ** 2

    class Dropping(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.drop = nn.Parameter(torch.ones(50)), nn.Dropout(0.5)

        def forward(self, inputs):
            return self.drop(inputs * self.scale)

    brought = Task(Dropping(), zoo.vectors(), objective=objective, batch_size=8)
    assert brought.drift is None  # it has tried a copy, once and for all
    dropped.clear()
    train(brought, [Run("a", 0.1), Run("b", 0.01), Run("c", 0.1, seed=1)], 5)
    a, b, c = dropped[::3], dropped[1::3], dropped[2::3]
    assert a == b
    assert len({*a, *c}) == 10


def test_the_state_of_the_world_does_not_matter():
    """Nor does what was drawn from the global generators before."""
    brought = Task(zoo.model("Noisy"), zoo.Shuffled())
    frames = []
    for seed in (0, 1):
        with preserve_random_state():
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            frames.append(train(brought, [Run("a", 0.1)], 7).frame)
    assert_same(*frames)


def test_a_factory_gives_every_seed_weights_of_its_own():
    first = train(task(), [Run("a", 0.1), Run("b", 0.2), Run("c", 0.1, seed=1)], 1).frame["loss"]
    assert first[0] == first[1] != first[2]


def test_a_copy_of_a_run_can_be_inspected_and_changes_nothing():
    runs = [Run("a", 0.1), Run("b", 0.02, seed=1)]
    task = Task(zoo.model("convolution"), zoo.tensors("convolution"), batch_size=8)
    cohort = Cohort(task, runs, 9).advance(4)
    state = cohort.inspect("a")
    saved, now = cohort.checkpoint("a")["model"], state.model.state_dict()
    assert all(torch.equal(now[name], value) for name, value in saved.items())
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.zero_()
    assert cohort.advance().trace.frame.equals(train(task, runs, 9).frame)
