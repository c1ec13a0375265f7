"""Data and models of the broken tasks."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.diagnosis.healthy import TRAIN, VAL, Named
from lrtune import Task

F = nn.functional
P = functools.partial
Make = Callable[[], Task]
Pair = tuple[Tensor, Tensor]
CPU = {"device": "cpu"}


def loader(data: Pair, size: int = 64, **settings: object) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(*data), size, **{"shuffle": True, **settings})


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def changed(data: Pair, inputs: Callable[[Tensor], Tensor]) -> Pair:
    return inputs(data[0]), data[1]


def permuted(values: Tensor, seed: int = 0) -> Tensor:
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))]


def tall(data: Pair) -> Pair:
    """How high up the ink is, standardised."""
    pixels = data[0][:, 0]
    height = (pixels.sum(2) * torch.arange(8.0)).sum(1) / pixels.sum((1, 2))
    return data[0], ((height - 3.5) / 0.3).unsqueeze(1)


HEIGHTS = {"train": tall(TRAIN), "val": tall(VAL), "loss": nn.MSELoss(), **CPU}
MASKS = {
    "train": (TRAIN[0], (F.avg_pool2d(TRAIN[0], 3, 1, 1) > 0.4).float()),
    "val": (VAL[0], (F.avg_pool2d(VAL[0], 3, 1, 1) > 0.4).float()),
    "loss": nn.BCEWithLogitsLoss(),
    "optimizer": Adam,
    **CPU,
}
EVEN = {
    "train": (TRAIN[0], (TRAIN[1] % 2).float().unsqueeze(1)),
    "val": (VAL[0], (VAL[1] % 2).float().unsqueeze(1)),
    "loss": nn.BCEWithLogitsLoss(),
    **CPU,
}


def table(rows: int, seed: int, *, raw: bool) -> Pair:
    """Age, income, share of something and a year; the target depends on all."""
    plain = drawn(rows, 4, seed=seed)
    score = plain @ torch.tensor([1.0, -1.0, 0.5, 0.5]) + 0.3 * drawn(rows, seed=seed + 1)
    scales = torch.tensor([12.0, 25_000.0, 0.02, 9.0])
    middles = torch.tensor([45.0, 60_000.0, 0.1, 2005.0])
    return (plain * scales + middles if raw else plain), (score > 0).long()


def tabular(outputs: int = 2) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, outputs))


def waves(rows: int, seed: int, scale: float) -> Pair:
    """The next value of a sine of any phase; prices are large, returns small."""
    phase = 6.28 * torch.rand(rows, 1, generator=torch.Generator().manual_seed(seed))
    course = torch.sin(phase + 0.4 * torch.arange(17)) + 0.1 * drawn(rows, 17, seed=seed)
    return (scale * course[:, :16]).unsqueeze(2), course[:, 16:]


class Series(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read, self.tell = nn.GRU(1, 24, batch_first=True), nn.Linear(24, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.tell(self.read(inputs)[0][:, -1])


def named(data: Pair, *, shuffle: bool = True) -> DataLoader[dict[str, Tensor]]:
    return DataLoader(Named(data), 64, shuffle=shuffle)
