"""A loss that no rate could make finite is refused by every verb, with the batch and the sample."""

import contextlib
import itertools
import math
import re

import pytest
import torch
import zoo
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    TensorDataset,
)

from lrtune import Cohort, Evaluator, Run, Task, compare, range_test, search, train
from lrtune.errors import DataError, TaskError
from lrtune.task.data import as_data
from lrtune.task.random_state import WEIGHTS, derive_seed, preserve_random_state, seed_everything
from lrtune.task.task import Task as TaskClass
from lrtune.testing import bowl
from tests.sampling import law

ROWS, BATCH, BAD = 48, 8, 29
X = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(1))
Y = X.argmax(1)


def spoiled(tensor, value, row=BAD):
    made = tensor.clone()
    made[row] = value
    return made


class Read(Dataset):
    """Examples that are only known when they are read."""

    def __init__(self, inputs=X, labels=Y):
        self.inputs, self.labels = inputs, labels

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, row):
        return self.inputs[row], self.labels[row]


class Streamed(IterableDataset):
    def __init__(self, inputs, labels=Y):
        self.inputs, self.labels = inputs, labels

    def __iter__(self):
        yield from zip(self.inputs, self.labels, strict=True)


def loader(inputs=None, labels=Y, **options):
    inputs = spoiled(X, math.nan) if inputs is None else inputs
    options = {"shuffle": True} | options if "sampler" not in options else options
    return DataLoader(Read(inputs, labels), BATCH, **options)


def task(source=None, **more):
    model = more.pop("model", zoo.model("linear"))
    return Task(model, loader() if source is None else source, device="cpu", **more)


VERBS = {
    "train": lambda task: train(task, [Run("a", 0.01), Run("b", 0.1)], 20),
    "one run": lambda task: train(task, [Run("a", 1e-9)], 20),
    "vmapped": lambda task: train(task, [Run("a", 0.01), Run("b", 0.1)], 20, engine="vmapped"),
    "auto": lambda task: train(task, [Run(n, 0.1) for n in "abcd"], 20, engine="auto"),
    "range test": lambda task: range_test(task, steps=40),
    "search": lambda task: search(task, steps=100),
    "compare": lambda task: compare(task, 0.01, schedules=["step"], steps=40, budget=20),
}


def refused(act):
    """The message of what is refused; nothing of the run is blamed in it."""
    with pytest.raises(DataError) as caught:
        act()
    message = str(caught.value)
    for word in ("clip", "limits", "lower"):
        assert word not in message
    assert not getattr(caught.value, "__notes__", [])
    assert isinstance(caught.value, TaskError)
    return message


# --- what is said ---------------------------------------------------------------------------------


def test_every_verb_says_the_same_sentence():
    said = {name: refused(lambda verb=verb: verb(task())) for name, verb in VERBS.items()}
    (message,) = set(said.values())
    assert re.fullmatch(
        r"the loss of the untrained model on batch \d of epoch 0 \(seed 0\) is nan, so the rate is "
        rf"not to blame; expected a finite number\. Sample {BAD} \(row \d of the batch\) holds NaN "
        r"in the inputs: mend the data\.",
        message,
    ), message


def test_a_verb_that_begins_with_another_seed_names_it():
    message = refused(lambda: search(task(), steps=100, seed=5))
    assert "(seed 5)" in message
    assert f"Sample {BAD} " in message


def by_name(model, batch):
    return functional.cross_entropy(model(batch["pictures"]), batch["labels"])


class Dicts(Read):
    def __getitem__(self, row):
        return {"pictures": self.inputs[row], "labels": self.labels[row]}


def log_of_zero(outputs, targets):
    """The loss of one label is infinite, though all numbers are finite."""
    return functional.cross_entropy(outputs, targets % 3) - (targets != 7).float().log().mean()


def distances(outputs, targets):
    """The root of zero has no gradient."""
    return (outputs * (targets != 7)[:, None]).square().sum(1).sqrt().mean()


