"""Healthy tasks of many kinds: whatever is said against one of them is a false alarm."""

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from benchmarks.quality.practice import PRACTICE
from benchmarks.quality.tasks import MOMENTUM, TASKS
from lrtune import Task
from lrtune.demo import images

F = nn.functional
P = functools.partial
TRAIN, VAL = images()


def mlp(outputs: int = 10, hidden: int = 32) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def relabelled(change: Callable[[Tensor, Tensor], Tensor]) -> dict[str, object]:
    """The digits with other targets: a function of images and labels."""
    return {
        "train": (TRAIN[0], change(*TRAIN)),
        "val": (VAL[0], change(*VAL)),
        "device": "cpu",
    }


class Rows(nn.Module):
    """Reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.tell = nn.LSTM(8, 24, batch_first=True), nn.Linear(24, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.tell(self.read(inputs[:, 0])[0][:, -1])


class Attention(nn.Module):
    """A small transformer over rows."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.embed, self.place = nn.Linear(8, 16), nn.Parameter(0.02 * torch.randn(8, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout, batch_first=True)
        self.tell = nn.Linear(16, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.tell(self.layer(self.embed(inputs[:, 0]) + self.place).mean(1))


class Variational(nn.Module):
    """An autoencoder with a random code in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = mlp(8), nn.Linear(4, 64)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log = self.encode(inputs).chunk(2, 1)
        code = mean + torch.randn_like(mean) * (log / 2).exp() if self.training else mean
        return self.decode(code), mean, log


def elbo(model: nn.Module, batch: list[Tensor]) -> Tensor:
    pixels, mean, log = model(batch[0])
    rebuilt = F.mse_loss(pixels, batch[0].flatten(1), reduction="none").sum(1).mean()
    return rebuilt + 0.05 * (mean**2 + log.exp() - log - 1).sum(1).mean()


def cross_entropy(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch["image"]), batch["label"])


def pairs(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Two views of each image find each other; in eval mode the views are the same ones."""
    noise = 0.3 * torch.randn_like(batch[0]) if model.training else 0.1
    one, other = (F.normalize(model(view)) for view in (batch[0], batch[0] + noise))
    return F.cross_entropy(one @ other.T / 0.2, torch.arange(len(one)))


def mixed(model: nn.Module, batch: list[Tensor]) -> Tensor:
    inputs, labels = batch
    if not model.training:
        return F.cross_entropy(model(inputs), labels)
    share, others = float(torch.rand(())), torch.randperm(len(labels))
    outputs = model(share * inputs + (1 - share) * inputs[others])
    return share * F.cross_entropy(outputs, labels) + (1 - share) * F.cross_entropy(
        outputs, labels[others]
    )


class Named(Dataset[dict[str, Tensor]]):
    def __init__(self, data: tuple[Tensor, Tensor]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data[1])

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {"image": self.data[0][place], "label": self.data[1][place]}


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for place in torch.randperm(len(TRAIN[1])).tolist():
            yield TRAIN[0][place], TRAIN[1][place]


class Shifted(Dataset[tuple[Tensor, int]]):
    """Moves each image by a random pixel, as augmentation does."""

    def __len__(self) -> int:
        return len(TRAIN[1])

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        move = int(torch.randint(-1, 2, ()))
        return TRAIN[0][place].roll(move, -1), int(TRAIN[1][place])


def slow_back(model: nn.Module, lr: float) -> AdamW:
    back, head = model[1].parameters(), model[3].parameters()
    return AdamW([{"params": back, "lr": lr / 10}, {"params": head}], lr=lr)


def without_decay(model: nn.Module, lr: float) -> SGD:
    """Weight decay for matrices, none for biases."""
    named = list(model.named_parameters())
    groups = [
        {"params": [p for _, p in named if p.dim() > 1], "weight_decay": 1e-3},
        {"params": [p for _, p in named if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return SGD(groups, lr=lr, momentum=0.9, nesterov=True)


def conv(outputs: int = 10, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), norm(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), norm(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, outputs),
    )  # fmt: skip


def segmenting() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 1, 1))


DIGITS = {"train": TRAIN, "val": VAL, "device": "cpu"}
NAMED = {
    "train": DataLoader(Named(TRAIN), 64, shuffle=True),
    "val": DataLoader(Named(VAL), 128),
    "device": "cpu",
}

KINDS: dict[str, Callable[[], Task]] = {
    "LSTM": lambda: Task(Rows, **DIGITS, optimizer=Adam),
    "transformer": lambda: Task(Attention, **DIGITS, optimizer=AdamW),
    "autoencoder": lambda: Task(
        lambda: mlp(64, 16), **relabelled(lambda x, _: x.flatten(1)), loss=nn.MSELoss(),
        optimizer=Adam,
    ),
    "VAE": lambda: Task(Variational, TRAIN, val=VAL, objective=elbo, optimizer=Adam, device="cpu"),
    "two labels": lambda: Task(
        lambda: mlp(2), loss=nn.BCEWithLogitsLoss(),
        **relabelled(lambda _, y: torch.stack([y % 2, y // 5], 1).float()),
    ),
    "regression": lambda: Task(
        lambda: mlp(1), loss=nn.SmoothL1Loss(), optimizer=Adam,
        **relabelled(lambda _, y: y.float().unsqueeze(1) / 5 - 1),
    ),
    "counts": lambda: Task(
        lambda: mlp(1), loss=nn.PoissonNLLLoss(), optimizer=Adam,
        **relabelled(lambda _, y: y.float().unsqueeze(1)),
    ),
    "segmentation": lambda: Task(
        segmenting, loss=nn.BCEWithLogitsLoss(), optimizer=Adam,
        **relabelled(lambda x, _: (F.avg_pool2d(x, 3, 1, 1) > x.mean()).float()),
    ),
    "pairs": lambda: Task(mlp, TRAIN, val=VAL, objective=pairs, optimizer=Adam, device="cpu"),
    "mixup": lambda: Task(mlp, **DIGITS, objective=mixed),
    "dicts": lambda: Task(mlp, **NAMED, objective=cross_entropy),
    "stream": lambda: Task(mlp, DataLoader(Stream(), 64), val=VAL, device="cpu"),
    "augmentation": lambda: Task(
        conv, DataLoader(Shifted(), 64, shuffle=True), val=VAL, device="cpu"
    ),
    "dropped batch": lambda: Task(
        conv, DataLoader(TensorDataset(*TRAIN), 48, shuffle=True, drop_last=True), val=VAL,
        device="cpu",
    ),
    "class weights": lambda: Task(
        mlp, **DIGITS, loss=nn.CrossEntropyLoss(torch.linspace(0.5, 2, 10))
    ),
    "smoothed labels": lambda: Task(
        P(conv, norm=lambda width: nn.GroupNorm(2, width)), **DIGITS, optimizer=MOMENTUM,
        loss=nn.CrossEntropyLoss(label_smoothing=0.1),
    ),
    "groups": lambda: Task(mlp, **DIGITS, optimizer=slow_back),
    "decay of matrices": lambda: Task(mlp, **DIGITS, optimizer=without_decay),
    "RMSprop": lambda: Task(conv, **DIGITS, optimizer=RMSprop),
    "share of the data": lambda: Task(mlp, TRAIN, val=0.2, device="cpu"),
    "no validation data": lambda: Task(mlp, TRAIN, device="cpu"),
    "a model, no function": lambda: Task(mlp(), **DIGITS),
}  # fmt: skip

UNSCALED = "MNIST raw", "MNIST raw, Adam"
"""Pixels from 0 to 255: they train, but `unscaled-inputs` is right."""

HEALTHY = {
    **{spec.name: spec.task for spec in TASKS.values() if not spec.held_out},
    **{spec.name: spec.task for spec in PRACTICE.values()},
    **KINDS,
}
"""Names to functions that make a task."""
for name in UNSCALED:
    del HEALTHY[name]
