"""The laws of runs that vary in settings or batch size: laws 1 to 4, 9 and 10 of their engine."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lrtune import Cohort, Evaluator, Run, Task
from lrtune.errors import ArgumentError, CheckpointError
from lrtune.schedules import FEEDBACK, cosine
from lrtune.task.random_state import preserve_random_state
from lrtune.training import Loop, Variation, VariedLoop

STEPS = 12
SGD = partial(torch.optim.SGD, momentum=0.9, weight_decay=0.01)
ADAM = partial(torch.optim.AdamW, weight_decay=0.05)
OPTIMIZERS = {"sgd": SGD, "adam": ADAM}
VARIATIONS = {
    "plain": Variation(),
    "two": Variation(accumulate=2),
    "three": Variation(accumulate=3),
    "decay": Variation(settings={"weight_decay": 0.3}),
    "free": Variation(settings={"weight_decay": 0.0}),
    "momentum": Variation(settings={"momentum": 0.5}),
    "both": Variation(accumulate=4, settings={"momentum": 0.0, "weight_decay": 0.1}),
}
RUNS = [Run(name, 0.05, cosine()) for name in VARIATIONS]


def brought(name="dropout", optimizer=SGD, **options):
    inputs, labels = zoo.tensors(name)
    return Task(
        zoo.model(name), (inputs, labels), optimizer=optimizer, val=(inputs, labels), batch_size=8,
        device="cpu", **options,
    )  # fmt: skip


def trained(task, runs, variations, steps=STEPS):
    return Cohort(task, runs, steps, engine=VariedLoop(task, variations)).advance().trace


def losses(trace, name):
    return trace.frame.loc[trace.frame["run"] == name, "loss"].to_numpy()


@pytest.mark.parametrize("name", sorted(zoo.MODELS))
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_that_does_not_vary_trains_as_in_the_loop(name, optimizer):
    task = brought(name, OPTIMIZERS[optimizer])
    runs = [Run("a", 0.01), Run("b", 0.1, cosine(), seed=1)]
    one = trained(task, runs, {"a": Variation(accumulate=1), "other": Variation(accumulate=9)})
    other = Cohort(task, runs, STEPS, engine=Loop(task)).advance().trace
    pd.testing.assert_frame_equal(one.frame, other.frame, check_exact=True)


@pytest.mark.parametrize("changed", [{"weight_decay": 0.3}, {"weight_decay": 0.0}])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_setting_is_that_of_an_optimizer_made_with_it(optimizer, changed):
    make = OPTIMIZERS[optimizer]
    run = Run("a", 0.02, cosine())
    task, other = brought(optimizer=make), brought(optimizer=partial(make, **changed))
    varied = trained(task, [run], {"a": Variation(settings=changed)})
    assert losses(varied, "a").tolist() == losses(trained(other, [run], {}), "a").tolist()
    assert losses(varied, "a").tolist() != losses(trained(task, [run], {}), "a").tolist()


@pytest.mark.parametrize(
    ("make", "with_it"),
    [
        (SGD, partial(SGD, momentum=0.3)),
        (ADAM, partial(ADAM, betas=(0.3, 0.999))),
        (partial(SGD, nesterov=True), partial(SGD, nesterov=True, momentum=0.3)),
    ],
)
def test_momentum_is_that_of_sgd_or_adams_beta1(make, with_it):
    run = Run("a", 0.02)
    varied = trained(brought(optimizer=make), [run], {"a": Variation(settings={"momentum": 0.3})})
    other = trained(brought(optimizer=with_it), [run], {})
    assert losses(varied, "a").tolist() == losses(other, "a").tolist()


def by_hand(task, run, count, scale):
    """The ten lines that a user writes to accumulate gradients, with a rate that is kept."""
    seen = []
    with preserve_random_state(), torch.enable_grad():
        state = task.init_state(run.seed, run.lr)
        batches = task.batches(run.seed)
        for step in range(STEPS):
            inputs, labels = next(batches)
            if step % count == 0:
                state.optimizer.zero_grad()
            loss = state.loss(state.model(inputs), labels)
            (loss * scale).backward()
            if step % count == count - 1:
                state.optimizer.step()
            seen.append(float(loss.detach()))
    return seen


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12, 13])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_accumulating_equals_the_users_own_loop(optimizer, count):
    task, run = brought("linear", OPTIMIZERS[optimizer]), Run("a", 0.1)
    trace = trained(task, [run], {"a": Variation(accumulate=count)})
    assert losses(trace, "a").tolist() == by_hand(task, run, count, 1 / count)


def test_gradients_of_a_sum_are_summed():
    def summed(output, target):
        return nn.functional.cross_entropy(output, target, reduction="sum")

    task, run = brought("linear", loss=summed), Run("a", 0.01)
    assert task.loss_reduction == "sum"
    trace = trained(task, [run], {"a": Variation(accumulate=3)})
    assert losses(trace, "a").tolist() == by_hand(task, run, 3, 1.0)


def test_an_update_of_k_batches_is_that_of_the_joined_batch():
    (inputs, labels), make = zoo.vectors(), partial(zoo.model, "linear")
    small = [(inputs[i : i + 4], labels[i : i + 4]) for i in range(0, 24, 4)]
    large = [(inputs[i : i + 12], labels[i : i + 12]) for i in range(0, 24, 12)]
    one = Task(make, small, optimizer=SGD, device="cpu")
    other = Task(make, large, optimizer=SGD, device="cpu")
    varied = losses(trained(one, [Run("a", 0.1)], {"a": Variation(accumulate=3)}, steps=24), "a")
    joined = losses(trained(other, [Run("a", 0.1)], {}, steps=8), "a")
    np.testing.assert_allclose(varied.reshape(8, 3).mean(1), joined, rtol=1e-5)


@pytest.mark.slow
@settings(max_examples=20)
@given(order=st.permutations(RUNS), count=st.integers(1, len(RUNS)), parts=st.integers(0, STEPS))
def test_neighbours_and_pauses_change_nothing(order, count, parts):
    """Every run sees the same batches, and random layers draw the same numbers."""
    task = brought()
    cohort = Cohort(task, order[:count], STEPS, engine=VariedLoop(task, VARIATIONS))
    trace = cohort.advance(parts).advance().trace
    assert trace.frame.groupby("step")["batch"].nunique().eq(1).all()
    for run in order[:count]:
        alone = trained(task, [run], VARIATIONS)
        assert losses(trace, run.name).tolist() == losses(alone, run.name).tolist()


def test_a_schedule_that_reacts_hears_of_every_loss():
    task = brought("linear")
    run = Run("a", 0.1, FEEDBACK["grow-until-plateau"]())
    trace = trained(task, [run], {"a": Variation(accumulate=3)})
    assert len(trace.frame) == STEPS
    assert np.isfinite(trace.frame["lr"]).all()


def test_a_run_can_be_saved_only_after_an_update():
    task = brought("linear")
    variations = {"a": Variation(accumulate=3, settings={"momentum": 0.5})}
    cohort = Cohort(task, [Run("a", 0.1)], STEPS, engine=VariedLoop(task, variations))
    cohort.advance(4)
    with pytest.raises(CheckpointError, match="gradients of 1 of 3 batches"):
        cohort.checkpoint("a")
    with pytest.raises(CheckpointError, match="multiple of 3 steps"):
        cohort.fork("a", [Run("b", 0.1)])


def test_what_is_resumed_ends_as_what_was_never_stopped():
    task = brought("linear")
    variations = {"a": Variation(accumulate=3, settings={"momentum": 0.5, "weight_decay": 0.2})}
    runs = [Run("a", 0.1, cosine())]
    cohort = Cohort(task, runs, STEPS, engine=VariedLoop(task, variations)).advance(6)
    saved = {"a": cohort.checkpoint("a")}
    resumed = Cohort(task, runs, STEPS, engine=VariedLoop(task, variations), resume=saved).advance()
    whole = losses(cohort.advance().trace, "a")
    assert losses(resumed.trace, "a").tolist() == whole.tolist()


def test_a_fork_goes_on_with_a_larger_batch():
    """As on a plateau: the same again, and four batches for each update."""
    task = brought("linear")
    fork = {"large": Variation(accumulate=4), "free": Variation(settings={"weight_decay": 0.0})}
    cohort = Cohort(task, [Run("a", 0.1)], STEPS, engine=VariedLoop(task, fork)).advance(4)
    cohort.fork("a", [Run("same", 0.1), Run("large", 0.1), Run("free", 0.1)]).advance()
    trace = cohort.trace
    same = losses(trace, "same")
    assert same.tolist() == losses(trace, "a")[4:].tolist()
    assert losses(trace, "large")[0] == same[0]
    assert losses(trace, "large")[1] != same[1]
    assert losses(trace, "free")[2] != same[2]


def test_an_evaluator_makes_another_with_its_options():
    task, said = brought("linear"), []
    evaluator = Evaluator(task, max_runs=2, progress=lambda *one: said.append(one))
    varied = evaluator.like(task, VARIATIONS)
    trace = varied(RUNS, STEPS, stage="vary", validate=0)
    for run in RUNS:
        alone = trained(task, [run], VARIATIONS)
        assert losses(trace, run.name).tolist() == losses(alone, run.name).tolist()
    assert {stage for stage, _, _ in said} == {"vary"}
    assert max(total for _, _, total in said) == 2 * STEPS, "two runs at once, as was asked for"
    with pytest.raises(ArgumentError, match="not saved"):
        varied(RUNS, STEPS, stage="vary", checkpoint=True)
    plain = evaluator.like(brought("linear", ADAM))([Run("a", 0.01)], 3, stage="x", validate=0)
    assert plain.frame["loss"].iloc[2] != losses(trained(task, [Run("a", 0.01)], {}), "a")[2]


def test_other_engines_refuse_runs_that_vary():
    with pytest.raises(ArgumentError, match="expected 'loop'"):
        Evaluator(brought("linear"), engine="vmapped", variations=VARIATIONS)


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_a_number_of_batches_is_whole(count):
    with pytest.raises(ArgumentError, match="accumulate must be a whole number >= 1"):
        Variation(accumulate=count)
