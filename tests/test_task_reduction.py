"""Losses that are sums are weighed once; a batch weighs its rows, or what the user says."""

import functools

import numpy as np
import pytest
import torch
import zoo
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from lrtune import Run, Task, compare, search, train
from lrtune.errors import TaskError
from lrtune.task.batches import count_examples
from lrtune.task.random_state import preserve_random_state
from lrtune.task.reduction import compare_halves

X, Y = zoo.vectors()
ROWS = len(X)
UNEVEN = list(zip(X.split(7), Y.split(7), strict=True))
"""Batches of 7, 7, 7 and 3 rows."""


def task(**changes):
    given = {"model": zoo.model("linear"), "train": (X, Y), "batch_size": 8, "device": "cpu"}
    given |= changes
    if not isinstance(given["train"], tuple):
        del given["batch_size"]
    return Task(given.pop("model"), given.pop("train"), **given)


# --- which it is ----------------------------------------------------------------------------------

LOSSES = st.lists(st.floats(0.01, 100), min_size=2, max_size=9)


@given(LOSSES, st.integers(1, 8))
def test_a_mean_of_rows_is_a_mean_and_a_sum_a_sum(rows, cut):
    cut = min(cut, len(rows) - 1)
    for name, reduce in (("mean", np.mean), ("sum", np.sum)):
        whole, first, second = (float(reduce(some)) for some in (rows, rows[:cut], rows[cut:]))
        found = compare_halves(whole, first, second, cut / len(rows))
        alike = name == "mean" and abs(first - second) <= 1e-3 * whole
        assert found == name or (alike and found == "unknown")


@given(LOSSES, st.lists(st.floats(0.1, 10), min_size=9, max_size=9), st.integers(1, 8))
def test_a_mean_with_weights_is_never_taken_for_one_without(rows, weights, cut):
    cut = min(cut, len(rows) - 1)
    weights = np.array(weights[: len(rows)])
    parts = (slice(None), slice(cut), slice(cut, None))
    halves = [float(np.average(rows[part], weights=weights[part])) for part in parts]
    share = cut / len(rows)
    if abs(weights[:cut].sum() / weights.sum() - share) > 0.05:
        assert compare_halves(*halves, share) != "mean"


@pytest.mark.parametrize(
    ("halves", "found"),
    [
        ((2.0, 1.99, 2.0), "neither"),  # all the weight lies on the second half
        ((1.995, 1.99, 2.0), "mean"),
        ((2.0, 1.9999, 2.0), "unknown"),
        ((2.0, 1.9, 2.0), "neither"),
        ((4.0, 1.99, 2.0), "sum"),
        ((4.2, 2.0, 2.0), "neither"),
        ((0.0, 0.0, 0.0), "unknown"),
        ((-2.0, -1.0, -3.0), "mean"),
        ((-4.0, -1.0, -3.0), "sum"),
        ((float("nan"), 1.0, 1.0), "unknown"),
        ((1.0, float("inf"), 1.0), "unknown"),
    ],
)
def test_what_three_losses_say(halves, found):
    assert compare_halves(*halves) == found


def contrastive(model, batch):
    """Each row is held against all the others, as in CLIP, so more rows are a harder problem."""
    outputs = model(batch[0])
    return functional.cross_entropy(5 * outputs @ outputs.T, torch.arange(len(outputs)))


def tiny_second_half(model, batch):
    """A mean with weights; in the second half weights and losses are tiny."""
    losses = model(batch[0]).square().sum(1) * batch[1]
    return (losses * batch[1]).sum() / batch[1].sum()


class Boxes(nn.Linear):
    """A model that returns something else in eval mode."""

    def forward(self, inputs):
        return super().forward(inputs) if self.training else [{"boxes": inputs}]


def of_graph(model, batch):
    nodes, edges, labels = batch
    return functional.cross_entropy(model(nodes) + model(nodes[edges[0]]).mean(0), labels)


