"""What checks of the data and of the start find: on broken tasks, not on their healthy twins."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrtune
from benchmarks.diagnosis import broken_data, broken_labels, broken_start
from lrtune.demo import images
from lrtune.diagnosis.checks import data, labels, leakage, scale, start_loss
from lrtune.diagnosis.checks.labels import evenness
from lrtune.diagnosis.observations.samples import counting_rows, target_of
from lrtune.diagnosis.observed import Observed
from lrtune.diagnosis.registry import CHECKS
from lrtune.testing import bowl

MINE = [one for one in CHECKS if one.__module__.split(".")[-1] in (
    "data", "labels", "leakage", "scale", "start_loss"
)]  # fmt: skip
TRAIN, VAL = images()
BROKEN = broken_data.BROKEN | broken_labels.BROKEN | broken_start.BROKEN
CASES = [(name, *case) for name, cases in BROKEN.items() for case in cases]


def mlp(outputs=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, outputs))


def conv():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    )


def task_of(train=TRAIN, model=mlp, **settings):
    return lrtune.Task(model, train, device="cpu", **settings)


def found(task):
    seen = Observed(task)
    return [one for check in MINE for one in check(seen)]


def names(task):
    return [one.name for one in found(task) if one.severity != "note"]


@pytest.mark.parametrize(("name", "make"), [(name, bad) for name, _, bad, _ in CASES])
def test_a_broken_task_is_found_among_the_first_two(name, make):
    some = sorted(found(make()), key=lambda one: one.severity == "note")
    assert name in [one.name for one in some[:2]]
    (told,) = [one for one in some if one.name == name]
    assert any(character.isdigit() for character in told.evidence)
    assert told.evidence.endswith(".")
    assert told.remedy.endswith(".")


@pytest.mark.parametrize("make", [good for *_, good in CASES])
def test_its_healthy_twin_is_not(make):
    assert names(make()) == []


# --- laws


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=8), st.integers(1, 50))
def test_evenness_lies_in_0_to_1_and_knows_neither_order_nor_size(counts, factor):
    even = evenness(counts)
    assert -1e-9 <= even <= 1 + 1e-9
    assert evenness(counts[::-1]) == pytest.approx(even)
    assert evenness([factor * one for one in counts]) == pytest.approx(even)
    assert evenness([counts[0]] * len(counts)) == pytest.approx(1)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e6])
def test_the_scale_of_a_loss_changes_nothing(factor):
    def scaled(outputs, targets):
        return factor * nn.functional.cross_entropy(outputs, targets)

    assert names(task_of(loss=scaled)) == []

    def large():
        model = mlp()
        with torch.no_grad():
            model[-1].weight.mul_(300)
        return model

    assert names(task_of(model=large, loss=scaled)) == ["start-loss"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", ["tensors", "loader", "dicts", "list"])
def test_leakage_is_found_in_any_form_of_data_and_order(form, dtype):
    inputs, targets = VAL[0].to(dtype), VAL[1]

    def cut(rows):
        return [
            {"image": inputs[some], "label": targets[some]}
            for some in torch.as_tensor(rows).split(50)
        ]

    def objective(model, batch):
        image, label = batch.values() if isinstance(batch, dict) else batch
        return nn.functional.cross_entropy(model(image), label)

    def parts(val):
        train = range(250)
        if form == "dicts":
            return cut(train), cut(val)
        if form == "list":
            made = [[tuple(one.values()) for one in cut(rows)] for rows in (train, val)]
            return made[0], made[1]
        both = [(inputs[list(rows)], targets[list(rows)]) for rows in (train, val)]
        if form == "loader":
            return [DataLoader(TensorDataset(*one), 50, shuffle=True) for one in both]
        return both

    def made(val):
        train, held_out = parts(val)
        settings = {"batch_size": 50} if form == "tensors" else {}
        model = partial(lambda: mlp().to(dtype))
        return task_of(train, model, val=held_out, objective=objective, **settings)

    half = [one for one in found(made(range(200, 359))) if one.name == "leakage"]
    assert [one.severity for one in half] == ["warning"]
    whole = [one for one in found(made(range(249, 149, -1))) if one.name == "leakage"]
    assert [one.severity for one in whole] == ["error"]
    assert "leakage" not in names(made(range(250, 359)))


def test_data_that_repeat_by_nature_do_not_leak():
    rows = torch.randint(0, 3, (1000, 4), generator=torch.Generator().manual_seed(0))
    made = (rows.float(), (rows.sum(1) > 4).long())
    model = partial(nn.Linear, 4, 2)
    task = task_of(tuple(one[:800] for one in made), model, val=tuple(one[800:] for one in made))
    assert "leakage" not in names(task)
    assert Observed(task).doubles.repeated > 0.9 * Observed(task).doubles.training


def test_rows_that_a_mask_or_a_label_leaves_out_do_not_leak():
    """One graph: its nodes are all in both parts, and masks say which count."""
    nodes = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    target = torch.arange(60) % 3
    first = torch.arange(60) < 30

    def batch(mask):
        return [{"x": nodes, "e": torch.zeros(2, 9), "y": target, "mask": mask}]

    def objective(model, one):
        return nn.functional.cross_entropy(model(one["x"])[one["mask"]], one["y"][one["mask"]])

    task = task_of(batch(first), partial(nn.Linear, 5, 3), val=batch(~first), objective=objective)
    assert "leakage" not in names(task)
    ignored = torch.where(first, target, -100)
    assert counting_rows((nodes, ignored)).tolist() == first.tolist()


def test_a_batch_shows_its_targets():
    x, y = torch.zeros(3, 2), torch.arange(3)
    assert target_of((x, y)) is y
    assert target_of({"image": x, "labels": y}) is y
    assert target_of({"image": x, "labels": [y, y]}) is None
    assert target_of(x) is None
    assert target_of([x]) is None


def test_moving_all_pixels_by_a_constant_does_not_make_them_constant():
    moved = (TRAIN[0] + 3.0, TRAIN[1])
    assert "constant-inputs" not in names(task_of(moved))
    same = (TRAIN[0][:1].expand_as(TRAIN[0]) + 3.0, TRAIN[1])
    assert names(task_of(same)) == ["constant-inputs"]


@pytest.mark.parametrize("stuck", [True, False])
def test_an_image_that_is_stuck_beside_its_index_is_a_note(stuck):
    image = TRAIN[0][:1].expand_as(TRAIN[0]) if stuck else TRAIN[0]
    whole = {"image": image, "index": torch.arange(len(image)), "label": TRAIN[1]}
    batches = [{k: v[n : n + 64] for k, v in whole.items()} for n in range(0, 1408, 64)]
    task = task_of(
        batches, objective=lambda m, b: nn.functional.cross_entropy(m(b["image"]), b["label"])
    )
    told = [one.severity for one in found(task) if one.name == "constant-inputs"]
    assert told == ["note"] * stuck


def test_masks_and_weights_that_are_the_same_for_all_are_no_constant_inputs():
    words = torch.randint(1, 20, (256, 9), generator=torch.Generator().manual_seed(0))
    whole = {"ids": words, "mask": torch.ones(256, 9), "weight": torch.ones(256)}
    whole |= {"labels": words[:, 0] % 3}
    batches = [{k: v[n : n + 32] for k, v in whole.items()} for n in range(0, 256, 32)]

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.tell = nn.Embedding(20, 8), nn.Linear(8, 3)

        def forward(self, ids, mask):
            return self.tell((self.words(ids) * mask[..., None]).mean(1))

    def objective(model, one):
        losses = nn.functional.cross_entropy(
            model(one["ids"], one["mask"]), one["labels"], reduction="none"
        )
        return (one["weight"] * losses).mean()

    assert found(task_of(batches, Reader, objective=objective)) == []


def test_data_without_anything_to_learn_are_not_constant_by_mistake():
    assert found(bowl(4.0)) == []


def test_a_sorted_epoch_that_is_not_read_to_its_end_is_told_by_validation_data(monkeypatch):
    monkeypatch.setattr("lrtune.diagnosis.observations.samples.SAMPLES", 96)  # of 1,438
    order = TRAIN[1].argsort(stable=True)
    ordered = DataLoader(TensorDataset(TRAIN[0][order], TRAIN[1][order]), 32)
    assert "single-class-batches" in names(task_of(ordered, val=VAL))
    shuffled = DataLoader(TensorDataset(*TRAIN), 32, shuffle=True)
    assert names(task_of(shuffled, val=VAL)) == []


def test_class_weights_are_an_answer_to_imbalance():
    target = (TRAIN[1] == 3).long()
    rows = torch.cat([(target == 0).nonzero().flatten(), target.nonzero().flatten()[:30]])
    few = (TRAIN[0][rows], target[rows])
    weights = torch.tensor([1.0, 40.0])
    assert names(task_of(few, partial(mlp, 2))) == ["class-imbalance"]
    assert names(task_of(few, partial(mlp, 2), loss=nn.CrossEntropyLoss(weights))) == []


def test_missing_values_that_the_model_knows_are_a_note():
    inputs = TRAIN[0].clone()
    inputs[torch.rand(inputs.shape, generator=torch.Generator().manual_seed(0)) < 0.02] = torch.nan

    class Known(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = mlp()

        def forward(self, x):
            return self.model(x.nan_to_num(0.0))

    (told,) = found(task_of((inputs, TRAIN[1]), Known))
    assert (told.name, told.severity) == ("nonfinite-data", "note")


def test_a_gradient_that_a_mask_does_not_save_is_an_error():
    """torch.where hides a NaN from the loss, and not from the gradient of a weight."""
    inputs = TRAIN[0].clone()
    inputs[900] = torch.nan

    class Hiding(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = mlp()

        def forward(self, x):
            odd = torch.isnan(x.flatten(1).sum(1, keepdim=True))
            return torch.where(odd, 0.0, self.model(x))

    loader = DataLoader(TensorDataset(inputs, TRAIN[1]), 64)
    (told,) = [one for one in found(task_of(loader, Hiding)) if one.name == "nonfinite-data"]
    assert told.severity == "error"
    assert "Sample 900" in told.evidence
    assert "gradient is not finite" in told.evidence


def test_batch_norm_of_one_row_only_matters_where_it_learns_from_it():
    train = DataLoader(TensorDataset(TRAIN[0][:65], TRAIN[1][:65]), 16, shuffle=True)
    assert names(task_of(train, conv)) == ["last-batch-of-one"]

    def frozen():
        model = conv()
        model[1].eval()
        return model

    def group():
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(144, 10)
        )

    assert names(task_of(train, frozen)) == []
    assert names(task_of(train, group)) == []
    assert names(task_of(TRAIN, conv, batch_size=1)) == []


@pytest.mark.parametrize("first", ["BatchNorm", "division"])
def test_a_model_that_scales_its_inputs_is_in_order(first):
    class Scaling(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(1) if first == "BatchNorm" else lambda x: x / 255
            self.model = mlp()

        def forward(self, x):
            return self.model(self.norm(x))

    raw = (255 * TRAIN[0], TRAIN[1])
    assert names(task_of(raw, Scaling)) == []
    assert "unscaled-inputs" in names(task_of(raw))


# --- whatever a user may bring


class Detector(nn.Module):
    """Returns losses in train mode, and something else in eval mode."""

    def __init__(self):
        super().__init__()
        self.model = mlp()

    def forward(self, x, y):
        outputs = self.model(x)
        return {"loss": nn.functional.cross_entropy(outputs, y)} if self.training else [outputs]


class Output(dict):
    """As the models of transformers return it."""

    @property
    def loss(self):
        return self["loss"]


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.tell = nn.Embedding(20, 4, sparse=True), nn.Linear(4, 3)

    def forward(self, ids, labels):
        loss = nn.functional.cross_entropy(self.tell(self.words(ids).mean(1)), labels)
        return Output(loss=loss)


class Item:
    """An object that is no tensor, with a method `to`."""

    def __init__(self, x):
        self.x = x

    def to(self, _device):
        return self


def odd_tasks():
    ids = torch.randint(0, 20, (64, 7), generator=torch.Generator().manual_seed(0))
    words = [{"ids": ids[k : k + 16], "labels": ids[k : k + 16, 0] % 3} for k in (0, 16, 32, 48)]
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    graph = torch.eye(6).to_sparse()
    return {
        "detector": lambda: task_of(TRAIN, Detector, objective=lambda m, b: m(*b)["loss"]),
        "holder": lambda: task_of(words, Holder, objective=lambda m, b: m(**b).loss,
                                  optimizer=torch.optim.SGD),
        "objects": lambda: task_of([Item(x[k : k + 8]) for k in range(0, 64, 8)],
                                   partial(nn.Linear, 6, 1),
                                   objective=lambda m, b: m(b.x).square().mean()),
        "sparse": lambda: task_of([(graph, x[:, :6].T.contiguous(), torch.arange(6))] * 3,
                                  partial(nn.Linear, 64, 6),
                                  objective=lambda m, b: nn.functional.cross_entropy(
                                      torch.sparse.mm(b[0], m(b[1])), b[2])),
        "complex": lambda: task_of((torch.view_as_complex(x.reshape(64, 3, 2).contiguous()),),
                                   partial(nn.Linear, 3, 1),
                                   objective=lambda m, b: m(b[0].abs()).square().mean()),
        "half": lambda: task_of((x.bfloat16(), x[:, :1].bfloat16()),
                                lambda: nn.Linear(6, 1).bfloat16(), loss=nn.MSELoss()),
        "no rows": lambda: task_of([torch.tensor(1.0)] * 5, partial(nn.Linear, 1, 1),
                                   objective=lambda m, b: m(b.reshape(1, 1)).sum() ** 2),
    }  # fmt: skip


@pytest.mark.parametrize("name", odd_tasks())
def test_no_check_raises_whatever_form_data_and_model_have(name):
    assert names(odd_tasks()[name]()) == []


def test_data_that_raise_are_read_up_to_there():
    class Broken(TensorDataset):
        def __getitem__(self, place):
            if place == 500:
                raise OSError("a file that nobody can read")
            return super().__getitem__(place)

    task = task_of(DataLoader(Broken(*TRAIN), 64))
    assert len(Observed(task).training_samples.found) == 500 // 64
    assert names(task) == []


def test_looking_at_the_data_changes_nothing_of_the_user():
    model = mlp()
    generator = torch.Generator().manual_seed(1)
    mine = DataLoader(TensorDataset(*TRAIN), 64, shuffle=True, generator=generator)
    task = lrtune.Task(model, mine, val=VAL, device="cpu")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn, own = torch.get_rng_state(), generator.get_state()
    found(task)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(generator.get_state(), own)
    assert not model[1]._forward_pre_hooks
    assert not model._forward_hooks


def test_each_name_has_its_constant():
    assert {name for check in MINE for name in CHECKS[check]} == {
        data.NONFINITE, data.CONSTANT, data.LAST_OF_ONE, labels.SINGLE_CLASS, labels.IMBALANCE,
        leakage.LEAKAGE, scale.UNSCALED, start_loss.START,
    }  # fmt: skip
