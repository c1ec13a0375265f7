"""Losses that change by themselves: every verb reads them as if they did not."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
import zoo
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lrtune import Cohort, Run, Task, compare, range_test, search, train
from lrtune.analysis.curves import drifts
from lrtune.demo import images
from lrtune.errors import SearchError
from lrtune.schedules import Schedule
from lrtune.testing import Bowl

F = nn.functional
STEPS = 120  # of a search
UNTRAINED = Schedule("untrained()", lambda _progress: 0.0)

RAMPS = {
    "up": lambda n: 0.1 * n,
    "down": lambda n: -0.1 * n,
    "slow": lambda n: 0.001 * n,
    "steep": lambda n: 10.0 * n,
    "saturating": lambda n: 3 * (1 - math.exp(-n / 5)),
    "falling, saturating": lambda n: -3 * (1 - math.exp(-n / 50)),
    "a wave": lambda n: math.sin(n / 20),
    "late": lambda n: 0.1 * max(0, n - 60),
}
SEEN = [name for name in RAMPS if name != "late"]
"""Those that begin within the steps that a task tries."""


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


class Buffered(nn.Module):
    """A loss module that counts its steps in a buffer."""

    def __init__(self, ramp):
        super().__init__()
        self.ramp = ramp
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, output, target):
        added = self.ramp(int(self.steps))
        self.steps += self.training
        return F.cross_entropy(output, target) + added


class Counting(nn.Module):
    """A model that counts its forward passes in an attribute."""

    def __init__(self):
        super().__init__()
        self.inner, self.passes = mlp(), 0

    def forward(self, inputs):
        self.passes += self.training
        return self.inner(inputs)


class Adding(nn.Module):
    """A model that returns its own loss, with a buffer for the step."""

    def __init__(self, ramp):
        super().__init__()
        self.inner, self.ramp = mlp(), ramp
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, inputs, target):
        added = self.ramp(float(self.passes))
        self.passes += self.training
        return F.cross_entropy(self.inner(inputs), target) + added


def plain(_ramp):
    return {
        "model": mlp,
        "objective": lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
    }


def in_a_loss_module(ramp):
    return {"model": mlp, "loss": Buffered(ramp)}


def by_a_counter(ramp):
    def objective(model, batch):
        output = model(batch[0])
        return F.cross_entropy(output, batch[1]) + ramp(max(model.passes - 1, 0))

    return {"model": Counting, "objective": objective}


def in_a_buffer(ramp):
    return {
        "model": functools.partial(Adding, ramp), "objective": lambda model, batch: model(*batch),
    }  # fmt: skip


def in_a_closure(ramp):
    """All runs share the counter: nothing can copy it."""
    calls = itertools.count()

    def objective(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1]) + ramp(next(calls))

    return {"model": mlp, "objective": objective}


OWN = [in_a_loss_module, by_a_counter, in_a_buffer]


def task(make, ramp=None, *, val=True, **more):
    data, held_out = images()
    kept = {"val": held_out} if val else {}
    return Task(train=data, device="cpu", **kept, **make(ramp), **more)


# --- what a task knows


@given(
    slope=st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3),
    shift=st.floats(-1e3, 1e3),
    count=st.integers(9, 60),
    seed=st.integers(0, 99),
)
def test_a_trend_is_one_in_any_unit_and_noise_is_none(slope, shift, count, seed):
    noise = np.random.default_rng(seed).normal(size=count)
    assert drifts(np.arange(count) * slope + shift, resolution=1e-9)
    assert not drifts(noise * slope + shift)
    assert not drifts(np.full(count, shift))


@pytest.mark.parametrize("name", sorted(set(zoo.MODELS) - zoo.PICTURED - {"Counting"}))
def test_ordinary_models_do_not_change_by_themselves(name):
    """Running statistics, dropout, power iterations: none of them has a trend."""
    assert Task(zoo.MODELS[name], zoo.vectors(), device="cpu").drift is None


def test_an_objective_that_draws_is_no_drift():
    own = np.random.default_rng(0)

    def noisy(model, batch):
        return F.cross_entropy(model(batch[0] + own.normal()), batch[1])

    def mixed(model, batch):
        rows = torch.randperm(len(batch[0]))
        return F.cross_entropy(model(batch[0] + torch.rand(()) * batch[0][rows]), batch[1])

    for objective in (noisy, mixed):
        brought = Task(zoo.model("linear"), zoo.vectors(), objective=objective, device="cpu")
        assert brought.drift is None


@pytest.mark.parametrize("make", OWN)
@pytest.mark.parametrize("name", SEEN)
def test_the_change_is_that_of_the_ramp(make, name):
    found = task(make, RAMPS[name]).drift
    assert not found.shared
    expected = [RAMPS[name](step) - RAMPS[name](0) for step in range(40)]
    assert found.without(np.zeros(40)) == pytest.approx(-np.array(expected), abs=2e-4)
    assert found.without(np.zeros(30), first=10) == pytest.approx(
        expected[10] - np.array(expected[10:]), abs=2e-4
    )


def test_an_untrained_run_has_no_change_left():
    """The twin in the training loop, on one batch: the same losses, but for the random numbers."""
    brought = Task(zoo.MODELS["Counting"], [zoo.vectors()], device="cpu")
    twin = train(brought, [Run("twin", 1.0, UNTRAINED)], 50).frame["loss"].to_numpy()
    assert np.ptp(twin) > 0.1
    assert np.ptp(brought.drift.without(twin)) < 1e-5


def test_a_counter_that_all_runs_share_is_known_as_one():
    assert task(in_a_closure, RAMPS["up"]).drift.shared


def test_looking_for_it_changes_nothing_of_the_users():
    model, data = zoo.born(zoo.MODELS["Counting"]), zoo.vectors()
    with zoo.untouched(model, data):
        brought = Task(model, data, device="cpu")
        assert brought.drift is not None
        brought.drift.without(np.zeros(90))
    with zoo.untouched(), torch.inference_mode():
        assert Task(model, data, device="cpu").drift.within(30) != 0


def test_on_another_device_it_is_measured_anew():
    brought = task(in_a_buffer, RAMPS["up"])
    assert brought.on("cpu").drift is not brought.drift
    assert brought.on("cpu").drift.within(20) == brought.drift.within(20)


# --- the stop criterion


class Rolling(Bowl):
    """A bowl on a ramp; gradient descent diverges exactly above 2 / curvature, here 0.5."""

    def __init__(self, ramp):
        super().__init__(4.0)
        self.ramp = ramp
        self.register_buffer("passes", torch.zeros(()))

    def forward(self):
        added = self.ramp(float(self.passes))
        self.passes += self.training
        return super().forward() + added


def rolling(name=None):
    model = Bowl(4.0) if name is None else Rolling(RAMPS[name])
    sgd = torch.optim.SGD
    return Task(model, [None], objective=lambda one, _: one(), optimizer=sgd, device="cpu")


RUNS = [Run(f"{lr:g}", lr) for lr in (1e-3, 0.1, 0.45, 0.55, 2.0, 1e3)]


@pytest.mark.parametrize("name", SEEN)
def test_runs_end_as_they_do_without_the_ramp(name):
    flat, steep = (train(brought, RUNS, 100).runs for brought in (rolling(), rolling(name)))
    assert flat["outcome"].tolist() == ["FINISHED"] * 3 + ["DIVERGED"] * 3
    assert steep["outcome"].tolist() == flat["outcome"].tolist()
    assert steep["steps"].to_numpy() == pytest.approx(flat["steps"].to_numpy(), abs=2)


def test_the_laws_of_a_cohort_hold():
    """Neighbours, a twin among them, and pauses change no run."""
    brought = rolling("up")
    runs = [*RUNS, Run("twin", 1.0, UNTRAINED)]
    whole = train(brought, runs, 90)
    assert whole.runs["outcome"].tolist() == ["FINISHED"] * 3 + ["DIVERGED"] * 3 + ["FINISHED"]
    for run in runs:
        alone = train(brought, [run], 90).frame
        rows = whole.frame[whole.frame["run"] == run.name].reset_index(drop=True)
        assert alone.equals(rows)
    paused = Cohort(brought, runs, 90)
    for step in (1, 33, 50, 90):
        paused.advance(step)
    assert paused.trace.frame.equals(whole.frame)


def test_a_fork_goes_on_from_where_the_ramp_is():
    cohort = Cohort(rolling("steep"), [Run("a", 0.1)], 90).advance(40)
    cohort.fork("a", [Run("b", 0.05), Run("c", 2.0)]).advance()
    outcomes = dict(cohort.trace.runs[["run", "outcome"]].values.tolist())
    assert outcomes == {"a": "FINISHED", "b": "FINISHED", "c": "DIVERGED"}


def test_a_checkpoint_goes_on_from_where_the_ramp_is():
    brought = task(in_a_buffer, RAMPS["up"])
    first = Cohort(brought, [Run("a", 0.1)], 90).advance(40)
    saved = first.checkpoint("a")
    resumed = Cohort(brought, [Run("a", 0.1)], 90, resume={"a": saved}).advance()
    assert resumed.trace.frame.equals(first.advance().trace.frame)
    assert resumed.trace.runs["outcome"].tolist() == ["FINISHED"]


def test_a_ramp_that_begins_late_is_seen_by_a_twin_that_runs_along():
    runs = [Run("a", 0.1), Run("b", 2.0), Run("twin", 1.0, UNTRAINED)]
    assert train(rolling("late"), runs, 200).runs["outcome"].tolist() == [
        "FINISHED", "DIVERGED", "FINISHED",
    ]  # fmt: skip


# --- range tests


@functools.cache
def suggested():
    return range_test(task(plain)).suggestion.lr


@pytest.mark.parametrize("make", OWN)
@pytest.mark.parametrize("name", RAMPS)
def test_a_range_test_answers_as_without_the_ramp(make, name):
    assert suggested() == pytest.approx(0.079, abs=1e-3)
    sweep = range_test(task(make, RAMPS[name]))
    assert sweep.suggestion.lr == pytest.approx(suggested(), rel=0.03)
    (warning,) = sweep.warnings
    assert warning.startswith("The loss changes by itself, while nothing is trained, by ")


@pytest.mark.parametrize("name", ["up", "down", "slow", "steep", "saturating"])
def test_a_counter_that_all_runs_share_is_told_and_the_control_takes_it_out(name):
    sweep = range_test(task(in_a_closure, RAMPS[name]))
    assert sweep.suggestion.lr == pytest.approx(suggested(), rel=0.3)
    (warning,) = sweep.warnings
    assert warning.startswith("The loss of one batch changes by ")
    assert "such as a variable of the objective" in warning


def test_what_changes_by_next_to_nothing_is_no_warning():
    sweep = range_test(task(in_a_buffer, lambda n: 1e-5 * n))
    assert sweep.warnings == ()


# --- searches


@functools.cache
def searched(val, schedule=None):
    return search(task(plain, val=val), steps=STEPS, schedule=schedule)


def assert_alike(found, other):
    """The same runs, and nearly the same answer."""
    assert (
        found.runs["run"].str.split().str[0].tolist()
        == other.runs["run"].str.split().str[0].tolist()
    )
    assert found.runs["lr"].to_numpy() == pytest.approx(other.runs["lr"].to_numpy(), rel=0.02)
    assert found.lr == pytest.approx(other.lr, rel=0.02)
    assert found.interval == pytest.approx(other.interval, rel=0.05)


@pytest.mark.parametrize("val", [True, False])
@pytest.mark.parametrize("make", OWN)
@pytest.mark.parametrize("name", ["up", "falling, saturating"])
def test_a_search_answers_as_without_the_ramp(make, name, val):
    found = search(task(make, RAMPS[name], val=val), steps=STEPS)
    assert_alike(found, searched(val))
    (warning,) = found.warnings
    assert warning.startswith("The loss changes by itself, while nothing is trained, by ")
    assert "training losses are judged without that change" in warning


@pytest.mark.slow
@pytest.mark.parametrize("val", [True, False])
@pytest.mark.parametrize("make", OWN)
@pytest.mark.parametrize("name", SEEN)
def test_so_it_does_with_every_ramp_and_a_constant_rate(make, name, val):
    found = search(task(make, RAMPS[name], val=val), steps=STEPS, schedule="constant")
    assert_alike(found, searched(val, "constant"))


def dead(ramp):
    """Nothing that is trained changes the loss; only the ramp does."""
    calls = in_a_buffer(ramp)
    return calls | {"objective": lambda model, batch: 0 * model.inner(batch[0]).sum() + add(model)}


def add(model):
    added = model.ramp(float(model.passes))
    model.passes += model.training
    return 2.3 + added


@pytest.mark.parametrize("val", [True, False])
@pytest.mark.parametrize("name", ["up", "down", "saturating", "falling, saturating"])
def test_a_ramp_is_no_learning(name, val):
    brought = task(dead, RAMPS[name], val=val)
    with pytest.raises(SearchError, match="nothing was learned") as caught:
        search(brought, steps=STEPS)
    note, offer = caught.value.__notes__
    assert note.startswith("The loss changes by itself, while nothing is trained")
    assert offer.startswith("lrtune.diagnose(task)")


def test_the_untrained_model_that_runs_along_is_paid_for():
    found, other = search(task(in_a_buffer, RAMPS["up"]), steps=STEPS), searched(True)
    assert found.cost == pytest.approx(other.cost + 1 / 3, abs=0.02)
    assert found.cost <= found.budget
    small = search(task(in_a_buffer, RAMPS["up"]), steps=STEPS, budget=1.4)
    assert small.cost <= 1.4


def test_a_ramp_that_begins_later_than_a_task_tries_is_the_reason_that_is_told():
    with pytest.raises(SearchError) as caught:
        search(task(in_a_buffer, lambda n: 10.0 * max(0, n - 30)), steps=STEPS)
    said = " ".join(caught.value.__notes__)
    assert "The loss changes by itself, while nothing is trained, by +" in said
    assert "not within the first 16" in said


@pytest.mark.parametrize("name", ["down", "slow", "saturating"])
def test_a_counter_that_all_runs_share_is_told_with_the_answer(name):
    found = search(task(in_a_closure, RAMPS[name]), steps=STEPS)
    assert found.warnings[0].startswith("The loss of one batch changes by ")


def test_a_counter_that_all_runs_share_is_told_with_an_error():
    with pytest.raises(SearchError) as caught:
        search(task(in_a_closure, RAMPS["steep"]), steps=STEPS)
    assert caught.value.__notes__[0].startswith("The loss of one batch changes by ")


# --- comparisons


def assert_compared_alike(name, *, val, begun):
    def compared(brought):
        begin = search(brought, steps=60, budget=5, min_gain=9.0) if begun else 0.2
        return compare(brought, begin, schedules=["step"], steps=60, seeds=2)

    ranked, other = (compared(task(make, RAMPS[name], val=val)) for make in (in_a_buffer, plain))
    ours, theirs = (one.table.set_index("schedule").sort_index() for one in (ranked, other))
    assert ours["verdict"].equals(theirs["verdict"])
    assert set(ours["verdict"]) & {"behind", "ahead", "tied"}
    assert ours["lr"].to_numpy() == pytest.approx(theirs["lr"].to_numpy(), rel=0.02)
    early = ours["early"].dropna().to_numpy()
    assert early == pytest.approx(theirs["early"].dropna().to_numpy(), rel=0.05)
    said = [one for one in ranked.warnings if one.startswith("The loss changes by itself")]
    assert len(said) == 1
    assert other.warnings == tuple(one for one in ranked.warnings if one not in said)


def test_a_comparison_after_a_search_answers_as_without_the_ramp():
    assert_compared_alike("up", val=True, begun=True)


def test_a_comparison_of_training_losses_answers_as_without_the_ramp():
    assert_compared_alike("falling, saturating", val=False, begun=False)


@pytest.mark.slow
@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("val", [True, False])
@pytest.mark.parametrize("name", SEEN)
def test_so_it_does_with_every_ramp(name, val, begun):
    assert_compared_alike(name, val=val, begun=begun)
