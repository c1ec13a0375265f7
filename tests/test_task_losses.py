"""Where zero is: which losses have a known floor, and what the task says about its own."""

import functools
import math

import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.optim import SGD

from lrtune import Task
from lrtune.errors import TaskError
from lrtune.task.losses import known_loss
from lrtune.testing import Bowl, bowl

X, Y = zoo.vectors()
SOFT = torch.rand(len(X), 3, generator=torch.Generator().manual_seed(1))


def kind(loss, targets=Y, model=None, **more):
    return Task(model or zoo.model("linear"), (X, targets), loss=loss, **more).loss_kind


class Subclass(nn.CrossEntropyLoss):
    """It adds nothing that changes the loss."""

    def extra_repr(self):
        return "mine"


class Lower(nn.CrossEntropyLoss):
    def forward(self, outputs, target):
        return super().forward(outputs, target) - 1


class Called(nn.CrossEntropyLoss):
    def __call__(self, outputs, target):
        return super().__call__(outputs, target) - 1


def patched():
    loss = nn.CrossEntropyLoss()
    loss.forward = lambda outputs, target: functional.cross_entropy(outputs, target) - 1
    return loss


def hooked():
    loss = nn.CrossEntropyLoss()
    loss.register_forward_hook(lambda _module, _inputs, output: output - 1)
    return loss


ZERO = {
    "cross-entropy": [
        nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum", ignore_index=2),
        nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.5])), Subclass(), functional.cross_entropy,
        functools.partial(functional.cross_entropy, reduction="sum"),
        functools.partial(functools.partial(functional.cross_entropy), ignore_index=1),
    ],
    "squared error": [nn.MSELoss(), nn.MSELoss(reduction="sum"), functional.mse_loss],
    "absolute error": [nn.L1Loss(), functional.l1_loss],
    "Huber loss": [nn.HuberLoss(delta=0.3), functional.huber_loss],
    "smooth L1 loss": [nn.SmoothL1Loss(beta=0.3), functional.smooth_l1_loss],
    "multi-class margin loss": [nn.MultiMarginLoss(), functional.multi_margin_loss],
    "binary cross-entropy": [nn.BCEWithLogitsLoss(), nn.BCEWithLogitsLoss(pos_weight=SOFT[0])],
    "soft margin loss": [nn.SoftMarginLoss()],
}  # fmt: skip
LABELS = ("cross-entropy", "multi-class margin loss")


@pytest.mark.parametrize(("name", "place"), [(n, i) for n in ZERO for i in range(len(ZERO[n]))])
def test_torchs_losses_have_the_floor_0_where_targets_are_hard(name, place):
    found = kind(ZERO[name][place], Y if name in LABELS else SOFT.round())
    assert (found.name, found.floor) == (name, 0.0)
    each = ", a sum that is stated per sample" if found.summed > 1 else ""
    assert found.words == f"{name}{each}; scores are log losses"


def test_losses_of_probabilities_have_the_floor_0():
    outputs = nn.Sequential(nn.Linear(3, 3), nn.LogSoftmax(dim=1))
    assert kind(nn.NLLLoss(), model=outputs).words.startswith("negative log likelihood; ")
    rates = nn.Sequential(nn.Linear(3, 3), nn.Sigmoid())
    assert kind(nn.BCELoss(), SOFT.round(), model=rates).floor == 0.0


UNKNOWN = {
    "lambda": lambda outputs, target: functional.cross_entropy(outputs, target) - 2,
    "overrides forward": Lower(),
    "overrides call": Called(),
    "patched": patched(),
    "with a hook": hooked(),
    "negative weights": nn.CrossEntropyLoss(torch.tensor([-0.1, 1.0, 1.0])),
    "no log-probabilities": nn.NLLLoss(),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_losses_have_none(name):
    found = kind(UNKNOWN[name])
    assert found.floor is None
    assert found.words == "a custom loss of unknown floor; scores are shares of the fall"


@pytest.mark.filterwarnings("ignore:size_average and reduce args")
def test_the_old_names_of_a_reduction_are_not_looked_into():
    assert kind(functools.partial(functional.cross_entropy, size_average=True)).floor is None


def test_targets_out_of_range_have_none():
    assert kind(nn.CrossEntropyLoss(), SOFT - 0.5).floor is None


def test_an_objective_has_none():
    words = "an objective of unknown floor; scores are shares of the fall"
    assert bowl(4.0).loss_kind.words == words


# --- soft targets


def entropy(shares):
    return -sum(share * math.log(share) for share in shares)


def test_label_smoothing_has_the_entropy_of_the_smoothed_labels():
    found = kind(nn.CrossEntropyLoss(label_smoothing=0.3))
    assert found.floor == pytest.approx(entropy([0.8, 0.1, 0.1]), rel=1e-12)
    assert found.words == "cross-entropy; scores are logs of the loss above 0.639"
    both = kind(functools.partial(functional.cross_entropy, label_smoothing=0.3))
    assert both.floor == found.floor


def test_probabilities_have_the_lowest_entropy_of_any_of_them():
    targets = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]).repeat(12, 1)
    found = kind(nn.CrossEntropyLoss(), targets)
    assert found.floor == pytest.approx(entropy([0.1, 0.1, 0.8]), rel=1e-6)
    binary = kind(nn.BCEWithLogitsLoss(), targets)
    means = [
        sum(entropy([p, 1 - p]) for p in row) / 3 for row in ([0.2, 0.3, 0.5], [0.1, 0.1, 0.8])
    ]
    assert binary.floor == pytest.approx(min(means), rel=1e-6)


