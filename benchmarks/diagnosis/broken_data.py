"""Tasks with a bug in their data, each beside its healthy twin."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    TensorDataset,
)

from benchmarks.diagnosis.healthy import (
    TRAIN,
    VAL,
    Rows,
    conv,
    cross_entropy,
    mlp,
)
from benchmarks.diagnosis.parts import (
    CPU,
    HEIGHTS,
    MASKS,
    F,
    Make,
    P,
    Pair,
    changed,
    loader,
    named,
)
from benchmarks.quality import nets
from lrtune import Task

# --- nonfinite-data


class Items(Dataset[tuple[Tensor, Tensor]]):
    """The digits, made one by one; a transform may fail for some."""

    def __init__(self, data: Pair, spoil: Callable[[int, Tensor], Tensor] | None = None) -> None:
        self.data, self.spoil = data, spoil

    def __len__(self) -> int:
        return len(self.data[1])

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        image = self.data[0][place]
        return (self.spoil(place, image) if self.spoil else image), self.data[1][place]


def divided(place: int, image: Tensor) -> Tensor:
    """Standardises each image, and one of them is empty."""
    image = torch.zeros_like(image) if place in (700, 1311) else image
    return (image - image.mean()) / image.std()


def standardised(_place: int, image: Tensor) -> Tensor:
    return (image - image.mean()) / image.std()


class Cleaning(nn.Module):
    """Hides what is not a number."""

    def __init__(self, model: Callable[[], nn.Module] = mlp) -> None:
        super().__init__()
        self.model = model()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(inputs.nan_to_num(0.0))


def with_gaps(rows: list[int]) -> Pair:
    inputs = TRAIN[0].clone()
    for row in rows:
        inputs[row, 0, 3] = math.nan
    return inputs, TRAIN[1]


def unlabelled(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Leaves out what has no target."""
    there = torch.isfinite(batch["y"])
    return F.mse_loss(model(batch["x"])[there], batch["y"][there])


def measured(missing: list[int]) -> list[dict[str, Tensor]]:
    inputs, targets = HEIGHTS["train"]
    targets = targets.clone()
    targets[missing] = math.inf
    return [{"x": inputs[k : k + 64], "y": targets[k : k + 64]} for k in range(0, 1408, 64)]


# --- constant-inputs


class Stuck(Dataset[tuple[Tensor, Tensor]]):
    """Reads the first image whatever it is asked for."""

    def __len__(self) -> int:
        return len(TRAIN[1])

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        return TRAIN[0][0], TRAIN[1][place]


def cut(batch: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {name: one[rows] for name, one in batch.items()}


def written(data: Pair, *, unknown: bool) -> list[dict[str, Tensor]]:
    """Pixels as words of a vocabulary of 20; with another vocabulary all words are unknown."""
    words = 1 + (data[0].flatten(1) * 16).long()
    whole = {"ids": torch.zeros_like(words) if unknown else words, "label": data[1]}
    return [cut(whole, slice(k, k + 64)) for k in range(0, len(data[1]), 64)]


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.tell = nn.Embedding(20, 8), nn.Linear(512, 10)

    def forward(self, words: Tensor) -> Tensor:
        return self.tell(self.embed(words).flatten(1))


def by_words(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch["ids"]), batch["label"])


# --- leakage


WHOLE = torch.cat([TRAIN[0], VAL[0]]), torch.cat([TRAIN[1], VAL[1]])


def pictures(data: Pair) -> TensorDataset:
    """Images and the same as rows of pixels."""
    return TensorDataset(data[0], data[0].flatten(1))


# --- last-batch-of-one


def short(data: Pair, count: int, **settings: object) -> DataLoader[tuple[Tensor, ...]]:
    """The first samples, and a last batch of what is left."""
    return loader((data[0][:count], data[1][:count]), **settings)


def cut_up(data: Pair, size: int, count: int) -> list[Pair]:
    return [
        (data[0][k : k + size][: count - k], data[1][k : k + size][: count - k])
        for k in range(0, count, size)
    ]


def oversampled(data: Pair) -> Pair:
    """As many samples, drawn with replacement."""
    rows = torch.randint(len(data[1]), (len(data[1]),), generator=torch.Generator().manual_seed(4))
    return data[0][rows], data[1][rows]


def halves(data: Pair) -> tuple[Pair, Pair]:
    """The first three quarters and the last one."""
    cut = 3 * len(data[1]) // 4
    return (data[0][:cut], data[1][:cut]), (data[0][cut:], data[1][cut:])


# --- the names of the findings