EDGES = torch.stack([torch.arange(ROWS), torch.arange(ROWS).flip(0)])
MANY = torch.randint(0, 9, (64, 2), generator=torch.Generator().manual_seed(1))
FOUND = {
    "cross-entropy": ({}, "mean"),
    "summed": ({"loss": nn.CrossEntropyLoss(reduction="sum")}, "sum"),
    "a partial": (
        {"loss": functools.partial(functional.cross_entropy, reduction="sum")},
        "sum",
    ),
    "with class weights": (
        {"loss": nn.CrossEntropyLoss(torch.tensor([1.0, 99.0, 0.1]))},
        "mean",
    ),
    "a lambda": ({"loss": lambda out, y: functional.cross_entropy(out, y, reduction="sum")}, "sum"),
    "over features, then the mean": (
        {"loss": lambda out, y: functional.cross_entropy(out, y, reduction="none").sum() / len(y)},
        "mean",
    ),
    "an objective": ({"objective": lambda m, b: functional.cross_entropy(m(b[0]), b[1])}, "mean"),
    "a constant besides": (
        {"objective": lambda m, b: functional.cross_entropy(m(b[0]), b[1]) + 1e6},
        "unknown",
    ),
    "a share of a sum": ({"loss": lambda out, y: out.square().sum() / 1000}, "sum"),
    "a mean with weights of rows": (
        {"train": [(X[:8], torch.tensor([1.0] * 4 + [1e-6] * 4))], "objective": tiny_second_half},
        "neither",
    ),
    "contrastive": ({"objective": contrastive, "batch_size": 16}, "neither"),
    "a root of a mean": ({"loss": lambda out, y: 9 + out.square().sum().sqrt()}, "neither"),
    "boxes in eval mode": ({"model": Boxes(3, 3)}, "mean"),
    "boxes, unknown loss": (
        {"model": Boxes(3, 3), "loss": lambda out, y: nn.functional.cross_entropy(out, y) + 0},
        "unknown",
    ),
    "one row": ({"loss": lambda out, y: out.square().sum(), "batch_size": 1}, "unknown"),
    "a graph": ({"train": [(X, EDGES, Y)], "objective": of_graph}, "unknown"),
    "a name": (
        {"train": [(X, Y, "name")], "objective": lambda m, b: m(b[0]).square().sum()},
        "unknown",
    ),
    "class weights in the batch": (
        {
            "train": [{"w": torch.ones(3), "x": X, "y": Y, "more": None}],
            "objective": lambda m, b: functional.cross_entropy(
                m(b["x"]), b["y"], b["w"], reduction="sum"
            ),
        },
        "sum",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_whether_a_loss_is_a_mean_or_a_sum_is_found_in_eval_mode(name):
    changes, found = FOUND[name]
    model = changes.get("model", zoo.model("linear"))
    with zoo.untouched(model):
        brought = task(**changes | {"model": model})
    assert brought.loss_reduction == found
    assert (brought.loss_kind.summed > 1) == (found == "sum")


def test_noise_and_batch_statistics_do_not_hide_a_sum():
    model = zoo.born(lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.7)))
    summed = task(model=model, loss=lambda out, _: out.square().sum())
    assert summed.loss_reduction == "sum"


@pytest.mark.parametrize("rows", [8, 16, 64])
@pytest.mark.parametrize("noise", [0.03, 0.3])
@pytest.mark.parametrize("found", ["sum", "mean"])
def test_a_loss_that_draws_in_eval_mode_is_a_sum_where_its_means_are(found, noise, rows):
    def drawn(model, batch):
        losses = (model(batch[0]) + noise * torch.randn(len(batch[0]), 3)).square()
        return losses.sum() if found == "sum" else losses.mean()

    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(rows))
    brought = Task(
        zoo.born(lambda: nn.Linear(3, 3)), (x,), objective=drawn, batch_size=rows, device="cpu"
    )
    assert (brought.loss_reduction == "sum") == (found == "sum")


# --- what is said of it ---------------------------------------------------------------------------


class Vae(nn.Module):
    """As that of pytorch/examples: it draws, and returns what its loss needs."""

    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(3, 4), nn.Linear(2, 3)

    def forward(self, inputs):
        mean, log = self.encode(inputs).chunk(2, dim=1)
        noise = torch.randn_like(log) if self.training else 0.0
        return self.decode(mean + noise * (log / 2).exp()), mean, log


