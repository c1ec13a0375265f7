"""Tasks whose units or gradients die on their way, each beside its healthy twin."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from benchmarks.diagnosis.healthy import DIGITS, TRAIN, VAL, mlp
from benchmarks.diagnosis.pieces import PIXELS, WORDS, Broken, on
from lrtune import Task

F = nn.functional


def low_bias(bias: float) -> nn.Module:
    model = mlp()
    nn.init.constant_(model[1].bias, bias)
    return model


def conv_bias(bias: float) -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    nn.init.constant_(model[3].bias, bias)
    return model


def bounded(gain: float, middle: nn.Module) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), middle, nn.Linear(32, 10))
    with torch.no_grad():
        model[1].weight.mul_(gain)
    return model


class Feed(nn.Module):
    """A feed-forward part of a transformer, over words; its hidden units may be shifted."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(20, 16), nn.LayerNorm(16)
        self.one, self.two, self.tell = nn.Linear(16, 64), nn.Linear(64, 16), nn.Linear(16, 2)
        nn.init.constant_(self.one.bias, shift)

    def forward(self, inputs: Tensor) -> Tensor:
        vectors = self.embed(inputs)
        hidden = F.gelu(self.one(self.norm(vectors)))
        return self.tell((vectors + self.two(hidden)).amax(1))


def pixels(change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """The digits with other pixels."""
    return DIGITS | {"train": (change(TRAIN[0]), TRAIN[1]), "val": (change(VAL[0]), VAL[1])}


def positive_weights() -> nn.Module:
    model = mlp()
    with torch.no_grad():
        model[1].weight.abs_()
    return model


DEAD = [
    (
        "biases at -5",
        lambda: Task(lambda: low_bias(-5.0), **DIGITS),
        lambda: Task(lambda: low_bias(0.0), **DIGITS),
    ),
    (
        "a convolution with biases at -3",
        lambda: Task(lambda: conv_bias(-3.0), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: conv_bias(0.0), **DIGITS, optimizer=Adam),
    ),
    (
        "saturated sigmoids",
        lambda: Task(lambda: bounded(100.0, nn.Sigmoid()), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: bounded(1.0, nn.Sigmoid()), **DIGITS, optimizer=Adam),
    ),
    (
        "saturated tanhs, pixels to 255",
        lambda: Task(
            lambda: bounded(10.0, nn.Tanh()),
            (255 * TRAIN[0], TRAIN[1]),
            device="cpu",
            optimizer=Adam,
        ),
        lambda: Task(lambda: bounded(1.0, nn.Tanh()), TRAIN, device="cpu", optimizer=Adam),
    ),
    (
        "GELUs at -10",
        lambda: on(WORDS, lambda: Feed(-10.0), optimizer=Adam),
        lambda: on(WORDS, lambda: Feed(0.0), optimizer=Adam),
    ),
    (
        "positive weights, negative pixels",
        lambda: Task(positive_weights, **pixels(lambda x: x - 2), optimizer=Adam),
        lambda: Task(mlp, **pixels(lambda x: x - 2), optimizer=Adam),
    ),
    (
        "a sigmoid of pixels to 255",
        lambda: Task(
            lambda: bounded(1.0, nn.Sigmoid()), **pixels(lambda x: 255 * x), optimizer=Adam
        ),
        lambda: Task(
            lambda: bounded(1.0, nn.ReLU6()), **pixels(lambda x: 2 * x - 1), optimizer=Adam
        ),
    ),
]


# --- vanishing and exploding gradients ------------------------------------------------------------


def tower(
    depth: int,
    middle: Callable[[], nn.Module],
    *,
    std: float | None = None,
    norm: bool = False,
    width: int = 32,
) -> nn.Module:
    """So many layers, one after the other; their weights with a standard deviation of their own."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(64, width), middle()]
    for _ in range(depth - 2):
        layers += [nn.Linear(width, width), *([nn.BatchNorm1d(width)] if norm else []), middle()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    for one in model:
        if std is not None and isinstance(one, nn.Linear):
            nn.init.normal_(one.weight, std=std)
            nn.init.zeros_(one.bias)
    return model


def conv_tower(depth: int, gain: float) -> nn.Module:
    """Convolutions one after the other, their weights He's times a gain."""
    parts: list[nn.Module] = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()]
    for _ in range(depth - 1):
        parts += [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10))
    for one in model:
        if isinstance(one, nn.Conv2d):
            nn.init.kaiming_normal_(one.weight, nonlinearity="relu")
            with torch.no_grad():
                one.weight.mul_(gain)
    return model