BROKEN: dict[str, list[tuple[str, Make, Make]]] = {
    "nonfinite-data": [
        ("an empty image is standardised",
         lambda: Task(mlp, DataLoader(Items(TRAIN, divided), 64, shuffle=True), val=VAL, **CPU),
         lambda: Task(mlp, DataLoader(Items(TRAIN, standardised), 64, shuffle=True), val=VAL,
                      **CPU)),
        ("gaps that the model hides", lambda: Task(Cleaning, with_gaps([700, 701]), val=VAL, **CPU),
         lambda: Task(Cleaning, TRAIN, val=VAL, **CPU)),
        ("infinite targets that the objective leaves out",
         lambda: Task(P(mlp, 1), measured([1000]), objective=unlabelled, **CPU),
         lambda: Task(P(mlp, 1), measured([]), objective=unlabelled, **CPU)),
        ("NaN in the validation data, CNN",
         lambda: Task(P(Cleaning, conv), TRAIN, val=changed(VAL, lambda x: torch.where(
             torch.arange(len(x)).reshape(-1, 1, 1, 1) == 200, math.nan, x)), **CPU),
         lambda: Task(P(Cleaning, conv), TRAIN, val=VAL, **CPU)),
    ],
    "constant-inputs": [
        ("the first image for every index",
         lambda: Task(mlp, DataLoader(Stuck(), 64, shuffle=True), val=VAL, **CPU),
         lambda: Task(mlp, DataLoader(Items(TRAIN), 64, shuffle=True), val=VAL, **CPU)),
        ("an integer division of pixels",
         lambda: Task(conv, changed(TRAIN, lambda x: (200 * x).long().float() // 255), **CPU),
         lambda: Task(conv, changed(TRAIN, lambda x: (200 * x).long().float() / 255), **CPU)),
        ("a vocabulary that knows no word",
         lambda: Task(Reader, written(TRAIN, unknown=True), objective=by_words, optimizer=Adam,
                      **CPU),
         lambda: Task(Reader, written(TRAIN, unknown=False), objective=by_words, optimizer=Adam,
                      **CPU)),
        ("a softmax over an axis of one, LSTM",
         lambda: Task(Rows, changed(TRAIN, lambda x: x.softmax(1)), val=changed(
             VAL, lambda x: x.softmax(1)), optimizer=Adam, **CPU),
         lambda: Task(Rows, changed(TRAIN, lambda x: x.softmax(3)), val=changed(
             VAL, lambda x: x.softmax(3)), optimizer=Adam, **CPU)),
    ],
    "last-batch-of-one": [
        ("1025 digits, CNN", lambda: Task(conv, short(TRAIN, 1025), val=VAL, **CPU),
         lambda: Task(conv, short(TRAIN, 1025, drop_last=True), val=VAL, **CPU)),
        ("a U-Net, 321 masks",
         lambda: Task(P(nets.UNet, 3, norm=True), short(MASKS["train"], 321, size=16), val=
                      MASKS["val"], loss=MASKS["loss"], optimizer=Adam, **CPU),
         lambda: Task(P(nets.UNet, 3, norm=True), short(MASKS["train"], 320, size=16), val=
                      MASKS["val"], loss=MASKS["loss"], optimizer=Adam, **CPU)),
        ("a ResNet, batches in a list",
         lambda: Task(P(nets.ResNet, 1, 4, 10), cut_up(TRAIN, 32, 641), val=VAL, **CPU),
         lambda: Task(P(nets.ResNet, 1, 4, 10), cut_up(TRAIN, 32, 640), val=VAL, **CPU)),
    ],
    "leakage": [
        ("the training data for validation", lambda: Task(mlp, TRAIN, val=TRAIN, **CPU),
         lambda: Task(mlp, TRAIN, val=VAL, **CPU)),
        ("all data for training",
         lambda: Task(conv, WHOLE, val=VAL, **CPU), lambda: Task(conv, TRAIN, val=VAL, **CPU)),
        ("two loaders of one data set, in dicts",
         lambda: Task(mlp, named(TRAIN), val=named((TRAIN[0][:300], TRAIN[1][:300]), shuffle=False),
                      objective=cross_entropy, **CPU),
         lambda: Task(mlp, named(TRAIN), val=named(VAL, shuffle=False), objective=cross_entropy,
                      **CPU)),
        ("a tenth of the validation data, autoencoder",
         lambda: Task(P(mlp, 64), ConcatDataset([pictures(TRAIN), Subset(
             pictures(VAL), range(40))]), val=pictures(VAL), loss=nn.MSELoss(), **CPU),
         lambda: Task(P(mlp, 64), pictures(TRAIN), val=pictures(VAL), loss=nn.MSELoss(), **CPU)),
        ("oversampled, then split",
         lambda: Task(mlp, halves(oversampled(WHOLE))[0],
                      val=halves(oversampled(WHOLE))[1], **CPU),
         lambda: Task(mlp, oversampled(TRAIN), val=VAL, **CPU)),
    ],
}  # fmt: skip
