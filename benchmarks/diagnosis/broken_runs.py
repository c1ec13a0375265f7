"""Tasks that do not learn what they should, each beside its healthy twin."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.diagnosis.healthy import (
    DIGITS,
    TRAIN,
    VAL,
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
    Pair,
    changed,
    named,
    permuted,
)
from benchmarks.diagnosis.trainings import Training
from benchmarks.quality import nets
from lrtune import Task

# --- cannot-overfit-one-batch


class Detached(nn.Module):
    """Somebody wanted to save memory."""

    def __init__(self, *, detach: bool) -> None:
        super().__init__()
        self.read, self.tell, self.detach = nn.Linear(64, 32), nn.Linear(32, 10), detach

    def forward(self, inputs: Tensor) -> Tensor:
        code = self.read(inputs.flatten(1)).relu()
        return self.tell(code.mean(0, keepdim=True).expand_as(code) if self.detach else code)


def forgetful(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Draws the pairs of images and labels anew at each step."""
    return F.cross_entropy(model(batch[0]), batch[1][torch.randperm(len(batch[1]))])


def straight(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


class Bounded(nn.Module):
    """A sigmoid at the end of a regression whose targets go from 0 to 9."""

    def __init__(self, *, bounded: bool) -> None:
        super().__init__()
        self.model, self.bounded = mlp(1), bounded

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.model(inputs)
        return outputs.sigmoid() if self.bounded else outputs


def dropping(share: float) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(share), nn.Linear(64, 64), nn.ReLU(),
        nn.Dropout(share), nn.Linear(64, 10),
    )  # fmt: skip


