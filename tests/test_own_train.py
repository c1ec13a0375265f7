"""Models with a `train()` of their own, and losses that call it during validation."""

import pytest
import torch
import zoo
from torch import nn
from torch.nn import functional

import lrtune
from lrtune import Run, Task
from lrtune.training.engine_choice import ENGINES

X, Y = zoo.vectors()
BATCHES = list(zip(X.split(8), Y.split(8), strict=True))


class Frozen(nn.Module):
    """The usual way to keep BatchNorm frozen."""

    def __init__(self):
        super().__init__()
        self.one, self.norm, self.two = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.norm.running_mean += 0.5

    def train(self, mode=True):  # noqa: FBT002 - as torch has it
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, inputs):
        return self.two(self.norm(self.one(inputs)).relu())


class Swapping(nn.Linear):
    """Other weights in eval mode, as an average of them."""

    def train(self, mode=True):  # noqa: FBT002 - as torch has it
        if mode != self.training:
            self.weight.data.mul_(2.0 if mode else 0.5)
        return super().train(mode)


def inside(kind):
    return lambda: zoo.born(lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.2), kind()))


MODELS = {
    "frozen": lambda: zoo.born(Frozen),
    "swapping": lambda: zoo.born(lambda: Swapping(3, 3)),
    "frozen inside": inside(Frozen),
    "swapping inside": inside(lambda: Swapping(3, 3)),
    "ordinary": inside(lambda: nn.Linear(3, 3)),
}


def owners(model, steps, every):
    """The losses of the loop that everybody writes; it validates now and then."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), []
    model.train()
    for step in range(steps):
        if step % every == 0:
            model.eval()
            model(X)
            model.train()
        inputs, labels = BATCHES[step % len(BATCHES)]
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["frozen", "swapping"])
def test_a_train_of_the_models_own_is_called_as_a_loop_does(name):
    for model in (MODELS[name], MODELS[name]()):
        task = Task(model, BATCHES, val=(X, Y), device="cpu")
        cohort = lrtune.Cohort(task, [Run("a", 0.1)], 9)
        for step in range(0, 9, 3):
            cohort.validate().advance(step + 3)
        assert cohort.trace.frame["loss"].tolist() == owners(MODELS[name](), 9, 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_frozen_statistics_stay_frozen_within_a_model(engine):
    task = Task(MODELS["frozen inside"], BATCHES, val=(X, Y), device="cpu")
    evaluate = lrtune.Evaluator(task, engine=engine)
    trace = evaluate([Run("a", 0.1), Run("b", 0.2)], 9, stage="s", until=6, checkpoint=True)
    saved = evaluate.checkpoint(trace.runs["checkpoint"].iloc[1])["model"]
    assert torch.equal(saved["2.norm.running_mean"], torch.full((8,), 0.5))
    assert saved["2.norm.num_batches_tracked"] == 0


@pytest.mark.parametrize("name", MODELS)
def test_validation_changes_no_training(name):
    task = Task(MODELS[name], BATCHES, val=(X, Y), device="cpu")
    one, other = (lrtune.Cohort(task, [Run("a", 0.1)], 9) for _ in "ab")
    for step in range(9):
        one.validate().advance(step + 1)
    other.advance()
    assert one.trace.frame.equals(other.trace.frame)


def test_parts_that_were_put_into_eval_mode_stay_there():
    model = nn.Sequential(Frozen(), nn.Linear(3, 3), nn.BatchNorm1d(3))
    model[2].eval()
    task = Task(model, BATCHES, val=(X, Y), device="cpu")
    state = task.init_state(0, 0.1)
    modes = [part.training for part in state.model.modules()]
    assert modes == [True, True, True, False, True, True, False]
    task.validate({"a": state})
    assert [part.training for part in state.model.modules()] == modes


# --- losses that call it --------------------------------------------------------------------------


def trains(model, batch):
    model.train()
    return functional.cross_entropy(model(batch[0]), batch[1])


def trains_and_back(model, batch):
    """Nothing is left to see afterwards, but the forward pass was one of train mode."""
    before = model.training
    loss = trains(model, batch)
    model.train(before)
    return loss


class TrainsItself(nn.Sequential):
    def forward(self, inputs):
        self[1].train()
        return super().forward(inputs)


def normed(kind=nn.Sequential):
    return kind(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


WRONG = {
    "an objective": {"model": normed, "objective": trains},
    "and back": {"model": normed, "objective": trains_and_back},
    "a forward": {"model": lambda: normed(TrainsItself)},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_loss_that_trains_in_validation_is_told(name):
    inputs = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    data, objective = (inputs, inputs.argmax(1)), WRONG[name].get("objective")
    task = Task(WRONG[name]["model"], data, val=data, device="cpu", objective=objective)
    (found,) = (one for one in lrtune.check(task).findings if one.name == "trains-in-validation")
    assert found.severity == "warning"
    with pytest.warns(lrtune.errors.AnswerWarning, match="train mode"):
        result = lrtune.search(task, steps=40, budget=2)
    assert any("statistics of BatchNorm" in one for one in result.warnings)


@pytest.mark.parametrize("name", MODELS)
def test_others_are_not(name):
    class Always(nn.Dropout):
        """Drops in eval mode, too, on purpose."""

        def forward(self, inputs):
            return functional.dropout(inputs, 0.1, training=True)

    task = Task(lambda: nn.Sequential(MODELS[name](), Always()), (X, Y), val=(X, Y), device="cpu")
    assert task.trained_in_eval == []