class Residual(nn.Module):
    """Blocks whose outputs are added up, with or without a norm in front of each."""

    def __init__(self, depth: int, *, norm: bool, std: float) -> None:
        super().__init__()
        self.inward, self.tell = nn.Linear(64, 32), nn.Linear(32, 10)
        self.blocks = nn.ModuleList(nn.Linear(32, 32) for _ in range(depth))
        self.norm = nn.LayerNorm(32) if norm else nn.Identity()
        for one in self.blocks:
            nn.init.normal_(one.weight, std=std)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.inward(inputs.flatten(1))
        for block in self.blocks:
            hidden = hidden + block(self.norm(hidden)).relu()
        return self.tell(self.norm(hidden))


def auto_tower(middle: Callable[[], nn.Module], depth: int) -> nn.Module:
    """An autoencoder of many layers."""
    sizes = [64, *[24] * (depth - 1)]
    parts: list[nn.Module] = [nn.Flatten()]
    for one, other in itertools.pairwise(sizes):
        parts += [nn.Linear(one, other), middle()]
    return nn.Sequential(*parts, nn.Linear(24, 64))


class Recurrent(nn.Module):
    """Reads the rows of an image, and those again; its recurrent weights times a gain."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.read = nn.RNN(8, 32, nonlinearity="relu", batch_first=True)
        self.tell = nn.Linear(32, 10)
        with torch.no_grad():
            self.read.weight_hh_l0.copy_(gain * torch.eye(32))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.tell(self.read(inputs[:, 0].repeat(1, 6, 1))[0][:, -1])


def conv_sigmoids(depth: int, middle: Callable[[], nn.Module]) -> nn.Module:
    parts: list[nn.Module] = [nn.Conv2d(1, 8, 3, padding=1), middle()]
    for _ in range(depth - 1):
        parts += [nn.Conv2d(8, 8, 3, padding=1), middle()]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(512, 10))


VANISHING = [
    (
        "ten layers of sigmoids",
        lambda: Task(lambda: tower(10, nn.Sigmoid), **DIGITS, optimizer=Adam),
        lambda: Task(
            lambda: tower(10, nn.ReLU, std=(2 / 32) ** 0.5), **DIGITS, optimizer=Adam
        ),
    ),
    (
        "weights of standard deviation 0.01",
        lambda: Task(lambda: tower(8, nn.ReLU, std=0.01), **DIGITS),
        lambda: Task(lambda: tower(8, nn.ReLU, std=0.25), **DIGITS),
    ),
    (
        "a deep CNN, weights a fifth of He's",
        lambda: Task(lambda: conv_tower(12, 0.2), **DIGITS),
        lambda: Task(lambda: conv_tower(12, 1.0), **DIGITS),
    ),
    (
        "a deep autoencoder of sigmoids",
        lambda: Task(
            lambda: auto_tower(nn.Sigmoid, 10), **PIXELS, loss=nn.MSELoss(), optimizer=Adam
        ),
        lambda: Task(lambda: auto_tower(nn.ELU, 6), **PIXELS, loss=nn.MSELoss(), optimizer=Adam),
    ),
    (
        "a CNN of sigmoids",
        lambda: Task(lambda: conv_sigmoids(9, nn.Sigmoid), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: conv_sigmoids(5, nn.ELU), **DIGITS, optimizer=Adam),
    ),
    (
        "twenty layers of tanh",
        lambda: Task(lambda: tower(20, nn.Tanh), **DIGITS),
        lambda: Task(lambda: tower(20, nn.Tanh, std=32**-0.5), **DIGITS),
    ),
]  # fmt: skip

EXPLODING = [
    (
        "weights of standard deviation 1",
        lambda: Task(lambda: tower(8, nn.ReLU, std=1.0), **DIGITS),
        lambda: Task(lambda: tower(8, nn.ReLU, std=0.25), **DIGITS),
    ),
    (
        "a deep CNN, weights four times He's",
        lambda: Task(lambda: conv_tower(10, 4.0), **DIGITS),
        lambda: Task(lambda: conv_tower(10, 1.0), **DIGITS),
    ),
    (
        "residual blocks without norms",
        lambda: Task(lambda: Residual(24, norm=False, std=0.5), **DIGITS),
        lambda: Task(lambda: Residual(24, norm=True, std=0.5), **DIGITS),
    ),
    (
        "a recurrent layer with weights of 1.5",
        lambda: Task(lambda: Recurrent(1.5), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: Recurrent(0.9), **DIGITS, optimizer=Adam),
    ),
    (
        "an MLP after normal_()",
        lambda: Task(lambda: tower(5, nn.ReLU, std=1.0, width=64), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: tower(5, nn.ReLU, width=64), **DIGITS, optimizer=Adam),
    ),
]


BROKEN: Broken = {
    "dead-units": DEAD,
    "vanishing-gradients": VANISHING,
    "exploding-gradients": EXPLODING,
}