class Pooled(nn.Module):
    """Takes the mean over the wrong axis: over the batch, and not over time."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.embed, self.axis, self.tell = nn.Linear(8, 32), axis, nn.Linear(32, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        code = self.embed(inputs[:, 0]).relu()
        pooled = code.mean(self.axis)
        return self.tell(pooled if self.axis else pooled.mean(0).expand(len(inputs), -1))


DIGIT_SIZES = {
    "train": (TRAIN[0], TRAIN[1].float().unsqueeze(1)),
    "val": (VAL[0], VAL[1].float().unsqueeze(1)),
    "loss": nn.MSELoss(),
    "optimizer": Adam,
    **CPU,
}


# --- uninformative-labels


def alone(data: Pair, change: Callable[[Tensor], Tensor]) -> Pair:
    """Changes the labels, and forgets the inputs."""
    return data[0], change(data[1])


def in_order(labels: Tensor) -> Tensor:
    return labels.sort(dim=0).values


def shifted(labels: Tensor) -> Tensor:
    """The labels of the next file but three."""
    return labels.roll(3, 0)


# --- batch-size, sharpness

IMAGES = {
    "train": (TRAIN[0], TRAIN[0].flatten(1)),
    "val": (VAL[0], VAL[0].flatten(1)),
    "loss": nn.MSELoss(),
    **CPU,
}


def noisy(data: Pair, share: float) -> Pair:
    """Draws some of the labels anew."""
    labels = data[1].clone()
    wrong = torch.rand(len(labels), generator=torch.Generator().manual_seed(0)) < share
    labels[wrong] = permuted(labels)[wrong]
    return data[0], labels


# --- the names of the findings

_CNN, _MLP = P(Task, nets.SmallCNN, **DIGITS), P(Task, mlp, **DIGITS)
_IMAGES = P(Task, P(mlp, 64), **IMAGES, optimizer=SGD)
_HEIGHTS = P(Task, P(mlp, 1), **HEIGHTS, optimizer=SGD)

BROKEN: dict[str, list[tuple[str, Make, Make]]] = {
    "cannot-overfit-one-batch": [
        ("a mean over the batch", lambda: Task(P(Detached, detach=True), **DIGITS, optimizer=Adam),
         lambda: Task(P(Detached, detach=False), **DIGITS, optimizer=Adam)),
        ("pairs that are drawn anew", lambda: Task(mlp, TRAIN, objective=forgetful, **CPU),
         lambda: Task(mlp, TRAIN, objective=straight, **CPU)),
        ("a sigmoid for targets from 0 to 9", lambda: Task(P(Bounded, bounded=True), **DIGIT_SIZES),
         lambda: Task(P(Bounded, bounded=False), **DIGIT_SIZES)),
        ("dropout of 0.98", lambda: Task(P(dropping, 0.98), **DIGITS),
         lambda: Task(P(dropping, 0.5), **DIGITS)),
        ("pooled over the wrong axis", lambda: Task(P(Pooled, 0), **DIGITS, optimizer=AdamW),
         lambda: Task(P(Pooled, 1), **DIGITS, optimizer=AdamW)),
        ("a weight decay of 10", lambda: Task(conv, **DIGITS, optimizer=P(SGD, weight_decay=10.0)),
         lambda: Task(conv, **DIGITS, optimizer=P(SGD, weight_decay=1e-4))),
    ],
    "uninformative-labels": [
        ("labels sorted alone",
         lambda: Task(mlp, alone(TRAIN, in_order), val=alone(VAL, in_order), **CPU),
         lambda: Task(mlp, TRAIN, val=VAL, **CPU)),
        ("labels shuffled alone, CNN, Adam",
         lambda: Task(conv, alone(TRAIN, permuted), val=VAL, optimizer=Adam, **CPU),
         lambda: Task(conv, TRAIN, val=VAL, optimizer=Adam, **CPU)),
        ("validation labels of other files",
         lambda: Task(nets.SmallCNN, TRAIN, val=alone(VAL, shifted), optimizer=AdamW, **CPU),
         lambda: Task(nets.SmallCNN, TRAIN, val=VAL, optimizer=AdamW, **CPU)),
        ("targets joined by the wrong key, regression",
         lambda: Task(P(mlp, 1), alone(HEIGHTS["train"], permuted),
                      val=alone(HEIGHTS["val"], permuted), loss=nn.MSELoss(), optimizer=Adam,
                      **CPU),
         lambda: Task(P(mlp, 1), **HEIGHTS, optimizer=Adam)),
        ("an LSTM, labels of other files",
         lambda: Task(Rows, alone(TRAIN, shifted), val=alone(VAL, shifted), optimizer=Adam, **CPU),
         lambda: Task(Rows, TRAIN, val=VAL, optimizer=Adam, **CPU)),
        ("labels shuffled alone, in dicts",
         lambda: Task(mlp, named(alone(TRAIN, permuted)),
                      val=named(alone(VAL, permuted), shuffle=False), objective=cross_entropy,
                      **CPU),
         lambda: Task(mlp, named(TRAIN), val=named(VAL, shuffle=False), objective=cross_entropy,
                      **CPU)),
    ],
    "batch-size": [
        ("2 digits with many wrong labels",
         lambda: Task(mlp, noisy(TRAIN, 0.6), val=VAL, batch_size=2, **CPU),
         lambda: Task(mlp, noisy(TRAIN, 0.6), val=VAL, batch_size=64, **CPU)),
        ("2 digits with wrong labels, CNN, AdamW",
         lambda: Task(nets.SmallCNN, noisy(TRAIN, 0.5), val=VAL, batch_size=2, optimizer=AdamW,
                      **CPU),
         lambda: Task(nets.SmallCNN, noisy(TRAIN, 0.5), val=VAL, batch_size=64, optimizer=AdamW,
                      **CPU)),
        ("1 digit with wrong labels, LSTM",
         lambda: Task(
             Rows, noisy(TRAIN, 0.3), val=VAL, batch_size=1, optimizer=Adam, **CPU),
         lambda: Task(Rows, noisy(TRAIN, 0.3), batch_size=64, optimizer=Adam, **CPU)),
        ("1408 masks", lambda: Task(segmenting, **{**MASKS, "batch_size": 1408}),
         lambda: Task(segmenting, **{**MASKS, "batch_size": 16})),
        ("512 masks", lambda: Task(segmenting, **{**MASKS, "batch_size": 512}),
         lambda: Task(segmenting, **{**MASKS, "batch_size": 8})),
    ],
    "sharpness": [
        ("SGD at 3, CNN", Training(_CNN, 3.0), Training(_CNN, 0.1)),
        ("a summed loss at 0.1",
         Training(lambda: Task(mlp, **DIGITS, loss=nn.CrossEntropyLoss(reduction="sum")), 0.1),
         Training(_MLP, 0.1)),
        ("an autoencoder at 100, SGD", Training(_IMAGES, 100.0), Training(_IMAGES, 0.5)),
        ("a regression at 5, SGD", Training(_HEIGHTS, 5.0), Training(_HEIGHTS, 0.1)),
        ("raw pixels at 0.1",
         Training(lambda: Task(mlp, changed(TRAIN, lambda x: 16 * x), **CPU), 0.1),
         Training(lambda: Task(mlp, TRAIN, **CPU), 0.1)),
    ],
}  # fmt: skip
