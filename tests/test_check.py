"""check(): what will be trained, and what is odd about it; on broken tasks and healthy twins."""

import copy
import json
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, TensorDataset
from typer.testing import CliRunner

import lrtune
from benchmarks.diagnosis import healthy
from lrtune.cli.commands import app
from lrtune.demo import images
from lrtune.diagnosis.check import look
from lrtune.diagnosis.registry import CHECKS, CONTINUATIONS, TRIALS
from lrtune.results import read
from lrtune.testing import bowl

TRAIN, VAL = images()


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def task_of(train=TRAIN, **settings):
    return lrtune.Task(mlp, train, val=VAL, device="cpu", **settings)


def loader(**settings):
    return DataLoader(TensorDataset(*TRAIN), batch_size=64, **settings)


class Stream(IterableDataset):
    """Each worker reads all of it."""

    def __iter__(self):
        return zip(*TRAIN, strict=True)


class SeededByEpoch(Sampler):
    """Shuffles by itself, by a number that it is given once; or by the global generator."""

    def __init__(self, seed=None):
        self.seed = seed

    def __iter__(self):
        generator = None if self.seed is None else torch.Generator().manual_seed(self.seed)
        return iter(torch.randperm(len(TRAIN[1]), generator=generator).tolist())

    def __len__(self):
        return len(TRAIN[1])


def two_groups(model, lr):
    back, head = model[1].parameters(), model[3].parameters()
    return torch.optim.SGD([{"params": back, "lr": 1e-3}, {"params": head}], lr=lr)


def halved(model, lr):
    back, head = model[1].parameters(), model[3].parameters()
    return torch.optim.SGD([{"params": back, "lr": lr / 2}, {"params": head}], lr=lr)


def layer_decay(model, lr):
    back, head = model[1].parameters(), model[3].parameters()
    return torch.optim.SGD([{"params": back, "lr_scale": 0.5}, {"params": head}], lr=lr)


class Counting(nn.Sequential):
    """Counts its forward passes in train mode."""

    def __init__(self):
        super().__init__(*mlp())
        self.passes = 0

    def forward(self, inputs):
        self.passes += self.training
        return super().forward(inputs)


def annealed(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1]) + 0.1 * model.passes


class Annealed:
    passes = 0

    def __call__(self, model, batch):
        self.passes += 1
        return nn.functional.cross_entropy(model(batch[0]), batch[1]) + 0.1 * self.passes


def with_a_teacher():
    """A teacher outside of the task, which follows every run."""
    student = mlp()
    teacher = copy.deepcopy(student)

    def objective(model, batch):
        with torch.no_grad():
            for mean, new in zip(teacher.parameters(), model.parameters(), strict=True):
                mean.lerp_(new, 0.1)
        outputs = model(batch[0])
        apart = nn.functional.mse_loss(outputs, teacher(batch[0]).detach())
        return nn.functional.cross_entropy(outputs, batch[1]) + 50 * apart

    return objective_task(objective, model=student)


def of_the_newest():
    """A penalty on the weights of the model that was made last."""
    newest = {}

    def make():
        newest["model"] = mlp()
        return newest["model"]

    def loss(outputs, labels):
        size = sum(weight.square().sum() for weight in newest["model"].parameters())
        return nn.functional.cross_entropy(outputs, labels) + 0.1 * size

    return lrtune.Task(make, TRAIN, loss=loss, device="cpu")


def with_its_own_generator():
    numbers = np.random.default_rng(0)

    def objective(model, batch):
        noise = float(numbers.normal()) if model.training else 0.0
        return nn.functional.cross_entropy(model(batch[0] + noise), batch[1])

    return objective_task(objective)


def by_the_epoch():
    """The weight of a penalty grows with the epochs that the loader has begun."""
    begun = {"epoch": 0}

    class Loader:
        def __iter__(self):
            begun["epoch"] += 1
            return iter([TRAIN])

    def objective(model, batch):
        outputs = model(batch[0])
        penalty = begun["epoch"] / 20 * outputs.square().mean()
        return nn.functional.cross_entropy(outputs, batch[1]) + penalty

    return objective_task(objective, Loader())


def objective_task(objective, train=TRAIN, *, model=mlp, **settings):
    return lrtune.Task(model, train, objective=objective, device="cpu", **settings)


def training(model, batch):
    model.train()
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def mixed(model, batch):
    share, others = torch.rand(()), torch.randperm(len(batch[1]))
    outputs = model(share * batch[0] + (1 - share) * batch[0][others])
    losses = (nn.functional.cross_entropy(outputs, y) for y in (batch[1], batch[1][others]))
    return share * next(losses) + (1 - share) * next(losses)


