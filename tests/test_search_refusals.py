"""No answer where nothing can be learned: each task here is broken in another way."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import SGD, AdamW

from lrtune import Task, compare, range_test, search
from lrtune.demo import images
from lrtune.errors import SearchError
from lrtune.testing import bowl

TRAIN, VAL = images()
STEPS = 60
GENERATOR = torch.Generator


def mlp(outputs: int = 10) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, outputs))


def after(*layers: nn.Module, outputs: int = 10) -> Callable[[], nn.Module]:
    """A model whose last layers spoil what it says."""
    return lambda: nn.Sequential(mlp(outputs), *layers)


def edited(change: Callable[[nn.Module], object]) -> Callable[[], nn.Module]:
    """A model that was changed after it was made."""

    def make() -> nn.Module:
        model = mlp()
        with torch.no_grad():
            change(model)
        return model

    return make


def shuffled(data: tuple[torch.Tensor, torch.Tensor], seed: int) -> tuple[torch.Tensor, ...]:
    inputs, labels = data
    return inputs, labels[torch.randperm(len(labels), generator=GENERATOR().manual_seed(seed))]


def with_inputs(make: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, object]:
    return {"train": (make(TRAIN[0]), TRAIN[1]), "val": (make(VAL[0]), VAL[1])}


def with_targets(make: Callable[[int, int], torch.Tensor]) -> dict[str, object]:
    return {
        "train": (TRAIN[0], make(len(TRAIN[1]), 1)),
        "val": (VAL[0], make(len(VAL[1]), 2)),
    }


def noise(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR().manual_seed(seed))


def draw(rows: int, seed: int) -> torch.Tensor:
    return torch.randint(10, (rows,), generator=GENERATOR().manual_seed(seed))


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return self.factor * outputs


class Detached(nn.Module):
    """Only a bias that no label depends on gets a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.bias = mlp(), nn.Parameter(torch.zeros(1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.net(inputs).detach() * 0 + self.bias


class Idle(SGD):
    """An optimizer whose steps move next to nothing, at any rate."""

    def step(self, closure: object = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.mul_(1 + 1e-9 * group["lr"])


class Lost(SGD):
    """An optimizer that follows another gradient than that of the loss."""

    def step(self, closure: object = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(group["lr"] * parameter.grad.flip(0))


def symmetric(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.zero_()


def killed(model: nn.Module) -> None:
    model[1].bias.fill_(-100.0)


binary = {
    "model": functools.partial(mlp, 1),
    "loss": nn.BCEWithLogitsLoss(),
    **with_targets(lambda rows, seed: (noise((rows, 1), seed) > 0).float()),
}
regression = {"model": functools.partial(mlp, 1), "loss": nn.MSELoss()}

BROKEN: dict[str, dict[str, object]] = {
    "an output that is cut off": {"model": after(nn.Hardtanh(0, 1e-4))},
    "a dead ReLU at the end": {"model": after(Scaled(-1.0), nn.ReLU(), nn.Threshold(9.0, 0.0))},
    "a dead hidden layer": {"model": edited(killed)},
    "all weights zero": {"model": edited(symmetric)},
    "an output of no size": {"model": after(Scaled(1e-9))},
    "everything dropped": {"model": after(nn.Dropout(1.0))},
    "a detached output": {"model": Detached},
    "shuffled labels": {"train": shuffled(TRAIN, 1), "val": shuffled(VAL, 2)},
    "random labels": with_targets(draw),
    "constant images": with_inputs(torch.ones_like),
    "black images": with_inputs(torch.zeros_like),
    "images of noise": with_inputs(lambda rows: noise(tuple(rows.shape), len(rows))),
    "one label only": with_targets(lambda rows, _: torch.zeros(rows, dtype=torch.long)),
    "labels that do not fit the validation data": {"train": shuffled(TRAIN, 1)},
    "a loss that is raised": {"optimizer": functools.partial(AdamW, maximize=True)},
    "SGD uphill": {"optimizer": functools.partial(SGD, maximize=True)},
    "an optimizer that follows the wrong gradient": {"optimizer": Lost},
    "an optimizer that moves nothing": {"optimizer": Idle},
    "targets [n] against outputs [n, 1]": {
        **regression, "train": (TRAIN[0], TRAIN[1].float()), "val": (VAL[0], VAL[1].float()),
    },
    "targets of noise": {**regression, **with_targets(lambda rows, s: noise((rows, 1), s))},
    "binary targets by chance": binary,
    "absolute errors of noise": {
        "model": functools.partial(mlp, 1), "loss": nn.L1Loss(),
        **with_targets(lambda rows, seed: noise((rows, 1), seed)),
    },
    "a loss times zero": {
        "objective": lambda model, batch: 2.3 + 0 * functional.cross_entropy(
            model(batch[0]), batch[1]
        ),
    },
    "an objective of shuffled labels": {
        "train": shuffled(TRAIN, 1), "val": shuffled(VAL, 2),
        "objective": lambda model, batch: functional.cross_entropy(model(batch[0]), batch[1]) - 9,
    },
}  # fmt: skip


WAYS = [
    {"steps": STEPS},
    pytest.param({"steps": 250, "budget": 1.0}, marks=pytest.mark.slow),
    pytest.param({"steps": 5000, "budget": 0.1}, marks=pytest.mark.slow),
]
"""Whole trainings; and short runs alone, which go through the data a few times."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS, ids=["whole", "budget 1", "long"])
@pytest.mark.parametrize("kind", BROKEN)
def test_nothing_is_answered_where_nothing_can_be_learned(kind, way):
    given = {"model": mlp, "train": TRAIN, "val": VAL} | BROKEN[kind]
    model, train = given.pop("model"), given.pop("train")
    task = Task(model, train, device="cpu", **given)
    with pytest.raises(SearchError) as caught:
        search(task, **way)
    assert "nothing was learned" in str(caught.value) or "diverging" in str(caught.value)


# --- losses without a lowest value ---------------------------------------------------------------

ENDLESS = {
    "the wrong sign": {"loss": lambda out, y: -functional.cross_entropy(out, y)},
    "scores in place of logs": {"loss": nn.NLLLoss()},
    "the mean of a score": {"objective": lambda m, b: -m(b[0]).gather(1, b[1][:, None]).mean()},
}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("steps", [60, 200, 400])
def test_a_loss_that_falls_without_end_has_no_rate(name, steps):
    task = Task(mlp, TRAIN, val=VAL, device="cpu", **ENDLESS[name])
    with pytest.raises(SearchError, match=r"falls without end|nothing was learned"):
        search(task, steps=steps)
    with pytest.raises(SearchError):
        compare(task, 0.1, steps=steps, schedules=["cosine"], seeds=2)
    assert any("falls without end" in one for one in range_test(task, steps=100).warnings)


# --- what was learned by heart, and where a search begins -----------------------------------------


@pytest.mark.parametrize("schedule", [None, "constant"])
def test_few_samples_in_one_batch_are_learned_at_lower_rates_than_by_heart(schedule):
    mix = torch.randn(4, 3, generator=GENERATOR().manual_seed(77))
    parts = [(noise((300, 4), k), noise((300, 3), k + 2)) for k in (0, 1)]
    train, val = ((x, (x @ mix + 0.5 * e).argmax(1)) for x, e in parts)

    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3))

    found = search(Task(net, train, val=val, batch_size=300), steps=200, schedule=schedule)
    assert found.lr < 0.6
    assert found.best.loss < 0.7


def said(call: Callable[[], object]) -> object:
    """What a call returns, or the text of its error."""
    try:
        return call()
    except SearchError as error:
        return str(error)


@pytest.mark.parametrize("around", [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0])
def test_where_a_search_begins_decides_no_answer_without_a_word(around):
    """The best constant rate of this bowl is 1 / 4; half of its largest stable one."""
    found = said(lambda: search(bowl(4.0), steps=60, schedule="constant", around=around))
    if isinstance(found, str):
        assert "as `around`, leave it out" in found
        return
    assert 0.25 / 2 < found.lr < 0.5 or any("began near" in one for one in found.warnings)
