"""The model that a search hands out is the one whose loss it states."""

import itertools
import warnings

import pytest
import torch
from torch import nn

import lrtune
from lrtune import Evaluator, Run, Task
from lrtune.errors import AnswerWarning, CheckpointError

STEPS = 12


def data(seed, rows=200):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, generator=draw)
    return x, (x.sum(1) > 0).long() + (x[:, 0] > 1).long()


TRAIN, VAL = data(0), data(1)


class Features(nn.Module):
    """Random features that are a plain attribute."""

    def __init__(self):
        super().__init__()
        self.mix, self.out = torch.randn(4, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.out(torch.sin(x @ self.mix))


class Buffered(Features):
    """Random features that no state_dict holds, though they are a buffer."""

    def __init__(self):
        super().__init__()
        mix = self.mix
        del self.mix
        self.register_buffer("mix", mix, persistent=False)


class Listed(nn.Module):
    """A layer in a list, which torch does not know of."""

    def __init__(self):
        super().__init__()
        self.layers, self.out = [nn.Linear(4, 16)], nn.Linear(16, 3)

    def forward(self, x):
        return self.out(self.layers[0](x).relu())


class Counting(nn.Module):
    """Counts its batches, in the style of Python, of a tensor, and of a dict."""

    def __init__(self, kind):
        super().__init__()
        self.out, self.kind = nn.Linear(4, 3), kind
        self.count = {"number": 0, "tensor": torch.zeros(()), "dict": {"n": 0}}[kind]

    def forward(self, x):
        if self.training:
            if self.kind == "dict":
                self.count["n"] += 1
            else:
                self.count += 1
        count = self.count["n"] if self.kind == "dict" else self.count
        return self.out(x) * (float(count) / STEPS)


class ActNorm(nn.Module):
    """Takes its scale from the first batch, and remembers that by a flag."""

    def __init__(self):
        super().__init__()
        self.shift, self.ready = nn.Parameter(torch.zeros(4)), False

    def forward(self, x):
        if not self.ready:
            self.shift.data, self.ready = 5 - x.mean(0).detach(), True
        return x + self.shift


class Averages(nn.Module):
    """Keeps the mean of its last inputs in an attribute, as a memory bank does."""

    def __init__(self):
        super().__init__()
        self.out, self.bank = nn.Linear(4, 3), [torch.zeros(4)]

    def forward(self, x):
        if self.training:
            self.bank = [self.bank[0] * 0.5 + x.mean(0).detach()]
        return self.out(x + self.bank[0])


MODELS = {
    "a plain attribute": Features,
    "a buffer that is not persistent": Buffered,
    "a list of layers": Listed,
    "a number that counts": lambda: Counting("number"),
    "a tensor that counts": lambda: Counting("tensor"),
    "a count in a dict": lambda: Counting("dict"),
    "a flag": lambda: nn.Sequential(nn.Linear(4, 4), ActNorm(), nn.ReLU(), nn.Linear(4, 3)),
    "a memory bank": Averages,
}


def ended(task, seed=1):
    """The checkpoint of a training, and its loss on the validation data."""
    evaluate = Evaluator(task)
    trace = evaluate([Run("a", 0.1, seed=seed)], STEPS, stage="s", validate=None, checkpoint=True)
    rows = trace.validations
    loss = (rows["loss"] * rows["samples"]).sum() / rows["samples"].sum()
    return evaluate.checkpoint(trace.runs["checkpoint"].item()), loss


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_the_model_has_the_loss_of_its_training_whatever_state_it_has(make):
    task = Task(make, TRAIN, val=VAL, device="cpu")
    saved, loss = ended(task)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = task.trained_model(saved)
    assert nn.functional.cross_entropy(model(VAL[0]), VAL[1]).item() == pytest.approx(
        loss, rel=1e-5
    )
    assert not model.training
    with pytest.warns(AnswerWarning, match=r"weights alone are not the trained .* found\.model"):
        task.warn_of_missing_state(saved)


class Plain(nn.Module):
    """All of it is in a state_dict, though it has a buffer that is not, and keeps its output."""

    def __init__(self):
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.register_buffer("place", torch.arange(4.0), persistent=False)

    def forward(self, x):
        self.seen = self.norm(x + self.place)
        return self.out(self.seen)


@pytest.mark.parametrize("make", [Plain, lambda: nn.Linear(4, 3)])
def test_of_a_model_that_is_all_in_its_state_dict_nothing_is_said(make):
    for model in (make, make()):
        task = Task(model, TRAIN, val=VAL, device="cpu")
        saved, loss = ended(task)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            task.warn_of_missing_state(saved)
            made = task.trained_model(saved)
        assert nn.functional.cross_entropy(made(VAL[0]), VAL[1]).item() == pytest.approx(
            loss, rel=1e-5
        )


def test_what_no_checkpoint_can_hold_is_told_when_the_model_is_handed_out():
    class Shifting(nn.Module):
        def __init__(self):
            super().__init__()
            self.out, self.shift = nn.Linear(4, 3), object()
            self.of = {}

        def forward(self, x):
            self.of[self.shift] = self.of.get(self.shift, 0) + self.training  # keyed by an object
            return self.out(x) + torch.tensor([0.0, self.of[self.shift] / 4, 0.0])

    task = Task(Shifting, TRAIN, val=VAL, device="cpu")
    saved, _ = ended(task)
    with pytest.warns(AnswerWarning, match=r"is not the model that was trained: its loss on the"):
        task.trained_model(saved)


def test_a_function_that_makes_another_model_each_time_is_told():
    count = itertools.count()

    def make():
        model = Features()
        model.mix = model.mix + next(count)
        return model

    task = Task(make, TRAIN, val=VAL, device="cpu")
    saved, _ = ended(task)
    with pytest.warns(AnswerWarning, match=r"trained one was .*\(mix\)"):
        task.trained_model(saved)


def test_a_checkpoint_of_another_task_is_refused():
    saved, _ = ended(Task(lambda: nn.Linear(4, 3), TRAIN, val=VAL, device="cpu"))
    for model in (lambda: nn.Linear(4, 5), lambda: nn.Sequential(nn.Linear(4, 3))):
        with pytest.raises(CheckpointError, match="does not fit the task"):
            Task(model, TRAIN, val=VAL, device="cpu").trained_model(saved)


# --- which training is the best -------------------------------------------------------------------


def searched(task, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lrtune.search(task, steps=40, **more)


def is_stated(found, task_data):
    """Whether the model has the loss that the result states, and selected by."""
    model = found.model()
    loss = nn.functional.cross_entropy(model(task_data[0]), task_data[1]).item()
    half = (found.best.selected + found.best.loss) / 2  # two halves of the same size
    return loss == pytest.approx(half, rel=1e-4)


def test_the_present_setting_may_be_the_best_training():
    task = Task(lambda: nn.Linear(4, 3), TRAIN, val=VAL, device="cpu")

    def stops_early(progress):
        return 1.0 if progress < 0.2 else 1e-6

    found = searched(task, current=(0.5, "cosine"), schedule=stops_early)
    assert (found.best.lr, found.best.schedule) == (0.5, "cosine")
    assert found.best.selected == found.runs.query("steps == 40")["loss"].min()
    assert is_stated(found, VAL)


def test_of_trainings_that_end_alike_the_same_one_is_named_and_kept():
    labels = torch.arange(200) % 3
    easy = nn.functional.one_hot(labels, 4) * 5 + 0.01 * TRAIN[0]
    task = Task(
        lambda: nn.Linear(4, 3),
        (easy, labels),
        loss=nn.MultiMarginLoss(),
        val=(easy, labels),
        device="cpu",
    )
    found = searched(task)
    ends = found.runs.query("stage == 'fine'")["loss"]
    assert (ends == ends.min()).sum() > 1, "two of them end alike"
    assert nn.MultiMarginLoss()(found.model()(easy), labels) == found.best.loss == 0


def test_one_evaluator_serves_a_search_that_ends_worse_than_the_one_before():
    task = Task(lambda: nn.Linear(4, 3), TRAIN, val=VAL, device="cpu")
    evaluate = Evaluator(task)
    good = searched(task, evaluate=evaluate, limits=(1e-3, 0.06), coarse=(1e-2, 0.03))
    worse = searched(task, evaluate=evaluate)
    assert good.best.selected < worse.best.selected
    assert is_stated(good, VAL)
    assert is_stated(worse, VAL)


def test_an_optimizers_function_that_changes_the_model_is_refused():
    def make(model, lr):
        model.add_module("added", nn.Linear(3, 3))
        return torch.optim.SGD(model.parameters(), lr=lr)

    class Extended(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            x = self.layer(x)
            return self.added(x) if hasattr(self, "added") else x

    with pytest.raises(lrtune.LrtuneError, match=r"adds added\.bias.* makes the model"):
        Task(Extended, TRAIN, optimizer=make, device="cpu")