HALF = zoo.born(lambda: nn.Sequential(nn.Linear(3, 3), nn.Sigmoid()))
KINDS = {
    "inf in the inputs": ({"source": loader(spoiled(X, math.inf))}, "holds inf in the inputs"),
    "NaN in the targets": (
        {
            "source": loader(X, spoiled(X.clone(), math.nan)),
            "loss": nn.MSELoss(),
        },
        f"Sample {BAD} (row",
        "holds NaN in the targets",
    ),
    "two rows": (
        {"source": loader(spoiled(X, math.nan, slice(16, 18)), shuffle=False)},
        "batch 2 of epoch 0 (seed 0)",
        "Samples 16, 17 (rows 0, 1 of the batch) hold NaN",
    ),
    "a dict": (
        {
            "source": DataLoader(Dicts(spoiled(X, math.nan)), BATCH, shuffle=True),
            "objective": by_name,
        },
        f"Sample {BAD} (row",
        "NaN in the 'pictures'",
    ),
    "two inputs": (
        {
            "source": [
                (X[n : n + 8], spoiled(X, math.inf, 9)[n : n + 8], Y[n : n + 8]) for n in (0, 8)
            ],
            "objective": lambda m, b: functional.cross_entropy(m(b[0] + b[1]), b[2]),
        },
        "batch 1 of epoch 0",
        "Row 1 of the batch holds inf in the inputs (tensor 1)",
    ),
    "only ignored labels": (
        {"source": loader(X, spoiled(Y, -100, slice(16, 24)), shuffle=False)},
        "batch 2 of epoch 0 (seed 0)",
        "All of its labels are -100, which the loss ignores",
    ),
    "only labels that are ignored by number": (
        {
            "source": loader(X, spoiled(Y, 255, slice(16, 24)), shuffle=False),
            "loss": nn.CrossEntropyLoss(ignore_index=255),
        },
        "All of its labels are 255",
    ),
    "a log of 0": (
        {"source": loader(X, spoiled(Y, 7), shuffle=False), "loss": log_of_zero},
        f"batch {BAD // BATCH} of epoch 0 (seed 0) is inf",
        "numbers of the batch are finite: look for a log of 0",
    ),
    "a root of 0": (
        {"source": loader(X, spoiled(Y, 7), shuffle=False), "loss": distances},
        f"the gradient of the loss on batch {BAD // BATCH} of epoch 0 (seed 0) is not finite",
        "Look for the root of 0",
    ),
    "a loss that raises": (
        {
            "source": loader(spoiled(X, math.nan), Y.float()[:, None].expand(-1, 3) / 2),
            "model": HALF,
            "loss": nn.BCELoss(),
        },
        "holds NaN in the inputs",
    ),
    "a stream": (
        {"source": DataLoader(Streamed(spoiled(X, math.nan)), BATCH)},
        f"batch {BAD // BATCH} of epoch 0 (seed 0)",
        f"Row {BAD % BATCH} of the batch holds NaN",
    ),
    "a sampler": (
        {
            "source": loader(
                sampler=DistributedSampler(Read(), num_replicas=1, rank=0), shuffle=None
            )
        },
        f"Sample {BAD} (row",
    ),
    "workers": ({"source": loader(num_workers=1)}, f"Sample {BAD} (row"),
    "a share was held out": ({"source": loader(), "val": 0.25}, f"Sample {BAD} (row"),
    "a later epoch": (
        {"source": DataLoader(Streamed(X), BATCH), "objective": None},
        "",
    ),
}
del KINDS["a later epoch"]


@pytest.mark.parametrize("name", KINDS)
def test_batch_sample_and_cause_are_named(name):
    changes, *told = KINDS[name]
    message = refused(lambda: VERBS["one run"](task(**changes)))
    for part in told:
        assert part in message
    again = refused(lambda: VERBS["range test"](task(**changes)))
    assert again == message


