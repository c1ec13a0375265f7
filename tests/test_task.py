"""Task: wrong input of any kind is refused before training, right input of any kind is accepted."""

import copy
import functools

import pytest
import torch
import zoo
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.utils.data import DataLoader, TensorDataset

from lrtune import Run, Task, train
from lrtune.errors import LrtuneError, TaskError
from lrtune.task.random_state import preserve_random_state

X, Y = zoo.vectors()


def task(**changes):
    given = {"model": zoo.model("linear"), "train": (X, Y), "batch_size": 8} | changes
    return Task(given.pop("model"), given.pop("train"), **given)


# --- what is refused ------------------------------------------------------------------------------


class Stuck(nn.Linear):
    """A model that cannot be copied."""

    def __deepcopy__(self, memo):
        raise RuntimeError("I hold a lock")


MINE = zoo.model("linear")
FOREIGN = SGD(MINE.parameters(), lr=0.1)
# name: (what is given, the value, the expectation, the way out)
REFUSED = {
    "model: none": ({"model": None}, "model is a NoneType", "an nn.Module, or a function", ""),
    "model: list": ({"model": [MINE]}, "model is a list", "an nn.Module", "function without"),
    "model: class with arguments": (
        {"model": nn.Linear}, "model=Linear", "without arguments", "lambda: Linear(...)",
    ),
    "model: function with arguments": (
        {"model": lambda width: nn.Linear(3, width)},
        "<lambda>", "missing a required argument: 'width'", "function without arguments",
    ),
    "model: factory of none": (
        {"model": lambda: None}, "returned None", "expected an nn.Module", "Return the model",
    ),
    "model: factory of one": (
        {"model": lambda: MINE}, "the same parameters twice", "a new model at each call", "copied",
    ),
    "model: no parameters": (
        {"model": nn.ReLU()}, "none of the 0 parameters of the ReLU", "at least one", "Unfreeze",
    ),
    "model: all frozen": (
        {"model": zoo.model("linear").requires_grad_(requires_grad=False)},
        "none of the 2 parameters", "requires a gradient", "requires_grad_(True)",
    ),
    "model: factory of frozen": (
        {"model": lambda: zoo.model("linear").requires_grad_(requires_grad=False)},
        "none of the 2 parameters", "requires a gradient", "requires_grad_(True)",
    ),
    "model: cannot be copied": (
        {"model": Stuck(3, 3)}, "I hold a lock", "cannot be copied", "Task(lambda: Stuck(...)",
    ),
    "model: does not fit": (
        {"model": nn.Linear(4, 3)}, "float32[8, 3]", "the model fails on the first batch", "4x3",
    ),
    "model: two outputs": (
        {"model": nn.LSTM(3, 3)}, "the loss fails on the first batch", "float32[8, 3]", "tuple",
    ),
    "data: none": ({"train": None, "batch_size": None}, "NoneType", "a DataLoader, a Dataset", ""),
    "data: empty": ({"train": [], "batch_size": None}, "no batch in epoch 0", "", "drop_last"),
    "data: labels above": (
        {"train": (X, Y + 1)}, "found 3 ... 3 in", "must lie in 0 ... 2", "renumber the labels",
    ),
    "data: labels below": (
        {"train": (X, Y - 1)}, "found -1 ... -1", "must lie in 0 ... 2", "as many outputs",
    ),
    "data: one bad label of many": (
        {"train": (X.repeat(99, 1), torch.cat([Y.repeat(98), Y + 9]))},
        "labels of the training data", "0 ... 2", "as many outputs as there are classes",
    ),
    "data: labels of a loader": (
        {"train": DataLoader(TensorDataset(X, Y + 7), 8), "batch_size": None},
        "8 labels of the first batch", "0 ... 2", "renumber",
    ),
    "data: labels are floats": (
        {"train": (X, Y.float())}, "float32[8])", "the loss fails on the first batch", "Float",
    ),
    "data: inputs are doubles": (
        {"train": (X.double(), Y)}, "float64[8, 3]", "the model fails on the first batch", "dtype",
    ),
    "data: inputs alone": (
        {"train": (X,)}, "a batch is (float32[8, 3])", "(*inputs, target)", "objective=",
    ),
    "data: a tensor": (
        {"train": X, "batch_size": None}, "a batch is float32[3]", "(*inputs, target)", "objective",
    ),
    "data: dicts": (
        {"train": zoo.DATA["dicts"](), "batch_size": None},
        "{inputs: float32[8, 3], labels: int64[8]}", "a tuple (*inputs, target)", "objective=",
    ),
    "data: nan": (
        {"train": (X * torch.nan, Y)},
        "is nan", "expected a finite number", "hold NaN in the inputs",
    ),
    "data: infinite": (
        {"train": (X + torch.inf, Y)},
        "is nan", "expected a finite number", "hold inf in the inputs",
    ),
    "data: size 0": ({"batch_size": 0}, "got 0", "a whole number >= 1", "batch_size must be"),
    "loss: class": (
        {"loss": nn.MSELoss}, "loss=MSELoss", "expected an instance", "Write MSELoss()",
    ),
    "loss: text": (
        {"loss": "mse"}, "loss='mse'", "a function of (output, target)", "nn.CrossEntropyLoss()",
    ),
    "loss: one number per example": (
        {"loss": nn.CrossEntropyLoss(reduction="none")}, "shape (8,)", "one number", "mean",
    ),
    "loss: a float": (
        {"loss": lambda out, y: float(out.detach().sum())}, "a float", "a tensor", ".item()",
    ),
    "loss: detached": (
        {"loss": lambda out, y: out.detach().sum()}, "does not depend", "parameter", ".detach()",
    ),
    "loss: without gradients": (
        {"loss": torch.no_grad()(nn.functional.cross_entropy)}, "does not depend", "", "no_grad()",
    ),
    "loss: does not fit": (
        {"loss": lambda out: out.sum()}, "the loss fails on the first batch", "1 positional", "",
    ),
    "loss: and objective": (
        {"loss": nn.MSELoss(), "objective": zoo.by_name}, "loss and objective", "", "Pass one",
    ),
    "objective: text": (
        {"objective": "x"}, "objective='x'", "function of (model, batch)", "lambda model, batch",
    ),
    "objective: class": (
        {"objective": nn.MSELoss}, "MSELoss", "function of (model, batch)", "lambda model, batch",
    ),
    "objective: raises": (
        {"objective": zoo.by_name}, "the objective fails on the first batch", "float32[8, 3]", "",
    ),
    "optimizer: finished": (
        {"optimizer": FOREIGN}, "a finished SGD", "makes one for each run", "torch.optim.SGD",
    ),
    "optimizer: text": (
        {"optimizer": "adam"}, "optimizer='adam'", "a class such as", "torch.optim.AdamW",
    ),
    "optimizer: deaf to lr": (
        {"optimizer": lambda model, lr: SGD(model.parameters(), lr=0.1)},
        "rates are [0.1] whatever lr is", "follow", "Hand lr on",
    ),
    "optimizer: foreign parameters": (
        {"optimizer": lambda model, lr: SGD(MINE.parameters(), lr=lr)},
        "parameters that are not in the model", "Use the function's argument", "model.parameters()",
    ),
    "optimizer: none": (
        {"optimizer": lambda model, lr: None}, "returned None", "torch.optim.Optimizer", "Return",
    ),
    "optimizer: needs a closure": (
        {"optimizer": torch.optim.LBFGS}, "LBFGS needs a closure", "no rate to find", "Use SGD",
    ),
    "optimizer: wrong arguments": (
        {"optimizer": lambda model: SGD(model.parameters(), lr=0.1)},
        "making the model and its optimizer fails", "takes 1 positional argument", "",
    ),
    "optimizer: wrong option": (
        {"optimizer": functools.partial(SGD, nesterov=True)}, "Nesterov", "optimizer fails", "",
    ),
    "device: unknown": (
        {"device": "gpu"}, "device='gpu'", "no torch device", "Use auto, cpu, cuda, cuda:1 or mps",
    ),
    "device: none": ({"device": None}, "device=None", "no torch device", "Use auto"),
    "device: not there": ({"device": "mps"}, "device='mps'", "finds no mps device", "Use device="),
    "device: meta": ({"device": "meta"}, "device='meta'", "no numbers", "Use auto"),
    "val: empty": ({"val": []}, "the validation data gave no batch", "Pass data", "leave val out"),
    "val: iterator": ({"val": iter([])}, "val is a list_iterator", "only once", "Pass list(...)"),
    "val: does not fit": (
        {"val": (X[:, :2], Y)}, "float32[2, 2]", "validation fails on the first batch", "3x3",
    ),
    "val: labels": (
        {"val": (X, Y + 7)}, "Target", "out of bounds", "validation fails on the first batch",
    ),
    "val: rows differ": ({"val": (X, Y[:3])}, "(24, 3), (3,)", "same number", "(inputs, targets)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_in_a_sentence(name):
    changes, *told = REFUSED[name]
    with pytest.raises(TaskError) as caught:
        task(**changes)
    message = str(caught.value)
    for part in told:
        assert part in message
    assert isinstance(caught.value, (LrtuneError, ValueError))
    assert len(message) > 40


def test_the_cause_of_an_error_of_the_users_is_kept():
    with pytest.raises(TaskError) as caught:
        task(model=nn.Linear(4, 3))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_error_within_a_factory_is_the_users_own():
    def factory():
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        task(model=factory)


# --- what is accepted -----------------------------------------------------------------------------


def outcome(brought, rate=0.05):
    return train(brought, [Run("a", rate)], 4).runs["outcome"].item()


@pytest.mark.parametrize("name", zoo.MODELS)
def test_models_of_every_kind_are_accepted(name):
    data = zoo.tensors(name)
    assert outcome(task(model=zoo.model(name), train=data, val=data)) == "FINISHED"
    assert outcome(task(model=zoo.MODELS[name], train=data, val=data)) == "FINISHED"


@pytest.mark.parametrize("name", [*zoo.DATA, *zoo.ORDERED])
def test_data_of_every_kind_are_accepted(name):
    source = (zoo.DATA | zoo.ORDERED)[name]()
    brought = Task(zoo.model("linear"), source, val=source, **zoo.options(name))
    trace = train(brought, [Run("a", 0.05)], 4)
    assert trace.validations["part"].tolist() == ["selection", "test"]
    assert trace.validations["loss"].max() < 2


class Named:
    """A callable that is no function and makes a model."""

    def __call__(self):
        return nn.Linear(3, 3)


@pytest.mark.parametrize(
    "factory",
    [lambda: nn.Linear(3, 3), functools.partial(nn.Linear, 3, 3), Named(), zoo.Tied,
     lambda *layers: nn.Sequential(nn.Linear(3, 3), *layers), lambda width=3: nn.Linear(3, width)],
)  # fmt: skip
def test_anything_that_makes_a_model_is_a_factory(factory):
    assert outcome(task(model=factory)) == "FINISHED"


def groups(model, lr):
    return AdamW([{"params": [model.weight], "lr": lr / 10}, {"params": [model.bias]}], lr=lr)


def on_the_device(model, lr):
    return Adam(model.parameters(), lr=torch.tensor(lr))


OPTIMIZERS = {
    "none": (None, "SGD"),
    "class": (AdamW, "AdamW"),
    "partial": (functools.partial(SGD, momentum=0.5), "SGD"),
    "partial with a rate": (functools.partial(SGD, lr=123.0), "SGD"),
    "groups": (groups, "AdamW"),
    "partial of a function": (functools.partial(groups), "AdamW"),
    "rate on the device": (on_the_device, "Adam"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_of_every_kind_are_accepted(name):
    make, kind = OPTIMIZERS[name]
    brought = task(optimizer=make)
    assert brought.describe()["optimizer"] == kind
    assert outcome(brought) == "FINISHED"


def test_an_optimizer_gets_only_what_is_to_be_trained():
    with preserve_random_state():
        state = task(model=zoo.model("frozen"), optimizer=AdamW).init_state(seed=0, lr=0.1)
    held = [p for group in state.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in state.model.parameters() if p.requires_grad}


def test_labels_that_the_loss_ignores_may_be_anywhere():
    ignored = torch.where(Y == 2, -100, Y)
    assert outcome(task(train=(X, ignored))) == "FINISHED"
    assert outcome(task(train=(X, Y), loss=nn.functional.cross_entropy)) == "FINISHED"
    other = torch.where(Y == 2, 255, Y)
    assert outcome(task(train=(X, other), loss=nn.CrossEntropyLoss(ignore_index=255))) == "FINISHED"
    with pytest.raises(TaskError, match=r"found 255 \.\.\. 255"):
        task(train=(X, other), loss=nn.functional.cross_entropy)


def test_labels_may_be_probabilities_or_pictures():
    assert outcome(task(train=(X, nn.functional.one_hot(Y, 3).float()))) == "FINISHED"
    pictures = torch.randn(8, 1, 4, 4), torch.randint(0, 3, (8, 4, 4))
    assert outcome(task(model=zoo.born(lambda: nn.Conv2d(1, 3, 1)), train=pictures)) == "FINISHED"


def test_several_inputs_are_handed_to_the_model():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, one, other):
            return self.layer(one + other)

    assert outcome(task(model=zoo.born(Sum), train=(X, X, Y))) == "FINISHED"


def test_arrays_are_taken_for_tensors():
    brought = task(train=(X.numpy(), Y.numpy()))
    assert brought.describe()["batch"] == "(float32[8, 3], int64[8])"


def test_validation_data_may_come_in_batches_of_their_own():
    """`batch_size` is for the data that have none; it does not forbid a loader beside them."""
    brought = task(val=DataLoader(TensorDataset(X, Y), 5))
    assert train(brought, [Run("a", 0.05)], 2).validations["loss"].min() > 0


# --- what it does ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 7, 8, 24, 100])
def test_validation_is_the_mean_over_all_examples_in_eval_mode(cut):
    """The last, short batch counts by its size; BatchNorm uses what it has learned."""
    images, labels = zoo.images()
    model = zoo.model("convolution")
    brought = task(model=model, train=(images, labels), val=(images, labels), batch_size=cut)
    with preserve_random_state():
        state = brought.init_state(seed=0, lr=0.1)
        before = zoo.photograph(state.model)
        parts = brought.validate({"": state})[""]
        assert zoo.photograph(state.model) == before
    measured = sum(part.loss * part.samples for part in parts) / len(images)
    mine = copy.deepcopy(model).eval()
    with torch.no_grad():
        assert measured == pytest.approx(float(nn.functional.cross_entropy(mine(images), labels)))


def test_validating_without_validation_data_is_refused():
    assert not task().has_validation
    assert train(task(), [Run("a", 0.1)], 2).validations.empty
    with preserve_random_state(), pytest.raises(TaskError, match=r"no validation data\. Pass val"):
        task().validate({"": task().init_state(seed=0, lr=0.1)})


def modes(model):
    brought = task(model=model)
    with preserve_random_state():
        return [part.training for part in brought.init_state(seed=0, lr=0.1).model.modules()]


def test_a_model_in_eval_mode_is_trained_in_train_mode():
    assert all(modes(zoo.model("dropout").eval()))


def test_a_model_in_train_mode_keeps_the_modes_of_its_parts():
    model = zoo.model("frozen")
    assert modes(model) == [part.training for part in model.modules()]
    assert not all(modes(model))


def test_a_frozen_batch_norm_stays_frozen():
    with preserve_random_state():
        brought = task(model=zoo.model("frozen"))
        state = brought.init_state(seed=0, lr=0.1)
        for batch, _ in zip(brought.batches(0), range(5), strict=False):
            brought.loss(state, brought.to_device(batch)).backward()
            state.optimizer.step()
    fresh = zoo.model("frozen")
    assert torch.equal(state.model[1].running_mean, fresh[1].running_mean)
    assert torch.equal(state.model[0].weight, fresh[0].weight)
    assert not torch.equal(state.model[3].weight, fresh[3].weight)


def test_every_run_of_a_seed_begins_alike_and_shares_nothing():
    for model in (zoo.model("Tied"), zoo.Tied, zoo.model("lazy"), zoo.MODELS["lazy"]):
        brought = task(model=model)
        with preserve_random_state():
            one, other = (brought.init_state(seed=4, lr=0.1).model for _ in range(2))
        for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(ours, theirs)
            assert ours.data_ptr() != theirs.data_ptr()


def test_a_factory_makes_other_weights_for_every_seed_and_a_model_keeps_its_own():
    with preserve_random_state():
        own, made = task(), task(model=zoo.MODELS["linear"])
        mine = [own.init_state(seed, 0.1).model.weight for seed in (0, 1)]
        new = [made.init_state(seed, 0.1).model.weight for seed in (0, 1)]
    assert torch.equal(*mine)
    assert torch.equal(mine[0], zoo.model("linear").weight)
    assert not torch.equal(*new)


@pytest.mark.parametrize("name", ["linear", "frozen", "evaluated", "lazy", "dropout"])
@pytest.mark.parametrize("make", [zoo.model, zoo.MODELS.get], ids=["model", "factory"])
def test_a_new_model_has_the_weights_of_seed_0_and_takes_those_of_a_run(name, make):
    given = make(name)
    brought = task(model=given, train=zoo.tensors(name))
    with zoo.untouched(given):
        new, other = brought.new_model(), brought.new_model()
    assert [part.training for part in new.modules()] == [
        part.training for part in zoo.model(name).modules()
    ]
    assert not {id(part) for part in new.modules()} & {id(part) for part in other.modules()}
    with preserve_random_state():
        state = brought.init_state(seed=0, lr=0.1)
        batch = next(brought.batches(0))
        if name != "lazy":  # no shapes yet
            for ours, theirs in zip(new.parameters(), state.model.parameters(), strict=True):
                assert torch.equal(ours, theirs.cpu())
        brought.loss(state, batch).backward()
        state.optimizer.step()
    new.load_state_dict(state.model.state_dict())
    for ours, theirs in zip(new.parameters(), state.model.parameters(), strict=True):
        assert torch.equal(ours, theirs.cpu())


def test_the_examples_of_a_batch_are_counted_in_the_first_one():
    assert task(batch_size=7).batch_examples == 7
    dicts = Task(zoo.model("linear"), zoo.DATA["dicts"](), objective=zoo.by_name)
    assert dicts.batch_examples == zoo.BATCH


def test_tied_weights_stay_tied():
    with preserve_random_state():
        model = task(model=zoo.model("Tied")).init_state(0, 0.1).model
    assert model.there.weight is model.back.weight


def test_a_batch_stays_as_it_is_though_the_model_overwrites_it():
    brought = task(model=zoo.model("InPlace"))
    with preserve_random_state():
        batch = next(brought.batches(0))
        before = batch[0].clone()
        state = brought.init_state(0, 0.1)
        assert brought.loss(state, batch) == brought.loss(state, batch)
    assert torch.equal(batch[0], before)


def test_a_copied_state_trains_like_the_original_and_shares_nothing():
    brought = task(optimizer=AdamW)
    with preserve_random_state():
        state = brought.init_state(0, 0.1)
        batch = next(brought.batches(0))

        def step(state):
            state.optimizer.zero_grad()
            brought.loss(state, batch).backward()
            state.optimizer.step()

        step(state)
        twin, faster = brought.copy_state(state, 0.1), brought.copy_state(state, 0.7)
        before = zoo.photograph(faster.model)
        step(state), step(twin)
    assert torch.equal(state.model.weight, twin.model.weight)
    assert state.model.weight is not twin.model.weight
    assert zoo.photograph(faster.model) == before
    assert faster.optimizer.param_groups[0]["lr"] == 0.7
    assert len(faster.optimizer.state) == 2


def test_a_task_describes_its_parts():
    brought = task(optimizer=AdamW, loss=nn.functional.cross_entropy, device="cpu")
    assert repr(brought) == (
        "Task(Linear with 12 parameters, AdamW, cross_entropy, (float32[8, 3], int64[8]), cpu)"
    )
    assert brought.describe()["model"] == "Linear with 12 parameters"
    brought.describe()["model"] = "changed"
    assert brought.describe()["model"] == "Linear with 12 parameters"


def test_a_task_can_move_to_another_device():
    brought = task(device="auto")
    assert brought.on("cpu").describe()["device"] == "cpu"
    with pytest.raises(TaskError, match="finds no mps device"):
        brought.on("mps")
    assert outcome(brought.on("cpu")) == "FINISHED"
