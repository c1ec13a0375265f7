"""Tasks that start badly, each beside its healthy twin."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from benchmarks.diagnosis.healthy import (
    DIGITS,
    TRAIN,
    VAL,
    Attention,
    Rows,
    conv,
    cross_entropy,
    mlp,
    segmenting,
)
from benchmarks.diagnosis.parts import (
    CPU,
    HEIGHTS,
    MASKS,
    F,
    Make,
    P,
    Series,
    changed,
    named,
    table,
    tabular,
    waves,
)
from benchmarks.quality import nets
from lrtune import Task

# --- start-loss


def large(factor: float, make: Callable[[], nn.Module], last: str) -> Callable[[], nn.Module]:
    """A model whose last layer starts with weights that are so many times too large."""

    def made() -> nn.Module:
        model = make()
        layer = model.get_submodule(last)
        with torch.no_grad():
            layer.weight.mul_(factor)
        return model

    return made


class Plain(nn.Module):
    """All weights drawn from a standard normal distribution."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.model = mlp()
        for weight in self.model.parameters():
            nn.init.normal_(weight, std=scale)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)


class Cold(nn.Module):
    """Divides its logits by a temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = conv(), temperature

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs) / self.temperature


class Biased(nn.Module):
    """A regression whose bias starts at a constant."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.model = mlp(1)
        nn.init.constant_(self.model[-1].bias, bias)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)


CENTIMETRES = HEIGHTS | {
    "train": (HEIGHTS["train"][0], 170 + 10 * HEIGHTS["train"][1]),
    "val": (HEIGHTS["val"][0], 170 + 10 * HEIGHTS["val"][1]),
    "optimizer": Adam,
}


# --- unscaled-inputs


def series(scale: float) -> Task:
    return Task(
        Series, waves(1500, 0, scale), val=waves(300, 1, scale), loss=nn.MSELoss(), optimizer=Adam,
        **CPU,
    )  # fmt: skip


def tables(*, raw: bool) -> Task:
    return Task(tabular, table(2000, 0, raw=raw), val=table(400, 7, raw=raw), optimizer=Adam, **CPU)


def scaled(make: Callable[[], nn.Module], factor: float, **settings: object) -> Task:
    data = (changed(one, lambda x: factor * x) for one in (TRAIN, VAL))
    return Task(make, next(data), val=next(data), **{**CPU, **settings})


# --- the names of the findings

BROKEN: dict[str, list[tuple[str, Make, Make]]] = {
    "start-loss": [
        ("a last layer 50 times too large", lambda: Task(large(50, mlp, "3"), **DIGITS),
         lambda: Task(mlp, **DIGITS)),
        ("weights from a standard normal", lambda: Task(Plain, **DIGITS, optimizer=Adam),
         lambda: Task(P(Plain, 0.1), **DIGITS, optimizer=Adam)),
        ("logits divided by 0.02", lambda: Task(P(Cold, 0.02), **DIGITS),
         lambda: Task(P(Cold, 1.0), **DIGITS)),
        ("an LSTM whose head is 60 times too large",
         lambda: Task(large(60, Rows, "tell"), **DIGITS, optimizer=Adam),
         lambda: Task(Rows, **DIGITS, optimizer=Adam)),
        ("the bias of a regression at 100", lambda: Task(P(Biased, 100.0), **HEIGHTS),
         lambda: Task(P(Biased, 0.0), **HEIGHTS)),
        ("heights in centimetres", lambda: Task(P(mlp, 1), **CENTIMETRES),
         lambda: Task(P(mlp, 1), **HEIGHTS)),
        ("a segmentation with logits 100 times too large",
         lambda: Task(large(100, segmenting, "2"), **MASKS),
         lambda: Task(segmenting, **MASKS)),
        ("an objective with logits 200 times too large",
         lambda: Task(large(200, mlp, "3"), named(TRAIN), objective=cross_entropy, **CPU),
         lambda: Task(mlp, named(TRAIN), objective=cross_entropy, **CPU)),
    ],
    "unscaled-inputs": [
        ("pixels from 0 to 255, CNN", lambda: scaled(nets.SmallCNN, 255),
         lambda: scaled(nets.SmallCNN, 1)),
        ("pixels from 0 to 255, MLP, Adam", lambda: scaled(mlp, 255, optimizer=Adam),
         lambda: scaled(mlp, 1, optimizer=Adam)),
        ("divided by 255 twice", lambda: scaled(mlp, 1 / 255), lambda: scaled(mlp, 1)),
        ("raw columns of a table", lambda: tables(raw=True), lambda: tables(raw=False)),
        ("a series of prices, GRU", lambda: series(1000.0), lambda: series(1.0)),
        ("pixels from 0 to 255, transformer",
         lambda: scaled(Attention, 255, optimizer=AdamW),
         lambda: scaled(Attention, 1, optimizer=AdamW)),
        ("bytes that the objective makes floats",
         lambda: Task(
             mlp, ((255 * TRAIN[0]).byte(), TRAIN[1]), val=((255 * VAL[0]).byte(), VAL[1]),
             objective=lambda m, b: F.cross_entropy(m(b[0].float()), b[1]), **CPU),
         lambda: Task(
             mlp, ((255 * TRAIN[0]).byte(), TRAIN[1]), val=((255 * VAL[0]).byte(), VAL[1]),
             objective=lambda m, b: F.cross_entropy(m(b[0].float() / 255), b[1]), **CPU)),
    ],
}  # fmt: skip
