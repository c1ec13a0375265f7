"""Optimizers with `train()` and `eval()`: their eval weights are validated and handed out."""

import functools

import pytest
import torch
import zoo
from torch import nn

from lrtune import Cohort, Evaluator, Run, Task, compare, range_test, search, train
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.training.engines.loop import Loop
from lrtune.training.engines.vmapped import Vmapped
from tests.switching import SWITCHING, ScheduleFreeSGD

STEPS = 12
RUNS = [Run("a", 0.5), Run("b", 0.1), Run("c", 0.1, seed=1)]
IMAGES = zoo.images()
ENGINES = {"loop": Loop, "vmapped": Vmapped}


def task(optimizer=ScheduleFreeSGD, model="convolution", **more):
    given = zoo.model(model) if isinstance(model, str) else model
    return Task(given, IMAGES, val=IMAGES, optimizer=optimizer, batch_size=8, device="cpu", **more)


def owners_loop(make, lr):
    """The loop of the optimizer's documentation: its losses, and the one in eval mode."""
    brought, model = task(make), zoo.model("convolution")
    optimizer, losses = make(model.parameters(), lr=lr), []
    with preserve_random_state():
        model.train()
        optimizer.train()
        for step, (inputs, labels) in zip(range(STEPS), brought.batches(0), strict=False):
            seed_everything(derive_seed(0, NOISE, step))
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            trained = nn.functional.cross_entropy(model(IMAGES[0]), IMAGES[1]).item()
            optimizer.eval()
            validated = nn.functional.cross_entropy(model(IMAGES[0]), IMAGES[1]).item()
    return losses, trained, validated, model


def stated(trace, run="a"):
    """The loss over both parts."""
    rows = trace.validations[trace.validations["run"] == run]
    return (rows["loss"] * rows["samples"]).sum() / rows["samples"].sum()


@pytest.mark.parametrize("name", SWITCHING)
def test_a_run_is_that_of_the_owners_loop_and_validated_like_it(name):
    losses, trained, validated, _ = owners_loop(SWITCHING[name], 0.5)
    trace = train(task(SWITCHING[name]), RUNS[:1], STEPS)
    assert trace.frame["loss"].tolist() == losses
    assert stated(trace) == pytest.approx(validated, rel=1e-6)
    assert stated(trace) != pytest.approx(trained, rel=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SWITCHING)
def test_validating_on_the_way_changes_no_bit(name, engine):
    whole, often = (
        Cohort(task(SWITCHING[name]), RUNS, STEPS, engine=ENGINES[engine](task(SWITCHING[name])))
        for _ in range(2)
    )
    whole.advance().validate()
    for step in range(STEPS):
        often.advance(step).validate(5)
    often.advance().validate()
    assert often.trace.frame.equals(whole.trace.frame)
    last = often.trace.validations["step"] == STEPS
    assert often.trace.validations[last].reset_index(drop=True).equals(whole.trace.validations)


@pytest.mark.parametrize("name", SWITCHING)
def test_the_vmapped_engine_says_the_same(name):
    loop, vmapped = (train(task(SWITCHING[name]), RUNS, STEPS, engine=one) for one in ENGINES)
    for table in ("frame", "validations"):
        ours, theirs = (getattr(trace, table)["loss"].to_numpy() for trace in (vmapped, loop))
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize("model", ["convolution", "frozen"])
@pytest.mark.parametrize("name", SWITCHING)
def test_a_checkpoint_holds_what_was_validated_and_goes_on_bit_for_bit(name, model):
    data = zoo.tensors(model)
    brought = Task(
        zoo.model(model), data, val=data, optimizer=SWITCHING[name], batch_size=8, device="cpu"
    )
    whole = Cohort(brought, RUNS, STEPS).advance(5).validate()
    saved = {run.name: whole.checkpoint(run.name) for run in RUNS}
    handed = zoo.model(model)
    handed.load_state_dict(saved["a"]["model"])
    handed.eval()
    with torch.no_grad():
        loss = nn.functional.cross_entropy(handed(data[0]), data[1]).item()
    assert stated(whole.trace) == pytest.approx(loss, rel=1e-6)
    resumed = Cohort(brought, RUNS, STEPS, resume=saved).advance().validate()
    whole.advance().validate()
    assert resumed.trace.frame.equals(whole.trace.frame)
    ours, theirs = (one.trace.validations for one in (resumed, whole))
    assert ours.equals(theirs[theirs["step"] == STEPS].reset_index(drop=True))


def test_a_user_goes_on_from_a_checkpoint_as_the_documentation_says():
    """Load both, then `optimizer.train()`: the weights that are trained come back."""
    cohort = Cohort(task(), RUNS[:1], STEPS).advance()
    saved = cohort.checkpoint("a")
    model = zoo.model("convolution")
    optimizer = ScheduleFreeSGD(model.parameters(), lr=0.5)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    optimizer.train()
    for name, weight in model.named_parameters():
        assert torch.allclose(weight, saved["train_weights"][name], atol=1e-6)


def test_only_those_that_switch_have_two_sets_of_weights():
    plain = Cohort(task(torch.optim.SGD), RUNS[:1], STEPS).advance(2)
    assert plain.checkpoint("a")["train_weights"] == {}

    class HalfWay(torch.optim.SGD):
        def eval(self):
            raise AssertionError("there is no train() to come back")

    train(task(HalfWay), RUNS[:1], 3)


def test_a_fork_goes_on_from_the_weights_that_are_trained():
    whole = Cohort(task(), RUNS[:1], STEPS).advance(4).validate().fork("a", [Run("d", 0.5)])
    frame = whole.advance().trace.frame
    one, other = (frame[(frame["run"] == run) & (frame["step"] >= 4)]["loss"] for run in "ad")
    assert one.tolist() == other.tolist()


def test_the_model_of_a_search_has_the_stated_loss():
    brought = task(model=zoo.MODELS["convolution"])
    found = search(brought, steps=60, around=0.3, budget=2.5)
    losses = brought.val_counts
    model, parts = found.model(), {}
    with preserve_random_state(), torch.no_grad():
        for part, (inputs, labels) in brought._val.batches():
            loss = nn.functional.cross_entropy(model(inputs), labels, reduction="sum").item()
            parts[part] = parts.get(part, 0.0) + loss / losses[part]
    assert parts == pytest.approx({"selection": found.best.selected, "test": found.best.loss}, 1e-4)


def test_every_verb_trains_them():
    brought = task()
    assert range_test(brought, steps=60, seeds=1).stops["seed"].tolist() == [0]
    assert len(compare(brought, 0.3, schedules=["step"], steps=40, seeds=2, budget=9).table) >= 2
    evaluate = Evaluator(task(functools.partial(ScheduleFreeSGD, momentum=0.8)), engine="auto")
    evaluate([Run(name, 0.1) for name in "abcd"], 30, stage="short")
    assert evaluate.engine_notes
