"""The best constant prediction: no other constant has a lower loss, and it is what theory says."""

import functools
import itertools
import math

import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from lrtune import Run, Task, train
from lrtune.errors import ArgumentError
from lrtune.results.schema import PARTS
from lrtune.task.batches import count_examples
from lrtune.task.guess import best_guess
from lrtune.task.losses import known_loss
from lrtune.task.random_state import preserve_random_state
from lrtune.testing import Bowl

SEEDS = st.integers(0, 10**6)


def batches_of(targets, size):
    """Batches (inputs, targets); the inputs say nothing but how many examples there are."""
    return [(torch.zeros(len(part), 1), part) for part in torch.split(targets, size)]


def guess(loss, outputs, batches):
    """The best guess, with a model whose outputs have this shape in the first batch."""
    made = torch.zeros(outputs).log_softmax(dim=1) if "NLL" in repr(loss) else torch.zeros(outputs)
    return best_guess(known_loss(loss, made, batches[0][-1]), batches)


def mean_loss(loss, constant, shape, batches):
    """The mean loss of constant outputs, as `Task.validate` takes it: a sum has its weight."""
    summed = getattr(loss, "reduction", "mean") == "sum"
    total = sum(count_examples(batch) for batch in batches)
    losses = []
    for batch in batches:
        rows = shape[0] * len(batch[-1]) // len(batches[0][-1])
        outputs = constant.expand(rows, *shape[1:])
        weight = 1 if summed else count_examples(batch)
        losses.append(loss(outputs, batch[-1]).double() * weight / total)
    return float(sum(losses))


# --- closed forms ---------------------------------------------------------------------------------


@given(st.integers(2, 30), st.integers(1, 7))
def test_of_balanced_classes_it_is_the_log_of_their_number(classes, size):
    labels = torch.arange(classes).repeat(3)
    found = guess(nn.CrossEntropyLoss(), (size, classes), batches_of(labels, size))
    assert found.loss == pytest.approx(math.log(classes), rel=1e-9)
    assert found.stderr == pytest.approx(0, abs=1e-9)


def test_of_classes_it_is_the_entropy_of_their_frequencies():
    labels = torch.tensor([0, 0, 0, 2, 0, 2, 2, 3])
    shares = [4 / 8, 3 / 8, 1 / 8]
    entropy = -sum(share * math.log(share) for share in shares)
    spread = sum(share * (-math.log(share) - entropy) ** 2 for share in shares)
    for loss in (nn.CrossEntropyLoss(), nn.NLLLoss(), functional.cross_entropy):
        found = guess(loss, (3, 5), batches_of(labels, 3))
        assert found.loss == pytest.approx(entropy, rel=1e-9)
        assert found.stderr == pytest.approx(math.sqrt(spread / 7), rel=1e-6)


@given(SEEDS, st.sampled_from([1, 3]))
def test_of_squared_errors_it_is_the_variance(seed, width):
    torch.manual_seed(seed)
    targets = 3 * torch.randn(20, width) + 100
    found = guess(nn.MSELoss(), (4, width), batches_of(targets, 4))
    variance = targets.double().var(dim=0, correction=0)
    assert found.loss == pytest.approx(variance.mean().item(), rel=1e-6)
    rows = ((targets - targets.double().mean(dim=0)) ** 2).mean(dim=1)
    assert found.stderr == pytest.approx(rows.std().item() / math.sqrt(20), rel=1e-6)


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_targets_without_the_last_dimension_of_the_outputs_make_no_difference():
    targets = torch.randn(20, generator=torch.Generator().manual_seed(0))
    batches = batches_of(targets, 4)
    plain, spread = (guess(nn.MSELoss(), shape, batches) for shape in [(4,), (4, 1)])
    assert spread == pytest.approx(plain, rel=1e-9)
    assert plain.loss == pytest.approx(targets.double().var(correction=0).item(), rel=1e-6)
    # torch has compared every output with every target: hence one number for all.
    wide = guess(nn.MSELoss(), (4, 3), batches_of(targets[:, None], 4))
    assert wide.loss == pytest.approx(plain.loss, rel=1e-9)