def weighted(model, batch):
    x, y = (batch["x"], batch["y"]) if "y" in batch else batch["x"]
    return nn.functional.cross_entropy(model(x), y, weight=batch["w"])


BROKEN = {
    "unshuffled": [
        lambda: task_of(loader()),
        lambda: task_of([tuple(t[k : k + 64] for t in TRAIN) for k in range(0, 640, 64)]),
        lambda: task_of(loader(sampler=SeededByEpoch(3))),
    ],
    "repeated-batches": [
        lambda: task_of(DataLoader(Stream(), batch_size=64, num_workers=2)),
        lambda: task_of([TRAIN, TRAIN]),
        lambda: lrtune.Task(
            mlp, TRAIN, val=DataLoader(Stream(), batch_size=64, num_workers=2), device="cpu"
        ),
    ],
    "summed-loss": [
        lambda: task_of(loss=nn.CrossEntropyLoss(reduction="sum")),
        lambda: objective_task(lambda m, b: (m(b[0]) ** 2).sum()),
    ],
    "loss-of-the-batch": [lambda: objective_task(lambda m, b: m(b[0]).logsumexp(0).sum())],
    "drifting-loss": [lambda: objective_task(annealed, model=Counting)],
    "shared-counter": [lambda: objective_task(Annealed())],
    "shared-state": [with_a_teacher, of_the_newest, with_its_own_generator, by_the_epoch],
    "uneven-rows": [
        lambda: objective_task(weighted, [{"w": torch.ones(10), "x": TRAIN[0], "y": TRAIN[1]}]),
        lambda: objective_task(weighted, [{"w": torch.ones(10), "x": (TRAIN[0], TRAIN[1])}]),
    ],
    "random-validation": [
        lambda: objective_task(mixed, val=VAL),
        lambda: objective_task(mixed, val=(VAL[0][:18], VAL[1][:18]), train=loader(shuffle=True)),
    ],
    "trains-in-validation": [lambda: objective_task(training, val=VAL)],
    "few-validation-samples": [
        lambda: lrtune.Task(mlp, TRAIN, val=(VAL[0][:12], VAL[1][:12]), device="cpu"),
        lambda: objective_task(
            weighted,
            [{"w": torch.ones(10), "x": TRAIN[0], "y": TRAIN[1]}],
            val=[
                {"w": torch.ones(10), "x": VAL[0][part], "y": VAL[1][part]}
                for part in (slice(200), slice(200, 210))
            ],
        ),
    ],
    "group-multiplier": [lambda: task_of(optimizer=layer_decay)],
    "limited-rate": [
        lambda: task_of(
            optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr=min(lr, 0.003))
        ),
        lambda: task_of(
            optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr=max(lr, 1e-4))
        ),
        lambda: task_of(
            optimizer=lambda model, lr: torch.optim.SGD(
                [{"params": [model[1].weight], "lr": min(lr, 1.0)}, {"params": [model[1].bias]}],
                lr=lr,
            )
        ),
    ],
    "fixed-group-rate": [lambda: task_of(optimizer=two_groups)],
}
"""Names of findings to tasks that have them."""


def bordered(seed):
    pictures = torch.zeros(640, 1, 28, 28)
    pictures[:, :, 4:-4, 4:-4] = torch.rand(
        640, 1, 20, 20, generator=torch.Generator().manual_seed(seed)
    )
    return pictures


@dataclass
class Drawn:
    """A batch of a form of its own."""

    images: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def of(cls, rows):
        return cls(torch.stack([x for x, _ in rows]), torch.stack([y for _, y in rows]))

    def to(self, device):
        return Drawn(self.images.to(device), self.labels.to(device))


class Words(Dataset):
    """One number of 4,000 is not zero in each row."""

    def __len__(self):
        return 256

    def __getitem__(self, row):
        return nn.functional.one_hot(torch.tensor(17 * row % 4000), 4000).float()