SEEDS = st.integers(0, 10**6)


@st.composite
def soft_losses(draw):
    """A loss with soft targets, and outputs and targets for it, of random shapes and options."""
    torch.manual_seed(draw(SEEDS))
    rows, classes = draw(st.integers(1, 6)), draw(st.integers(2, 5))
    more = draw(st.sampled_from([(), (3,), (2, 2)]))
    options = {"reduction": draw(st.sampled_from(["mean", "sum"]))}
    outputs = 3 * torch.randn(rows, classes, *more)
    if draw(st.booleans()):
        weight = draw(st.sampled_from([None, torch.rand(classes)]))
        loss = nn.CrossEntropyLoss(weight, label_smoothing=draw(st.floats(0, 1)), **options)
        if draw(st.booleans()):
            return loss, outputs, torch.randint(0, classes, (rows, *more))
        return loss, outputs, torch.randn(rows, classes, *more).softmax(dim=1)
    targets = torch.rand(rows, classes, *more)
    if draw(st.booleans()):
        return nn.BCELoss(**options), outputs.sigmoid(), targets
    positive = draw(st.sampled_from([None, 3 * torch.rand(targets.shape[-1])]))
    return nn.BCEWithLogitsLoss(pos_weight=positive, **options), outputs, targets


@given(soft_losses())
@settings(max_examples=200)
def test_no_outputs_have_a_loss_below_the_floor(drawn):
    loss, outputs, targets = drawn
    known = known_loss(loss, outputs, targets)
    assert known.floor >= 0
    assert loss(outputs, targets).item() >= known.floor * (1 - 1e-5)
    some = slice(0, 1)  # nor is that of a part, such as a short last batch
    assert loss(outputs[some], targets[some]).item() >= known.floor * (1 - 1e-5)


@given(SEEDS, st.integers(2, 5), st.floats(0.01, 0.99))
def test_the_floor_of_smoothed_labels_is_reached(seed, classes, smoothing):
    torch.manual_seed(seed)
    labels = torch.randint(0, classes, (8,))
    wanted = torch.nn.functional.one_hot(labels, classes).double()
    wanted = (1 - smoothing) * wanted + smoothing / classes
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
    known = known_loss(loss, wanted.log(), labels)
    assert loss(wanted.log(), labels).item() == pytest.approx(known.floor, rel=1e-9)


def test_every_label_may_be_ignored():
    ignoring = nn.CrossEntropyLoss(ignore_index=-1, label_smoothing=0.1)
    labels = torch.tensor([-1, -1, 0])
    assert known_loss(ignoring, torch.zeros(3, 4), labels).floor > 0
    assert known_loss(ignoring, torch.zeros(2, 4), labels[:2]).floor == 0.0


def test_options_that_fit_whole_batches_only_raise_nothing():
    rows = nn.BCEWithLogitsLoss(weight=torch.rand(24, 1))
    assert known_loss(rows, torch.zeros(24, 3), SOFT).floor == 0.0
    positive = nn.BCEWithLogitsLoss(pos_weight=torch.rand(24, 1))
    assert known_loss(positive, torch.zeros(24, 3), SOFT).floor == 0.0


# --- what the user says


def test_the_users_floor_comes_before_what_is_known():
    assert kind(nn.MSELoss(), SOFT, floor=0.01).floor == 0.01
    found = kind(lambda outputs, target: functional.cross_entropy(outputs, target) ** 2, floor=0)
    assert found.words == "a custom loss; scores are log losses"
    assert found.scale.floor == 0.0
    objective = Task(
        Bowl(4.0), [None], objective=lambda m, _: m() - 2, optimizer=SGD, floor=-2.0, device="cpu"
    )
    assert objective.loss_kind.words == "an objective; scores are logs of the loss above -2"


@pytest.mark.parametrize("floor", [math.nan, math.inf, -math.inf, "0", True, [0.0]])
def test_a_floor_that_is_no_finite_number_is_refused(floor):
    with pytest.raises(TaskError, match="expected a finite number below which the loss cannot"):
        kind(nn.CrossEntropyLoss(), floor=floor)


def test_a_floor_above_a_loss_that_was_seen_is_refused():
    with pytest.raises(TaskError, match=r"floor=9, but the loss .* is [\d.]+; .* Lower it"):
        kind(nn.CrossEntropyLoss(), floor=9.0)


def test_the_kind_is_stated():
    brought = Task(zoo.model("linear"), (X, Y))
    assert brought.describe()["scores"] == "log losses"
    assert brought.on("cpu").loss_kind == brought.loss_kind
    assert repr(brought).endswith("CrossEntropyLoss, (float32[24, 3], int64[24]), cpu)")


# --- digits


def shifted(constant, dtype):
    return Task(
        Bowl(4.0).to(dtype), [None], objective=lambda m, _: m() + constant, optimizer=SGD,
        device="cpu",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("constant", "dtype", "step"),
    [
        (0.0, torch.float64, 2.0**-51), (0.0, torch.float32, 2.0**-22),
        (1e6, torch.float32, 0.0625), (1e6, torch.float64, 2.0**-33),
        (-1e6, torch.float32, 0.0625),
    ],
)  # fmt: skip
def test_the_resolution_is_the_step_to_the_next_number(constant, dtype, step):
    assert shifted(constant, dtype).loss_kind.resolution == step