def test_of_absolute_errors_it_is_the_distance_from_the_median():
    targets = torch.tensor([1.0, 2.0, 3.0, 10.0, -40.0])
    assert guess(nn.L1Loss(), (5,), batches_of(targets, 5)).loss == pytest.approx(52 / 5)


def test_of_rates_it_is_their_entropy():
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / 2
    for loss in (nn.BCELoss(), nn.BCEWithLogitsLoss()):
        assert guess(loss, (2, 2), batches_of(targets, 2)).loss == pytest.approx(entropy)


def test_classes_of_pixels_have_one_frequency_for_all_places():
    labels = torch.tensor([[[0, 0], [1, 9]], [[1, 1], [9, 9]]])  # 9: no class
    loss = nn.CrossEntropyLoss(ignore_index=9)
    entropy = -(0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    found = guess(loss, (2, 3, 2, 2), batches_of(labels, 2))
    assert found.loss == pytest.approx(entropy, rel=1e-9)
    assert found.stderr > 0


def test_batches_whose_examples_differ_in_shape():
    batches = [
        (torch.zeros(2, 1), torch.tensor([[0, 1, 1], [0, 1, 1]])),
        (torch.zeros(1, 1), torch.tensor([[0, 1]])),
    ]
    found = guess(nn.CrossEntropyLoss(), (2, 2, 3), batches)
    low = (2 * 1 / 3 + 1 / 2) / 3  # batches weigh as many as they have examples
    assert found.loss == pytest.approx(-low * math.log(low) - (1 - low) * math.log(1 - low))
    numbers = [(inputs, target.float()) for inputs, target in batches]
    assert guess(nn.MSELoss(), (2, 3), numbers).loss == pytest.approx(low * (1 - low))


# --- laws -----------------------------------------------------------------------------------------


@st.composite
def tasks(draw):
    """A loss, the shape of the outputs, batches, and a function that draws constants."""
    torch.manual_seed(draw(SEEDS))
    rows, size, classes = draw(st.integers(1, 20)), draw(st.integers(1, 7)), draw(st.integers(2, 4))
    more = draw(st.sampled_from([(), (2,), (2, 3)]))
    first = min(rows, size)
    options = {"reduction": draw(st.sampled_from(["mean", "sum"]))}
    weight = draw(st.sampled_from([None, torch.rand(classes) + 0.1]))
    kinds = ["labels", "nll", "probabilities", "rates", "logits", "numbers"]
    kind = draw(st.sampled_from(kinds))
    shape, targets = (first, classes, *more), torch.randn(rows, classes, *more)
    if kind in ("labels", "nll", "probabilities"):
        if kind != "probabilities" and draw(st.booleans()):
            options["ignore_index"] = 0
        if kind != "nll":
            options["label_smoothing"] = draw(st.sampled_from([0.0, 0.3]))
        loss = (nn.NLLLoss if kind == "nll" else nn.CrossEntropyLoss)(weight, **options)
        labels = torch.randint(0, classes, (rows, *more))
        labels[:, ...] = torch.where(torch.rand(rows, *more) < 0.3, 1, labels)
        targets = targets.softmax(dim=1) if kind == "probabilities" else labels

        def constant():
            return torch.randn(classes, *[1] * len(more)).log_softmax(dim=0)
    elif kind in ("rates", "logits"):
        targets = draw(st.sampled_from([targets.sigmoid(), (targets > 0.5).float()]))
        positive = draw(st.sampled_from([None, torch.rand(targets.shape[-1]) + 0.1]))
        loss = nn.BCELoss(**options)
        if kind == "logits":
            loss = nn.BCEWithLogitsLoss(pos_weight=positive, **options)

        def constant():
            made = torch.randn(classes, *more)
            return made if kind == "logits" else made.sigmoid()
    else:
        made = [nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, functools.partial(nn.HuberLoss, delta=0.3)]
        loss = draw(st.sampled_from(made))(**options)
        targets = targets * draw(st.sampled_from([1e-3, 1.0, 1e3])) + draw(st.sampled_from([0, 50]))

        def constant():
            place = torch.randint(0, rows, ())
            return targets[place] + targets.std() * torch.randn(classes, *more) * 0.1

    return loss, shape, batches_of(targets, size), constant


@given(tasks())
@settings(max_examples=200)
def test_no_other_constant_has_a_lower_loss(drawn):
    loss, shape, batches, constant = drawn
    found = guess(loss, shape, batches)
    if found is None:  # no label counts: the loss is NaN, or as a sum 0
        assert not mean_loss(loss, constant(), shape, batches) > 0
        return
    assert found.stderr >= 0
    for _ in range(20):
        other = mean_loss(loss, constant(), shape, batches)
        assert found.loss <= other + 1e-5 * abs(other)


@given(tasks())
@settings(max_examples=60)
def test_it_is_never_below_the_floor(drawn):
    loss, shape, batches, _ = drawn
    made = torch.zeros(shape).log_softmax(dim=1) if "NLL" in repr(loss) else torch.zeros(shape)
    known, found = known_loss(loss, made, batches[0][-1]), guess(loss, shape, batches)
    assert found is None or known.floor == 0 or found.loss >= known.floor * (1 - 1e-6)


@given(SEEDS, st.sampled_from([nn.CrossEntropyLoss(), nn.MSELoss(), nn.L1Loss()]))
@settings(max_examples=20)
def test_the_order_of_the_batches_does_not_matter(seed, loss):
    torch.manual_seed(seed)
    targets = torch.randint(0, 3, (12,)) if "Cross" in repr(loss) else torch.randn(12, 3)
    batches = batches_of(targets, 4)
    found = {guess(loss, (4, 3), order).loss for order in itertools.permutations(batches)}
    assert max(found) == pytest.approx(min(found), rel=1e-9)


# --- none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (nn.MSELoss(), "no tensor"),
        (nn.MSELoss(), torch.tensor(1.0)),
        (nn.CrossEntropyLoss(), torch.tensor([7])),
        (nn.CrossEntropyLoss(), torch.tensor([-3])),
        (nn.CrossEntropyLoss(), torch.tensor([-100])),
        (nn.MSELoss(), torch.tensor([math.nan])),
    ],
)
def test_targets_that_cannot_be_used_give_none(loss, target):
    known = known_loss(loss, torch.zeros(2, 3), torch.tensor([0, 1]))
    assert best_guess(known, [(torch.zeros(1, 1), target)]) is None


