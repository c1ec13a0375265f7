"""Data and models that broken tasks and their healthy twins share."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.diagnosis.healthy import relabelled
from lrtune import Task

F = nn.functional

Broken = dict[str, list[tuple[str, Callable[[], Task], Callable[[], Task]]]]
"""Names of findings to tasks: a title, the broken one, and its healthy twin."""


def regression(rows: int = 512, columns: int = 8) -> tuple[Tensor, Tensor]:
    """Numbers and a number that follows from them, of shape [n]."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(rows, columns, generator=generator)
    targets = inputs[:, 0] * 2 - inputs[:, 1] + (3 * inputs[:, 2]).sin()
    return inputs, targets + 0.1 * torch.randn(rows, generator=generator)


def words(rows: int = 512, length: int = 12) -> tuple[Tensor, Tensor]:
    """Sequences of twenty words, whose label is whether the first one of them is there."""
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randint(0, 20, (rows, length), generator=generator)
    return inputs, (inputs == 0).any(1).long()


NUMBERS, WORDS = regression(), words()
ODD = relabelled(lambda _, y: (y % 2).float().unsqueeze(1))
MASKS = relabelled(lambda x, _: (F.avg_pool2d(x, 3, 1, 1) > x.mean()).float())
PIXELS = relabelled(lambda x, _: x.flatten(1))


def on(data: tuple[Tensor, ...], model: Callable[[], nn.Module], **rest: Any) -> Task:
    """A task on tensors of which every fifth row is held out."""
    held = torch.arange(len(data[0])) % 5 == 4
    train, val = tuple(one[~held] for one in data), tuple(one[held] for one in data)
    return Task(model, train, val=val, device="cpu", **rest)


def with_end(model: Iterable[nn.Module], *end: nn.Module) -> nn.Module:
    return nn.Sequential(*model, *end)


class Reader(nn.Module):
    """Reads words: an embedding, a GRU, and a linear layer for its last state."""

    def __init__(self, end: Callable[[Tensor], Tensor] = lambda x: x, outputs: int = 2) -> None:
        super().__init__()
        self.embed, self.read = nn.Embedding(20, 16), nn.GRU(16, 16, batch_first=True)
        self.tell, self.end = nn.Linear(16, outputs), end

    def forward(self, inputs: Tensor) -> Tensor:
        return self.end(self.tell(self.read(self.embed(inputs))[0][:, -1]))


class Former(nn.Module):
    """A transformer over words; the mean over its places is classified."""

    def __init__(self, end: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
        self.tell, self.end = nn.Linear(16, 2), end

    def forward(self, inputs: Tensor) -> Tensor:
        return self.end(self.tell(self.layer(self.embed(inputs)).mean(1)))


def segmenter(*end: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 1, 1), *end)


def numeric(*end: nn.Module, outputs: int = 1) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, outputs), *end)


def flat(inputs: Tensor, targets: Tensor, loss: Callable[..., Tensor] = F.mse_loss) -> Tensor:
    """A loss of outputs [n, 1] and targets [n]."""
    return loss(inputs.squeeze(1), targets)