HEALTHY = {
    "tensors": task_of,
    "loader": lambda: task_of(loader(shuffle=True)),
    "sampler": lambda: task_of(loader(sampler=SeededByEpoch())),
    "dropped": lambda: task_of(loader(shuffle=True, drop_last=True)),
    "dataset": lambda: task_of(TensorDataset(*TRAIN)),
    "adamw": lambda: task_of(optimizer=partial(torch.optim.AdamW, weight_decay=0.05)),
    "groups": lambda: task_of(optimizer=halved),
    "bowl": lambda: bowl(4.0),
    "one batch": lambda: task_of([TRAIN]),
    "mostly zeros": lambda: lrtune.Task(
        nn.Linear(4000, 1),
        DataLoader(Words(), batch_size=16, shuffle=True),
        device="cpu",
        objective=lambda model, batch: (model(batch) - 1).square().mean(),
    ),
    "pictures with black borders": lambda: lrtune.Task(
        nn.Conv2d(1, 1, 3, padding=1),
        DataLoader(bordered(3), batch_size=64, shuffle=True),
        val=DataLoader(bordered(4), batch_size=64),
        device="cpu",
        objective=lambda model, batch: (model(batch) - batch).square().mean(),
    ),
    "objects": lambda: lrtune.Task(
        mlp,
        DataLoader(TensorDataset(*TRAIN), 64, shuffle=True, collate_fn=Drawn.of),
        device="cpu",
        objective=lambda m, b: nn.functional.cross_entropy(m(b.images), b.labels),
    ),
    "objective": lambda: lrtune.Task(
        mlp, TRAIN, objective=lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]), device="cpu"
    ),
}


def names(seen):
    return [one.name for one in seen.findings]


@pytest.mark.parametrize(
    ("name", "make"), [(name, make) for name, makes in BROKEN.items() for make in makes]
)
def test_what_is_odd_is_found_with_its_evidence_and_a_way_out(name, make):
    seen = look(make())
    (found,) = [one for one in seen.findings if one.name == name]
    assert found.evidence.endswith(".")
    assert found.remedy.endswith(".")
    assert any(character.isdigit() for character in found.evidence)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_task_has_nothing(name):
    assert look(HEALTHY[name]()).findings == ()


def test_every_name_of_a_finding_is_listed_once_and_has_a_broken_task():
    listed = [name for found in CHECKS.values() for name in found]
    assert len(listed) == len(set(listed))
    elsewhere = {
        name
        for file in sorted(Path(healthy.__file__).parent.glob("broken_*.py"))
        for name in import_module(f"benchmarks.diagnosis.{file.stem}").BROKEN
    }
    known = {name for found in (CHECKS | TRIALS | CONTINUATIONS).values() for name in found}
    assert set(BROKEN) | elsewhere == known - {"same-order-in-epochs", "same-order-for-seeds"}


def test_looking_changes_nothing_of_the_user():
    model, mine = mlp(), loader(shuffle=True, generator=torch.Generator().manual_seed(1))
    task = lrtune.Task(model, mine, val=VAL, device="cpu")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn, own = torch.get_rng_state(), mine.generator.get_state()
    lrtune.check(task)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(mine.generator.get_state(), own)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_it_makes_as_many_updates_as_it_says():
    made = []
    handle = register_optimizer_step_post_hook(lambda *_: made.append(1))
    task = lrtune.Task(nn.Linear(3, 2), (torch.randn(64, 3), torch.arange(64) % 2), device="cpu")
    made.clear()
    try:
        lrtune.check(task)
    finally:
        handle.remove()
    assert len(made) == 20
    assert "twenty updates" in lrtune.check.__doc__


def test_it_says_what_will_be_trained():
    seen = lrtune.check(task_of(optimizer=two_groups))
    assert seen.facts["Batches in an epoch"] == "22"
    assert seen.facts["Validation samples"] == "180 for selection, 179 for test"
    assert seen.groups["fixed"].tolist() == [True, False]
    assert seen.groups["lr"].tolist() == [1e-3, 1.0]
    assert seen.groups["parameters"].sum() == sum(p.numel() for p in mlp().parameters())
    assert seen.facts["Order of the batches"] == "another in each epoch and for each seed"
    assert seen.facts["Loss of a batch"] == "the mean of those of its rows"
    assert seen.facts["Loss before training"].startswith("2.")
    assert "One update" in seen.facts
    assert "One update" not in look(task_of()).facts


def test_it_comes_back_from_json_and_prints_in_a_few_lines():
    seen = lrtune.check(task_of(loader()))
    (again,) = read(seen.to_json())
    assert again.to_json() == seen.to_json()
    assert again.findings == seen.findings
    assert "unshuffled" in str(seen)
    assert len(str(seen).splitlines()) < 30


def test_the_command_prints_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.py").write_text(
        "from tests.test_check import task_of, loader, two_groups\n"
        "task = task_of(loader(), optimizer=two_groups)\n"
    )
    run = CliRunner().invoke(app, ["check", "odd.py:task"])
    assert run.exit_code == 0
    assert "unshuffled" in run.output
    assert "whatever lr is" in run.output
    plain = json.loads(CliRunner().invoke(app, ["check", "odd.py:task", "--json"]).output)
    assert plain["results"][0]["kind"] == "diagnosis"
    assert CliRunner().invoke(app, ["check", "nowhere.py"]).exit_code == 2
    assert "Nothing found" in CliRunner().invoke(app, ["check"]).output