def test_no_batches_and_no_rows_give_none():
    known = known_loss(nn.CrossEntropyLoss(), torch.zeros(2, 3), torch.tensor([0, 1]))
    assert best_guess(known, []) is None
    assert best_guess(known, [(torch.zeros(0, 1), torch.zeros(0).long())]) is None


def test_weights_for_the_rows_of_a_batch_that_is_shorter_give_none():
    loss = nn.BCEWithLogitsLoss(weight=torch.rand(4, 1))
    assert guess(loss, (4, 3), batches_of(torch.rand(7, 3), 4)) is None


@pytest.mark.parametrize("loss", [nn.MultiMarginLoss(), nn.CrossEntropyLoss(reduction="none")])
def test_losses_without_a_best_constant_give_none_and_read_nothing(loss):
    known = known_loss(loss, torch.zeros(2, 3), torch.tensor([0, 1]))
    assert best_guess(known, iter(lambda: pytest.fail("it was read"), None)) is None


def test_an_endless_stream_is_read_in_part(monkeypatch):
    monkeypatch.setattr("lrtune.task.guess.MOST_NUMBERS", 100)
    known = known_loss(nn.CrossEntropyLoss(), torch.zeros(2, 2), torch.tensor([0, 1]))
    stream = itertools.repeat((torch.zeros(2, 1), torch.tensor([0, 1])))
    assert best_guess(known, stream).loss == pytest.approx(math.log(2))