def elbo(model, batch):
    """Summed over features and rows."""
    inputs = (batch[0] > 0).float()
    outputs, mean, log = model(inputs)
    error = functional.binary_cross_entropy_with_logits(outputs, inputs, reduction="sum")
    return error - 0.5 * (1 + log - mean.square() - log.exp()).sum()


@pytest.mark.parametrize("val", [UNEVEN, (X, Y), DataLoader(TensorDataset(X, Y), 7)])
def test_the_stated_loss_of_a_vae_is_its_owners_number(val):
    """`val_loss += loss.item()` over all batches, divided by the size of the data set."""
    model = zoo.born(Vae)
    brought = task(model=model, objective=elbo, val=val)
    with preserve_random_state():
        parts = brought.validate({"": brought.init_state(0, 0.1)})[""]
    model.eval()
    with torch.no_grad():
        owners = sum(elbo(model, batch).item() for batch in UNEVEN) / ROWS
    assert brought.loss_reduction == "sum"
    stated = sum(part.loss * part.samples for part in parts) / ROWS
    assert stated == pytest.approx(owners, rel=1e-5)
    assert stated < elbo(model, (X, Y)).item() / 8  # no batch counts by its size twice


def both(**changes):
    """A task with the mean of a loss, and the same with the sum, over batches of 8 rows."""
    made = [task(loss=nn.CrossEntropyLoss(reduction=r), **changes) for r in ("mean", "sum")]
    return [*made, 8]


def test_a_sum_at_a_rate_divided_by_the_rows_is_validated_like_the_mean():
    mean, summed, rows = both(val=UNEVEN)
    one = train(mean, [Run("a", 0.1)], 9)
    other = train(summed, [Run("a", 0.1 / rows)], 9)
    assert other.validations["loss"].to_numpy() == pytest.approx(
        one.validations["loss"].to_numpy(), rel=1e-4
    )
    assert other.validations["stderr"].to_numpy() == pytest.approx(
        one.validations["stderr"].to_numpy(), rel=1e-3
    )
    assert other.frame["loss"].to_numpy() == pytest.approx(
        rows * one.frame["loss"].to_numpy(), rel=1e-4
    ), "the trace has the losses of the batches, as the user's own loop has them"


@pytest.mark.parametrize("val", [None, UNEVEN], ids=["training", "validation"])
def test_a_search_and_a_comparison_say_the_same_of_a_sum_and_a_mean(val):
    mean, summed, rows = both(val=val)
    results = []
    for brought, unit in ((mean, 1), (summed, rows)):
        found = search(brought, steps=40, budget=2.1, around=0.5 / unit, min_gain=1e-6)
        ranked = compare(brought, found, schedules=["step"], seeds=2, budget=9)
        results.append((found, ranked))
    (one, ranked), (other, also) = results
    assert other.lr == pytest.approx(one.lr / rows, rel=0.02)
    for column in ("start", "train", "loss", "test"):
        ours, theirs = (found.runs[column].to_numpy() for found in (other, one))
        assert ours == pytest.approx(theirs, rel=2e-2, nan_ok=True)
    assert other.best.selected == pytest.approx(one.best.selected, rel=2e-2)
    assert other.retrained.expected == pytest.approx(one.retrained.expected, rel=5e-2)
    ours, theirs = (result.table["final"].to_numpy() for result in (also, ranked))
    assert ours == pytest.approx(theirs, rel=5e-2, nan_ok=True)
    assert "a sum that is stated per sample" in other.scores


# --- the weight of a batch ------------------------------------------------------------------------


def weighted():
    """A few rows that count, beside class weights: most tensors say how many."""

    def batch(rows):
        return {"w": torch.ones(10), "x": X[rows], "y": Y[rows]}

    return [batch(torch.arange(20)), batch(torch.arange(20, 24))]


def by_name(model, batch):
    return functional.cross_entropy(model(batch["x"]), batch["y"])