@law(
    few=5,
    cases=40,
    row=st.integers(0, ROWS - 1),
    seed=st.integers(0, 3),
    size=st.integers(2, 20),
    drop=st.booleans(),
)
def test_the_batch_is_the_one_that_is_trained_on(row, seed, size, drop):
    source = DataLoader(Read(spoiled(X, math.nan, row)), size, shuffle=True, drop_last=drop)
    clean = as_data(DataLoader(Read(), size, shuffle=True, drop_last=drop), None, what="train")
    with preserve_random_state():
        epoch = list(itertools.islice(clean.batches(seed), 9 * ROWS))
    step = next(
        n for n, (inputs, _) in enumerate(epoch) if any(torch.equal(one, X[row]) for one in inputs)
    )

    def act():
        train(Task(zoo.model("linear"), source), [Run("a", 0.01, seed=seed)], step + 1)

    with pytest.raises(TaskError) as caught:
        act()
    message = str(caught.value)
    if "smallest batch" in message or ("(seed 0)" in message and seed):
        return  # Task tries these two before
    length = ROWS // size if drop else -(-ROWS // size)
    assert f"batch {step % length} of epoch {step // length} (seed {seed})" in message
    assert f"Sample {row} " in message


# --- before anything trains -----------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_tensors_are_looked_at_before_anything_trains(value):
    message = refused(lambda: Task(zoo.model("linear"), (spoiled(X, value), Y), batch_size=8))
    assert f"Sample {BAD} (row" in message
    assert ("NaN" if math.isnan(value) else "inf") in message


VAL = (spoiled(X, math.nan), Y)


@pytest.mark.parametrize("val", [VAL, DataLoader(TensorDataset(*VAL), BATCH)])
def test_validation_tensors_are_looked_at_before_anything_trains(val):
    message = refused(lambda: task((X, Y), val=val))
    assert re.search(r"on validation batch \d of the (selection|test) part is nan", message)
    assert f"Sample {BAD} (row" in message


