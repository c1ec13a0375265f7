"""Law 3 through a file: what is resumed from a checkpoint equals what nothing has interrupted."""

import copy
import functools
import io
import random
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from generated_models import Drawing, plans
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from zoo import untouched

from lrtune import Cohort, Run, Task
from lrtune.errors import ArgumentError, CheckpointError, TaskError
from lrtune.schedules import (
    FEEDBACK,
    SCHEDULES,
    ReduceOnPlateau,
    constant,
    cosine,
    one_cycle,
    warmup,
)
from lrtune.schedules.torch_schedulers import to_torch
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.value_texts import value_texts
from lrtune.training.engines.fastest import ChosenEngine, EngineConfig
from lrtune.training.engines.loop import Loop
from lrtune.training.engines.vmapped import Vmapped
from tests.sampling import law

STEPS = 12
REFUSED = {"weight_norm", "spectral_norm"}
"""Of the zoo: vmap has no batching rule for what they do."""


class Remembering(nn.Module):
    """A loss whose buffers depend on all that it has seen; one of them is not persistent."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("count", torch.zeros(()), persistent=False)

    def forward(self, outputs, labels):
        loss = nn.functional.cross_entropy(outputs, labels)
        with torch.no_grad():
            self.mean.mul_(0.9).add_(0.1 * loss)
            self.count.add_(1)
        return loss * (1 + self.mean + 0.01 * self.count)


class Wayward(nn.Module):
    """Remembers in plain attributes of a part, and lets that change its answer."""

    class Memory(nn.Module):
        def __init__(self):
            super().__init__()
            self.value, self.range, self.hidden = 1.0, (0.1, 1.0), None
            self.scale, self.seen, self.named = torch.ones(1), [], {"calls": 0}
            self.numpy, self.python = np.random.default_rng(1), random.Random(1)
            self.older, self.torch = np.random.RandomState(1), torch.Generator().manual_seed(1)

        def forward(self, inputs):
            if self.training:
                self.value *= 0.9
                self.scale.mul_(0.99)
                self.named["calls"] += 1
                self.seen.append(len(inputs))
                noise = self.numpy.normal() + self.python.random() + self.older.normal()
                noise += float(torch.rand((), generator=self.torch))
                self.hidden = inputs.detach().mean(0) + 0.1 * noise
            return inputs * self.value * self.scale + self.hidden * len(self.seen) / 9

    def __init__(self):
        super().__init__()
        self.layer, self.memory = nn.Linear(3, 3), self.Memory()

    def forward(self, inputs):
        return self.memory(self.layer(inputs))


def trained_parameters(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def in_groups(model, lr):
    first, *others = trained_parameters(model)
    return torch.optim.AdamW([{"params": [first], "lr": lr / 10}, {"params": others}], lr=lr)


def tensor_rate(model, lr):
    """The rate is a tensor, as capturable optimizers need it on a GPU."""
    return torch.optim.Adam(trained_parameters(model), lr=torch.tensor(lr), foreach=False)


OPTIMIZERS = {
    "momentum": None,
    "nesterov": functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "amsgrad": functools.partial(torch.optim.AdamW, amsgrad=True, foreach=True),
    "fused": functools.partial(torch.optim.AdamW, fused=True),
    "groups": in_groups,
    "tensor": tensor_rate,
    "rmsprop": functools.partial(torch.optim.RMSprop, momentum=0.5, centered=True),
    "adagrad": torch.optim.Adagrad,
}
CYCLES = {"momentum", "nesterov", "adam", "adamw", "amsgrad", "fused", "groups", "tensor"}
"""Of the optimizers: those whose momentum a schedule can set."""


@functools.cache
def task(model="dropout", optimizer="momentum", loss=None):
    inputs, labels = zoo.tensors(model)
    made = zoo.born(Wayward) if model == "wayward" else zoo.model(model)
    return Task(
        made, (inputs, labels), optimizer=OPTIMIZERS[optimizer], loss=loss and loss(),
        val=(inputs[:9], labels[:9]), batch_size=8,
    )  # fmt: skip


def cohort(brought, runs, *, engine=Loop, **more):
    return Cohort(brought, runs, STEPS, engine=engine(brought), **more)


def through_a_file(saved):
    """The checkpoint as another process reads it; nothing in it may need to be executed."""
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def texts(saved):
    """Everything in it, as texts that tell any bit from any other."""
    return list(value_texts(saved))


def saved_of(one, runs):
    return {run.name: through_a_file(one.checkpoint(run.name)) for run in runs}


def assert_same_end(one, other, runs):
    """Rows, validations, weights, optimizer: to the last bit."""
    for part in ("frame", "runs", "validations"):
        left, right = (getattr(each.trace, part) for each in (one, other))
        pd.testing.assert_frame_equal(left, right, check_exact=True)
    for run in runs:
        assert texts(one.checkpoint(run.name)) == texts(other.checkpoint(run.name))


def assert_resumes(brought, runs, at, engine=Loop):
    whole = cohort(brought, runs, engine=engine).advance(at)
    saved = saved_of(whole, runs)
    whole.advance().validate()
    resumed = cohort(brought, runs, engine=engine, resume=saved)
    assert resumed.step == at
    assert_same_end(resumed.advance().validate(), whole, runs)
    assert set(resumed.updates.values()) == {STEPS - at}


SHAPES = {
    "constant": constant(), "warmup": warmup(0.25, cosine()), "cycle": one_cycle(),
    "reacting": FEEDBACK["reduce-on-plateau"](patience=0.4),
    "growing": FEEDBACK["grow-until-plateau"](),
    "watching": ReduceOnPlateau(on="val", every=3, patience=0.0),
}  # fmt: skip
RUNS = [Run(f"{shape}/{seed}", 0.03, SHAPES[shape], seed) for shape in SHAPES for seed in (0, 1)]
AT = st.integers(0, STEPS)
WITHIN = st.integers(1, STEPS - 1)


# --- resumed equals uninterrupted -----------------------------------------------------------------


@law(
    few=6,
    cases=60,
    at=AT,
    optimizer=st.sampled_from(sorted(CYCLES)),
    runs=st.lists(st.sampled_from(RUNS), min_size=1, max_size=4, unique=True),
)
def test_any_runs_resume_at_any_step(at, optimizer, runs):
    assert_resumes(task(optimizer=optimizer), runs, at)


@settings(max_examples=2)
@given(at=WITHIN)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_resumes(optimizer, at):
    shape = SHAPES["cycle" if optimizer in CYCLES else "warmup"]
    assert_resumes(task("convolution", optimizer), [Run("a", 0.03, shape), Run("b", 0.1)], at)


@settings(max_examples=2)
@given(at=WITHIN)
@pytest.mark.parametrize("model", sorted({*zoo.MODELS, "wayward"}))
def test_every_model_resumes(model, at):
    assert_resumes(task(model, "adamw"), [Run("a", 0.03), Run("b", 0.03, seed=1)], at)


@settings(max_examples=2)
@given(at=WITHIN)
@pytest.mark.parametrize("name", [*zoo.DATA, *zoo.ORDERED])
def test_every_kind_of_data_resumes(name, at):
    """Loaders that shuffle, samplers with a state, batches with noise."""
    source, val = (zoo.DATA | zoo.ORDERED)[name](), zoo.ORDERED["list"]()
    val = zoo.DATA["dicts"]() if name == "dicts" else val
    brought = Task(zoo.model("dropout"), source, val=val, **zoo.options(name))
    assert_resumes(brought, [Run("a", 0.03), Run("b", 0.03, seed=1)], at)


@settings(max_examples=4)
@given(at=AT)
def test_a_loss_that_remembers_resumes(at):
    assert_resumes(task(loss=Remembering), [Run("a", 0.03), Run("b", 0.1)], at)


@settings(max_examples=4)
@given(at=AT)
def test_a_factory_resumes(at):
    """The seed decides the weights that a model begins with; the checkpoint replaces them."""
    data = zoo.vectors()
    brought = Task(zoo.dropout, data, val=data, batch_size=8)
    assert_resumes(brought, [Run("a", 0.03, seed=1), Run("b", 0.03, seed=2)], at)


def test_a_checkpoint_at_the_end_takes_no_number_from_the_generators_of_a_model():
    def drawing():
        return nn.Sequential(Drawing(), nn.Flatten(), nn.Linear(16, 3))

    images, labels = zoo.images()
    brought = Task(drawing, (images, labels), val=(images, labels), batch_size=8)
    runs = [Run("a", 0.01)]
    saved, whole = (cohort(brought, runs).advance() for _ in range(2))
    saved.checkpoint("a")
    assert_same_end(saved.validate(), whole.validate(), runs)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")  # torch's, of frozen
@law(few=4, cases=150, plan=plans(), at=AT, optimizer=st.sampled_from(["momentum", "adamw"]))
def test_generated_models_resume(plan, at, optimizer):
    assume(not plan.refused)
    _, handed = plan.brought()
    data = zoo.images()
    try:
        brought = Task(handed, data, val=data, batch_size=8, optimizer=OPTIMIZERS[optimizer])
    except TaskError:
        assume(False)
    assert_resumes(brought, [Run("a", 0.01), Run("b", 0.02, seed=1)], at)


def test_a_checkpoint_can_be_resumed_again_and_again():
    """Training goes on with copies: it never writes into a checkpoint."""
    run = RUNS[2]
    brought = task(optimizer="adamw")
    saved = cohort(brought, [run]).advance(5).checkpoint(run.name)
    before = texts(saved)
    ends = [cohort(brought, [run], resume={run.name: saved}).advance() for _ in range(2)]
    assert texts(saved) == before
    assert_same_end(*ends, [run])


@law(few=4, cases=30, stops=st.lists(AT, min_size=1, max_size=4).map(sorted))
def test_a_run_may_stop_and_resume_many_times(stops):
    brought, runs = task(optimizer="groups"), RUNS[2:7:2]
    one = cohort(brought, runs)
    for at in stops:
        one = cohort(brought, runs, resume=saved_of(one.advance(at), runs))
    assert_same_end(one.advance().validate(), cohort(brought, runs).advance().validate(), runs)


def test_a_failing_neighbour_is_not_saved_and_does_not_matter():
    good, bad = Run("good", 0.03), Run("bad", 1e30)
    whole = cohort(task(), [good, bad]).advance(9)
    with pytest.raises(ArgumentError, match="no live run is named 'bad'"):
        whole.checkpoint("bad")
    resumed = cohort(task(), [good], resume=saved_of(whole, [good])).advance()
    ours, theirs = resumed.trace.frame, whole.advance().trace.select(["good"]).frame
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


@law(few=3, cases=20, at=WITHIN, parent=st.sampled_from(RUNS[:6]))
def test_a_resumed_run_can_be_forked_and_a_fork_resumed(at, parent):
    """Also where the parent's schedule moves the momentum, and the fork's does not."""
    child = Run("child", 0.05, constant(), parent.seed)
    brought = task(optimizer="adamw")
    whole = cohort(brought, [parent]).advance(at)
    resumed = cohort(brought, [parent], resume=saved_of(whole, [parent]))
    for one in (whole, resumed):
        one.fork(parent.name, [child]).advance()
    assert_same_end(resumed, whole, [parent, child])
    half = (at + STEPS) // 2
    forked = cohort(brought, [parent]).advance(at).fork(parent.name, [child]).advance(half)
    again = cohort(brought, [child], resume=saved_of(forked, [child])).advance()
    ours, theirs = again.trace.frame, whole.trace.select(["child"]).frame
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


# --- other engines --------------------------------------------------------------------------------

ENGINES = {
    "vmapped": Vmapped,
    "chunks": lambda brought: Vmapped(brought, chunk=2),
    "chosen": lambda brought: ChosenEngine(brought, EngineConfig("vmapped", 1)),
    "chosen loop": lambda brought: ChosenEngine(brought, EngineConfig("loop", 1)),
}
STACKED = [
    Run(f"{rate}/{seed}", rate, one_cycle(), seed) for rate in (0.01, 0.1) for seed in (0, 1)
]


@settings(max_examples=2)
@given(at=WITHIN)
@pytest.mark.parametrize("model", sorted({*zoo.MODELS} - REFUSED))
def test_the_same_runs_resume_together_in_a_stack(model, at):
    assert_resumes(task(model, "adamw"), STACKED, at, Vmapped)


@settings(max_examples=2)
@given(at=WITHIN)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_runs_resume_together_with_every_engine(engine, at):
    assert_resumes(task("convolution", loss=Remembering), STACKED, at, ENGINES[engine])


@pytest.mark.parametrize("engine", ["vmapped", "chosen"])
def test_a_checkpoint_from_a_stack_holds_that_run_alone(engine):
    """Its weights are views of tensors that hold all runs; what is saved is no view."""
    brought = task("convolution")
    stacked, alone = (cohort(brought, STACKED, engine=e) for e in (ENGINES[engine], Loop))
    for run in STACKED:
        ours, theirs = (one.advance(8).checkpoint(run.name) for one in (stacked, alone))
        for name, tensor in ours["model"].items():
            assert tensor.untyped_storage().nbytes() == tensor.nbytes
            torch.testing.assert_close(tensor, theirs["model"][name], rtol=1e-3, atol=1e-4)
        assert ours["scheduler"] == theirs["scheduler"]


# --- what a user does with it ---------------------------------------------------------------------


def going_on_by_hand(saved, make_model, make_optimizer, schedule, batches):
    """Plain PyTorch from the checkpoint on, as someone writes it who has no lrtune."""
    model = make_model()
    model.load_state_dict(saved["model"])
    optimizer = make_optimizer(model, saved["lr"])
    scheduler = to_torch(schedule, optimizer, saved["steps"])
    optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])
    losses = saved["losses"].tolist()
    for step in range(saved["step"], saved["steps"]):
        inputs, labels = batches[step % len(batches)]
        seed_everything(derive_seed(saved["seed"], NOISE, step))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses, model, optimizer, scheduler


def sgd_momentum(model, lr):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


@settings(max_examples=5)
@given(
    at=AT,
    shape=st.sampled_from(["constant", "warmup", "cycle"]),
    make=st.sampled_from([sgd_momentum, in_groups, tensor_rate]),
)
@pytest.mark.parametrize("name", ["convolution", "dropout", "Tied"])
def test_plain_pytorch_goes_on_from_a_checkpoint_bit_for_bit(name, at, shape, make):
    inputs, labels = zoo.tensors(name)
    batches = list(zip(inputs.split(8), labels.split(8), strict=True))
    run = Run("a", 0.05, SHAPES[shape])
    one = cohort(Task(zoo.model(name), batches, optimizer=make), [run]).advance(at)
    saved = through_a_file(one.checkpoint("a"))
    with preserve_random_state():
        losses, model, optimizer, scheduler = going_on_by_hand(
            saved, lambda: zoo.model(name), make, SHAPES[shape], batches
        )
    end = one.advance().checkpoint("a")
    assert losses == end["losses"].tolist()
    assert texts(end["model"]) == texts(model.state_dict())
    assert texts(end["optimizer"]["state"]) == texts(optimizer.state_dict()["state"])
    for ours, theirs in zip(end["optimizer"]["param_groups"], optimizer.param_groups, strict=True):
        assert float(ours["lr"]) == float(theirs["lr"])
        for key in ("betas", "momentum"):
            assert ours.get(key) == theirs.get(key)
    assert end["scheduler"]["last_epoch"] == scheduler.last_epoch == STEPS


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_scheduler_is_torchs_own_after_as_many_steps(name):
    """Its state is computed for the step; here it is stepped there."""
    run = Run("a", 0.1, SCHEDULES[name]())
    brought = task()
    one = cohort(brought, [run])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler = to_torch(run.schedule, optimizer, STEPS)
        for step in range(STEPS + 1):
            saved = one.advance(step).checkpoint("a")
            assert saved["scheduler"] == scheduler.state_dict()
            (ours,), (theirs,) = saved["optimizer"]["param_groups"], optimizer.param_groups
            for key in ("lr", "momentum", "initial_lr"):
                assert ours[key] == theirs[key]
            optimizer.step()
            scheduler.step()


def test_a_checkpoint_has_the_fields_that_it_says():
    run = Run("a", 0.1, cosine(), seed=3)
    saved = cohort(task(), [run]).advance(5).checkpoint("a")
    assert (saved["lr"], saved["schedule"], saved["seed"]) == (0.1, "cosine(floor=0.0)", 3)
    assert (saved["step"], saved["steps"], saved["ema"], saved["loss"]) == (5, STEPS, None, {})
    trace = cohort(task(), [run]).advance(5).trace.frame
    assert saved["losses"].tolist() == trace["loss"].tolist()
    assert saved["batches"].tolist() == trace["batch"].tolist()
    assert saved["losses"].dtype, saved["batches"].dtype == (torch.float64, torch.int64)
    reacting = cohort(task(), [Run("a", 0.1, SHAPES["reacting"])]).advance(5).checkpoint("a")
    assert reacting["scheduler"] == {}


# --- hands off ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.MODELS)
def test_the_users_model_and_the_random_states_stay_as_they_are(name):
    model, data = zoo.model(name), zoo.tensors(name)
    brought = Task(model, data, val=data, batch_size=8)
    one = cohort(brought, [Run("a", 0.1)]).advance(3)
    for caller in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with caller(), untouched(model, data):
            saved = one.checkpoint("a")
            cohort(brought, [Run("a", 0.1)], resume={"a": saved}).advance(6).validate()
        assert not any(tensor.is_inference() for tensor in saved["model"].values())


def test_frozen_weights_that_models_share_with_the_user_are_not_written():
    """As where a function loads a large backbone once."""
    backbone = zoo.born(lambda: nn.Linear(3, 8)).requires_grad_(requires_grad=False)

    class Headed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(backbone.weight, requires_grad=False)
            self.head = nn.Linear(8, 3)

        def forward(self, inputs):
            return self.head(inputs @ self.weight.T)

    brought = Task(Headed, zoo.vectors(), batch_size=8)
    run = Run("a", 0.1)
    with untouched(backbone):
        saved = cohort(brought, [run]).advance(4).checkpoint("a")
        assert set(saved["model"]) == {"weight", "head.weight", "head.bias"}
        resumed = cohort(brought, [run], resume={"a": saved}).advance()
    assert_same_end(resumed, cohort(brought, [run]).advance(), [run])


# --- what cannot be saved, or does not fit --------------------------------------------------------


class Note:
    """A type that only a pickle could bring back."""


class Noting(torch.optim.SGD):
    """Keeps an object in its state."""

    def step(self, closure=None):
        super().step(closure)
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["note"] = Note()


class Doubled(torch.optim.SGD):
    """Keeps its state in a type that torch casts when it is loaded."""

    def step(self, closure=None):
        super().step(closure)
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["sum"] = torch.full((), 1 / 3, dtype=torch.float64)


class Mute(torch.optim.SGD):
    def state_dict(self):
        raise NotImplementedError("no state_dict here")


def test_a_state_that_is_no_plain_data_is_named_and_training_goes_on():
    brought = Task(zoo.model("linear"), zoo.vectors(), optimizer=Noting, batch_size=8)
    one = cohort(brought, [Run("a", 0.1)]).advance(3)
    with untouched(), pytest.raises(CheckpointError, match=r"optimizer \(Noting\) holds a .*Note"):
        one.checkpoint("a")
    assert one.advance().trace.runs["outcome"].tolist() == ["FINISHED"]
    mute = Task(zoo.model("linear"), zoo.vectors(), optimizer=Mute, batch_size=8)
    with pytest.raises(CheckpointError, match="no state_dict here"):
        cohort(mute, [Run("a", 0.1)]).checkpoint("a")


def test_a_state_that_is_not_taken_back_as_it_was_is_refused():
    brought = Task(zoo.model("linear"), zoo.vectors(), optimizer=Doubled, batch_size=8)
    saved = cohort(brought, [Run("a", 0.1)]).advance(3).checkpoint("a")
    with pytest.raises(CheckpointError, match="its optimizer was given back is not what was saved"):
        cohort(brought, [Run("a", 0.1)], resume={"a": saved})


def test_a_checkpoint_of_something_else_is_refused():
    run = Run("a", 0.1, cosine())
    saved = cohort(task(), [run]).advance(5).checkpoint("a")

    def resumed(brought=None, run=run, steps=STEPS, saved=saved):
        return Cohort(brought or task(), [run], steps, resume={run.name: saved})

    for other in (Run("a", 0.2, cosine()), Run("a", 0.1), Run("a", 0.1, cosine(), seed=1)):
        with pytest.raises(CheckpointError, match="is that of another run"):
            resumed(run=other)
    with pytest.raises(CheckpointError, match="is that of another run"):
        resumed(steps=13)
    for name in ("linear", "convolution"):
        with pytest.raises(CheckpointError, match="does not fit the task"):
            resumed(task(name))
    for odd in ({}, [], saved | {"step": 4}, saved | {"losses": [1.0]}, {**saved, "model": 1}):
        with pytest.raises(CheckpointError, match=r"this is no checkpoint|expected the dict"):
            resumed(saved=odd)
    resumed().advance()


def test_other_data_are_noticed_when_they_are_read():
    def brought(seed):
        inputs = zoo.born(lambda: torch.randn(24, 3), seed)
        data = TensorDataset(inputs, zoo.vectors()[1])
        return Task(zoo.model("linear"), DataLoader(data, 8, shuffle=True))

    saved = cohort(brought(0), [Run("a", 0.1)]).advance(5).checkpoint("a")
    other = cohort(brought(1), [Run("a", 0.1)], resume={"a": saved})
    with pytest.raises(CheckpointError, match="batch 0 of seed 0 is not the one"):
        other.advance()


def test_runs_of_different_steps_or_without_a_checkpoint_are_refused():
    a, b = Run("a", 0.1), Run("b", 0.1, seed=1)
    one = cohort(task(), [a, b]).advance(3)
    saved = saved_of(one, [a, b])
    later = {**saved, "b": one.advance(4).checkpoint("b")}
    with pytest.raises(ArgumentError, match=r"steps \[3, 4\]"):
        cohort(task(), [a, b], resume=later)
    for odd in ({"a": saved["a"]}, {**saved, "c": saved["a"]}, {}):
        with pytest.raises(ArgumentError, match="expected one for each run and no other"):
            cohort(task(), [a, b], resume=odd)
    twisted = copy.deepcopy(saved) | {"c": copy.deepcopy(saved["a"])}
    twisted["c"]["batches"] += 1
    twisted["c"]["lr"] = 0.2
    with pytest.raises(CheckpointError, match="two checkpoints of seed 0 saw different batches"):
        cohort(task(), [a, b, Run("c", 0.2)], resume=twisted)