def test_a_batch_weighs_the_rows_of_most_tensors():
    brought = task(train=weighted(), val=weighted() * 2, objective=by_name)
    assert brought.batch_rows == [10, 20, 20]
    assert brought.batch_examples == 20
    with preserve_random_state():
        state = brought.init_state(0, 0.1)
        parts = {part.part: part for part in brought.validate({"": state})[""]}
        every = [(count_examples(one), by_name(state.model, one).item()) for one in weighted()]
    # Batches that cannot be cut go to the two parts in turn.
    assert parts["selection"].loss == pytest.approx(every[0][1])
    assert parts["test"].loss == pytest.approx(every[1][1])
    assert [part.samples for part in parts.values()] == [40, 8]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_the_rows_that_most_tensors_share_count_the_first_of_equals(rows):
    batch = [torch.zeros(count, 2) for count in rows]
    most = max(rows, key=rows.count)
    assert count_examples(batch) == most
    assert count_examples([*batch, torch.zeros(()), "name", None]) == most


def test_a_batch_has_the_weight_that_the_user_gives_it():
    """Words, of which a batch has more or fewer; those of a batch without any count nothing."""
    words = [(X[:8], Y[:8]), (X[8:12], Y[8:12]), (X[12:], torch.full((12,), -100))]
    masked = [(x, torch.where(torch.rand(len(y)) < 0.5, y, -100)) for x, y in words[:2]]

    def count(batch):
        return len(batch[1]) if isinstance(batch, tuple) else (batch["y"] != -100).sum()

    def loss(model, batch):
        x, y = batch if isinstance(batch, tuple) else (batch["x"], batch["y"])
        return functional.cross_entropy(model(x), y)

    # Twice the same, as whole batches go to selection and test in turn.
    dicts = [{"x": x, "y": y, "w": torch.ones(1)} for x, y in [*masked, words[2]] for _ in "ab"]
    brought = task(val=dicts, objective=loss, batch_weight=count)
    with preserve_random_state():
        state = brought.init_state(0, 0.1)
        selection, test = brought.validate({"": state})[""]
    x, y = (torch.cat([each[n] for each in masked]) for n in (0, 1))
    expected = functional.cross_entropy(zoo.model("linear")(x), y).item()
    assert selection.loss == pytest.approx(expected, rel=1e-5)
    assert test.loss == pytest.approx(expected, rel=1e-5)
    assert brought.batch_weight is not None


# --- what a mean of torch's losses is divided by ------------------------------------------------


class Tagger(nn.Linear):
    """Words [rows, length, 3] to outputs [rows, 3, length]."""

    def forward(self, inputs):
        return super().forward(inputs).transpose(1, 2)


def sentences(length):
    """Rows of 1 to `length` words, padded with -100; the short ones are labelled otherwise."""
    draw = torch.Generator().manual_seed(length)
    words, ends = torch.randn(ROWS, length, 3, generator=draw), torch.arange(ROWS) % length + 1
    labels = torch.where((ends < 3)[:, None], 0, words.argmax(2))
    labels[torch.arange(length)[None] >= ends[:, None]] = -100
    return words, labels


LABELS = Y.clone()
LABELS[::5] = -100
WORDS, WORD_LABELS = sentences(6)
LOGS = nn.Sequential(nn.Linear(3, 3), nn.LogSoftmax(1))
SOFT = functional.one_hot(Y, 3) * 0.7 + 0.1
CLASSES = torch.tensor([1.0, 50.0, 0.1])
CE, P = functional.cross_entropy, functools.partial
MEANS = {
    "ignored labels": (nn.Linear(3, 3), nn.CrossEntropyLoss(), X, LABELS),
    "ignored words": (Tagger(3, 3), nn.CrossEntropyLoss(), WORDS, WORD_LABELS),
    "another ignored label": (nn.Linear(3, 3), nn.CrossEntropyLoss(ignore_index=1), X, Y),
    "class weights": (nn.Linear(3, 3), nn.CrossEntropyLoss(CLASSES), X, Y),
    "a function with class weights": (nn.Linear(3, 3), P(CE, weight=CLASSES), X, Y),
    "both, smoothed": (
        nn.Linear(3, 3),
        nn.CrossEntropyLoss(CLASSES, ignore_index=0, label_smoothing=0.1),
        X,
        Y,
    ),
    "a class without weight": (nn.Linear(3, 3), nn.CrossEntropyLoss(CLASSES.round()), X, Y),
    "log-probabilities": (LOGS, nn.NLLLoss(CLASSES), X, LABELS),
    "soft targets": (nn.Linear(3, 3), nn.CrossEntropyLoss(CLASSES), X, SOFT),
    "numbers": (nn.Linear(3, 3), nn.MSELoss(), X, X.flip(1)),
}