class Mends(nn.Module):
    """A model that takes NaN for a missing number."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, inputs):
        return self.layer(inputs.nan_to_num())


def test_numbers_that_the_model_mends_are_no_matter():
    inputs = spoiled(X, math.nan)
    brought = Task(zoo.born(Mends), (inputs, Y), val=(inputs, Y), batch_size=8, device="cpu")
    assert VERBS["train"](brought).runs["outcome"].tolist() == ["FINISHED"] * 2


def test_weights_that_are_not_finite_have_a_sentence_of_their_own():
    model = zoo.model("linear")
    with torch.no_grad():
        model.weight[1, 1] = math.nan
    message = refused(lambda: task((X, Y), model=model))
    assert message.startswith("the initial weights of the Linear are not finite (weight holds NaN)")
    assert "batch" not in message


def test_weights_that_one_seed_spoils_are_told_when_it_trains():
    def make():
        model = nn.Linear(3, 3)
        with torch.no_grad():
            model.bias[0] /= model.weight[0, 0] > border  # by 0 or 1
        return model

    with preserve_random_state():
        seed_everything(derive_seed(0, WEIGHTS))
        border = nn.Linear(3, 3).weight[0, 0].item() - 1e-3  # so that seed 0 is fine
    brought, spoilt = task((X, Y), model=make), 0
    for seed in range(8):
        with contextlib.suppress(DataError):
            train(brought, [Run("a", 0.01, seed=seed)], 3)
            continue
        spoilt += 1
        message = refused(lambda seed=seed: train(brought, [Run("a", 0.01, seed=seed)], 3))
        assert "initial weights of the Linear are not finite (bias holds inf)" in message
    assert 0 < spoilt < 8


# --- validation -----------------------------------------------------------------------------------


def validated(val, **more):
    return task((X, Y), val=val, batch_size=8, **more)


VALIDATING = {
    "train": VERBS["train"],
    "search": lambda task: search(task, steps=60, budget=4, around=0.1),
    "compare": lambda task: compare(task, 0.1, schedules=["step"], steps=40, budget=20),
}


@pytest.mark.parametrize("verb", VALIDATING)
def test_bad_validation_data_are_refused_with_the_sample(verb):
    val = DataLoader(Read(spoiled(X, math.nan)), BATCH)
    message = refused(lambda: VALIDATING[verb](validated(val)))
    assert re.search(
        r"the loss of the untrained model on validation batch \d of the (selection|test) part is "
        rf"nan, so the rate is not to blame; expected a finite number\. Sample {BAD} \(row",
        message,
    )


@pytest.mark.parametrize("first", [True, False])
def test_bad_batches_of_a_validation_stream_are_refused(first):
    batches = [(X[n : n + 8], Y[n : n + 8]) for n in range(0, ROWS, 8)]
    batches[0 if first else 3] = (batches[0][0] * math.inf, batches[0][1])
    message = refused(lambda: VERBS["train"](validated(batches)))
    assert "on validation batch" in message
    assert "NaN in the inputs" in message or "inf in the inputs" in message


def test_a_validation_loss_that_raises_is_explained():
    labels = Y.float()[:, None].expand(-1, 3) / 2
    val = DataLoader(Read(spoiled(X, math.nan), labels), BATCH)

    def act():
        brought = Task(HALF, (X, labels), loss=nn.BCELoss(), val=val, batch_size=8, device="cpu")
        VERBS["train"](brought)

    assert f"Sample {BAD} (row" in refused(act)


def test_a_loss_that_is_nan_in_eval_mode_is_refused():
    def objective(model, batch):
        loss = functional.cross_entropy(model(batch[0]), batch[1])
        return loss if model.training else loss * math.nan

    message = refused(lambda: validated((X, Y), objective=objective))
    assert "validation batch 0 of the selection part is nan" in message
    assert "numbers of the batch are finite" in message


# --- what is a matter of the rate -----------------------------------------------------------------


@pytest.fixture
def looked(monkeypatch):
    """The seeds and steps whose batches were looked at with the untrained model."""
    calls, check = [], TaskClass.batch_error
    monkeypatch.setattr(
        TaskClass, "batch_error", lambda self, *at: calls.append(at) or check(self, *at)
    )
    return calls


@pytest.mark.parametrize("engine", ["loop", "vmapped"])
def test_a_rate_that_is_too_high_remains_a_result(engine, looked):
    brought = task(loader(X), model=zoo.model("dropout"), val=(X, Y))
    trace = train(brought, [Run("a", 1e30), Run("b", 1e30, seed=1)], 20, engine=engine)
    assert trace.runs["outcome"].tolist() == ["NONFINITE"] * 2
    assert [seed for seed, _ in looked] == [0, 1]


def test_a_run_beside_which_another_one_lives_costs_no_look(looked):
    brought = task(loader(X), model=zoo.model("dropout"))
    trace = train(brought, [Run("a", 1e30), Run("b", 0.01)], 90)
    assert trace.runs["outcome"].tolist() == ["NONFINITE", "FINISHED"]
    range_test(brought, steps=60, high=1e20)
    assert not looked


def test_a_loss_that_rose_far_before_costs_no_look(looked):
    trace = Cohort(bowl(4.0), [Run("a", 1e3)], 90, retire=lambda losses: None).advance().trace
    assert not math.isfinite(trace.frame["loss"].iloc[-1])
    assert not looked


def test_each_step_is_looked_at_once(looked):
    brought = task(loader(X), model=zoo.model("dropout"))
    cohort = Cohort(brought, [Run("a", 1e30)], 90, retire=lambda losses: None)
    for step in range(5, 91, 5):
        cohort.advance(step)
    assert len(looked) == 1


def test_a_resumed_run_finds_the_batch_of_its_step():
    brought = task(loader(shuffle=False))
    cohort = Cohort(brought, [Run("a", 0.01)], 9).advance(2)
    saved = {"a": cohort.checkpoint("a")}
    message = refused(lambda: Cohort(brought, [Run("a", 0.01)], 9, resume=saved).advance())
    assert f"batch {BAD // BATCH} of epoch 0 (seed 0)" in message


def test_looking_changes_nothing():
    model, source = zoo.model("Counting"), loader()
    with zoo.untouched(model, source):
        refused(lambda: VERBS["train"](task(source, model=model)))


def test_an_evaluator_says_it_in_every_segment():
    evaluate = Evaluator(task(loader(shuffle=False)))
    evaluate([Run("a", 0.01)], 40, stage="short", until=2)
    assert f"Sample {BAD} " in refused(
        lambda: evaluate([Run("a", 0.01)], 40, stage="short", until=9)
    )