def test_one_row_has_no_standard_error():
    assert guess(nn.MSELoss(), (1, 3), batches_of(torch.randn(1, 3), 1)).stderr == math.inf


# --- of a task ------------------------------------------------------------------------------------

X, Y = zoo.vectors()


class Constant(nn.Module):
    """The same outputs whatever the inputs; a single parameter stands there to be trained."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs, self.zero = outputs, nn.Parameter(torch.zeros(()))

    def forward(self, inputs):
        return self.outputs.expand(len(inputs), *self.outputs.shape) + 0 * self.zero


class Stream:
    """Batches that come in one order."""

    def __iter__(self):
        return iter(DataLoader(TensorDataset(X[:50], Y[:50]), 7))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("val", [(X[:50], Y[:50]), Stream()], ids=["rows", "stream"])
def test_a_model_that_predicts_it_is_validated_with_it(val, part, reduction):
    named = Task(zoo.model("linear"), (X, Y), val=val)._val.batches()
    labels = torch.cat([batch[-1] for name, batch in named if name == part])
    shares = torch.bincount(labels, minlength=3) / len(labels)
    loss = nn.CrossEntropyLoss(reduction=reduction)
    task = Task(Constant(shares.log()), (X, Y), val=val, loss=loss)
    trace = train(task, [Run("a", 0.1)], 2)
    measured = trace.validations.set_index("part")["loss"]
    assert measured[part] == pytest.approx(task.guess(part).loss, rel=1e-6)


def test_that_of_the_training_data_is_fitted_to_their_first_20_batches():
    task = Task(zoo.model("linear"), (X, Y), batch_size=2)
    with preserve_random_state():
        batches = list(itertools.islice(task.batches(0), 20))
    assert task.guess("train") == guess(nn.CrossEntropyLoss(), (2, 3), batches)


def test_it_is_read_once_and_draws_no_random_number():
    reads = []

    class Counting(TensorDataset):
        def __getitem__(self, index):
            reads.append(torch.rand(()))
            return super().__getitem__(index)

    task = Task(zoo.model("linear"), Counting(X, Y), val=Counting(X, Y))
    before, state = len(reads), torch.get_rng_state()
    parts = (*PARTS, "train")
    first = [task.guess(part) for part in parts]
    read = len(reads)
    assert read > before
    assert [task.guess(part) for part in parts] == first
    assert [task.on("cpu").guess(part) for part in parts] == first
    assert len(reads) == read
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("part", [*PARTS, "train"])
def test_the_gradients_of_the_task_are_its_own(part):
    task = Task(zoo.model("linear"), (X, X), loss=nn.L1Loss(), val=(X, X))
    with torch.inference_mode():
        found = task.guess(part)
    assert found == Task(zoo.model("linear"), (X, X), loss=nn.L1Loss(), val=(X, X)).guess(part)
    assert found.loss > 0


def test_an_unknown_part_is_refused():
    with pytest.raises(ArgumentError, match="part='val'; there are selection, test, train"):
        Task(zoo.model("linear"), (X, Y), val=(X, Y)).guess("val")


def test_tasks_without_one():
    def objective(model, batch):
        return functional.cross_entropy(model(batch[0]), batch[1])

    assert Task(zoo.model("linear"), (X, Y)).guess() is None
    custom = Task(zoo.model("linear"), (X, Y), loss=lambda *a: functional.cross_entropy(*a) ** 2)
    assert custom.guess() is None
    assert Task(zoo.model("linear"), (X, Y), objective=objective, val=(X, Y)).guess() is None
    assert (
        Task(Bowl(4.0), [None], objective=lambda m, _: m(), optimizer=SGD, device="cpu").guess()
        is None
    )