def halves(brought):
    """The validation losses of the untrained model, and the batches of each part."""
    with preserve_random_state():
        state = brought.init_state(0, 0.1)
        losses = {part.part: part.loss for part in brought.validate({"": state})[""]}
        every = list(brought._val.batches())
    return losses, {part: [one for name, one in every if name == part] for part in losses}


@pytest.mark.parametrize("size", [1, 5, 7])
@pytest.mark.parametrize("name", MEANS)
def test_a_validation_loss_is_the_loss_of_all_targets(name, size):
    """However they are cut into batches: F.cross_entropy(model(x), y) of the whole."""
    model, loss, inputs, targets = MEANS[name]
    cut = list(zip(inputs.split(size), targets.split(size), strict=True))
    brought = task(model=model, loss=loss, train=[(inputs, targets)], val=cut)
    assert brought.loss_reduction == "mean"
    losses, parts = halves(brought)
    for part, batches in parts.items():
        assert len(batches) > 1
        with torch.no_grad():
            whole = loss(
                model(torch.cat([x for x, _ in batches])), torch.cat([y for _, y in batches])
            )
        assert losses[part] == pytest.approx(whole.item(), rel=1e-5)


def test_batches_of_other_lengths_weigh_their_words():
    """Each batch is padded to its own longest row, and every word counts once."""
    model, batches = Tagger(3, 3), [sentences(length) for length in (2, 9)]
    brought = task(model=model, train=batches, val=batches)
    losses, parts = halves(brought)
    outputs = [model(x).transpose(1, 2).flatten(0, 1).detach() for x, _ in parts["selection"]]
    labels = torch.cat([y.flatten() for _, y in parts["selection"]])
    assert losses["selection"] == pytest.approx(CE(torch.cat(outputs), labels).item(), rel=1e-5)
    seen = torch.bincount(labels[labels >= 0], minlength=3) / (labels >= 0).sum()
    guess = -(seen * seen.log()).sum().item()
    assert brought.guess("selection").loss == pytest.approx(guess, rel=1e-5)


def test_a_weight_of_the_users_comes_before_that_of_the_targets():
    brought = task(val=[(X[:8], LABELS[:8]), (X[8:], LABELS[8:])], batch_weight=lambda batch: 1)
    losses, parts = halves(brought)
    model = zoo.model("linear")
    with torch.no_grad():
        each = [CE(model(x), y).item() for x, y in parts["selection"]]
    assert losses["selection"] == pytest.approx(np.mean(each))


def test_a_loss_of_words_in_an_objective_is_no_mean_of_rows():
    """Nearly uniform losses of an untrained model do not hide that its rows weigh differently."""
    torch.manual_seed(0)
    model = Tagger(3, 3)
    nn.init.normal_(model.weight, std=0.05)
    order = (WORD_LABELS >= 0).sum(1).argsort()
    train = [(WORDS[order], WORD_LABELS[order])]
    brought = task(model=model, train=train, objective=lambda m, b: CE(m(b[0]), b[1]))
    assert brought.loss_reduction == "neither"


def test_without_a_weight_of_the_users_rows_count():
    given, own = (
        task(val=UNEVEN, batch_weight=weight) for weight in (None, lambda batch: len(batch[0]))
    )
    assert given.batch_weight is None
    with preserve_random_state():
        parts = [one.validate({"": one.init_state(0, 0.1)})[""] for one in (given, own)]
    assert parts[0] == parts[1]
    assert given.guess("selection") == own.guess("selection")


@pytest.mark.parametrize("weight", ["x", None, float("nan"), float("inf"), -1, True, [1, 2]])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(TaskError, match=r"batch_weight returned .*expected a finite number >= 0"):
        task(val=(X, Y), batch_weight=lambda batch: weight)


def test_a_weight_that_is_no_function_is_refused():
    with pytest.raises(TaskError, match=r"batch_weight=64; expected a function of a batch"):
        task(batch_weight=64)


def test_batches_without_any_weight_are_refused():
    with pytest.raises(TaskError, match="all have a weight of 0"):
        task(val=(X, Y), batch_weight=lambda batch: 0)
