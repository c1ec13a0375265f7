"""A batch that raises is named, with the sample; other errors pass through or are explained."""

import itertools

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrtune
from lrtune import Run, Task
from lrtune.errors import DataError, TaskError

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(200, 3, generator=DRAW)
Y = (X.sum(1) > 0).long()
BAD = 190


def with_label(label):
    labels = Y.clone()
    labels[BAD] = label
    return labels


def linear():
    return nn.Linear(3, 2)


TOKENS = torch.randint(0, 50, (200, 6), generator=DRAW)
TOKENS[BAD, 2] = 50


def words():
    return nn.Sequential(nn.Embedding(50, 4), nn.Flatten(), nn.Linear(24, 2))


def dicts(rows):
    return [{"x": x, "y": y} for x, y in zip(X.split(rows), with_label(7).split(rows), strict=True)]


def of_dict(model, batch):
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"])


def loader(*tensors, **more):
    return DataLoader(TensorDataset(*tensors), 20, **more)


TRAINED = {
    "a label in a loader": (lambda: Task(linear, loader(X, with_label(2))), r"targets 2\."),
    "a shuffled one": (
        lambda: Task(linear, loader(X, with_label(2), shuffle=True)), r"targets 2\."),
    "a negative one": (lambda: Task(linear, loader(X, with_label(-3))), r"targets -3\."),
    "a token": (lambda: Task(words, loader(TOKENS, Y)), r"inputs [\d, ]*50"),
    "a token of tensors": (lambda: Task(words, (TOKENS, Y), batch_size=20), r"inputs [\d, ]*50"),
}  # fmt: skip
VERBS = {
    "train": lambda one: lrtune.train(one, [Run("a", 0.1), Run("b", 0.01)], 20),
    "search": lambda one: lrtune.search(one, steps=80),
    "range_test": lambda one: lrtune.range_test(one, steps=40),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
@pytest.mark.parametrize(("make", "value"), TRAINED.values(), ids=TRAINED)
def test_a_number_out_of_range_is_named_with_batch_and_sample(make, value, verb):
    with pytest.raises(DataError, match=rf"^batch \d+ of epoch 0 .* Sample {BAD} \(row .*{value}"):
        verb(make())


@pytest.mark.parametrize("val", [(X, with_label(2)), loader(X, with_label(2))])
def test_so_is_one_in_validation_data(val):
    task = Task(linear, (X, Y), val=val)
    with pytest.raises(DataError, match=rf"^validation batch .* Sample {BAD} .* with targets 2\."):
        lrtune.train(task, [Run("a", 0.1)], 5)


def test_a_batch_of_any_form_is_named_by_its_row():
    task = Task(linear, dicts(20), objective=of_dict)
    with pytest.raises(DataError, match=r"^batch 9 .* Row 10 of the batch is .* with 'y' 7\."):
        lrtune.train(task, [Run("a", 0.1)], 20)


def test_an_error_of_the_users_own_that_a_batch_causes_is_told_with_its_row():
    def strict(outputs, labels):
        if (labels == 1).sum() and (outputs.shape[0] == 20) and labels[0] == 1:
            raise ValueError("this batch is odd")
        return nn.functional.cross_entropy(outputs, labels)

    labels = torch.zeros(200, dtype=torch.long)
    labels[60] = 1
    task = Task(linear, loader(X, labels), loss=strict)
    with pytest.raises(DataError, match=r"^batch 3 .*ValueError: this batch is odd\. Mend"):
        lrtune.train(task, [Run("a", 0.1)], 20)


@pytest.mark.parametrize("goes_on", [True, False])
def test_an_error_that_no_batch_causes_passes_through_with_its_place(goes_on):
    calls = itertools.count()

    def moody(outputs, labels):
        call = next(calls)
        if call > 30 if goes_on else call == 30:
            raise ZeroDivisionError("enough")
        return nn.functional.cross_entropy(outputs, labels)

    task = Task(linear, loader(X, Y), loss=moody)
    with pytest.raises(ZeroDivisionError, match="enough") as raised:
        lrtune.train(task, [Run("a", 0.1)], 60)
    assert any("at step" in note for note in raised.value.__notes__)


# --- graphs that are kept, and probabilities that are none ----------------------------------------


@pytest.mark.parametrize("form", ["tensors", "list", "loader"])
def test_data_with_a_graph_are_refused(form):
    computed = nn.Linear(3, 3)(X)
    data = {
        "tensors": lambda: (computed, Y),
        "list": lambda: [(computed[:20], Y[:20])] * 3,
        "loader": lambda: [*loader(computed, Y)],
    }[form]()
    with pytest.raises(TaskError, match=r"1 of 2 tensors of a batch.* require gradients, .*detach"):
        Task(linear, data)


def test_inputs_that_are_differentiated_are_no_such_thing():
    def physics(model, batch):
        points = batch[0].detach().requires_grad_()
        (slope,) = torch.autograd.grad(model(points).sum(), points, create_graph=True)
        return (slope - 1).square().mean() + model(points).square().mean()

    points = [(x,) for x in X.split(20)]
    trace = lrtune.train(Task(linear, points, objective=physics), [Run("a", 0.01)], 8)
    assert trace.runs["outcome"].tolist() == ["FINISHED"]


def test_a_list_that_a_hook_fills_is_told():
    kept, model = [], nn.Sequential(linear(), nn.ReLU(), nn.Linear(2, 2))
    model[0].register_forward_hook(lambda _m, _i, outputs: kept.append(outputs.square().mean()))

    def penalised(outputs, labels):
        return nn.functional.cross_entropy(outputs, labels) + 0.01 * sum(kept)

    with pytest.raises(lrtune.LrtuneError, match=r"an earlier update computed.*tensor\.detach\(\)"):
        lrtune.train(Task(model, (X, Y), loss=penalised), [Run("a", 0.01)], 8)


def test_probabilities_that_leave_their_range_are_told():
    class Forgetful(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)
            nn.init.uniform_(self.layer.weight, -0.01, 0.01)
            nn.init.constant_(self.layer.bias, 0.5)

        def forward(self, x):
            return self.layer(x)

    task = Task(Forgetful, (X, Y.float()[:, None]), loss=nn.BCELoss())
    with pytest.raises(TaskError, match=r"Put a sigmoid at the end.*between 0 and 1"):
        lrtune.search(task, steps=60)


def test_a_loss_that_moves_while_nothing_is_trained_is_the_reason():
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 4, generator=draw)
    mix = torch.randn(4, 3, generator=torch.Generator().manual_seed(77))
    labels = (inputs @ mix + 0.5 * torch.randn(200, 3, generator=draw)).argmax(1)
    batches = list(zip(inputs.split(20), labels.split(20), strict=True))
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))  # its statistics move

    def distil(model, batch):
        with torch.no_grad():
            wanted = teacher(batch[0])
        return nn.functional.cross_entropy(model(batch[0]), wanted.softmax(1))

    torch.manual_seed(0)
    task = Task(nn.Linear(4, 3), batches, objective=distil, val=batches)
    with pytest.raises(lrtune.errors.SearchError, match=r"changes by itself, from .*teacher\.eval"):
        lrtune.search(task, steps=60)
