"""Tasks of several sizes, on data that are made: speed does not depend on what is in the images."""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lrtune.demo import SmallCNN, images


class Setting(NamedTuple):
    """What is trained.

    Attributes:
        model: Makes one.
        data: Inputs and targets.
        batch: Examples per step.
        loss: Of outputs and targets.
    """

    model: Callable[[], nn.Module]
    data: tuple[Tensor, Tensor]
    batch: int
    loss: Callable[..., Tensor]


def lenet() -> nn.Module:
    """LeCun et al. 1998, with ReLU and max pooling, for 28x28."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


class Block(nn.Module):
    """Two convolutions and a way around them: He et al. 2015, arXiv:1512.03385, figure 2."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside),
            nn.ReLU(), nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside),
        )  # fmt: skip
        same = stride == 1 and inside == outside
        self.around = nn.Identity() if same else nn.Sequential(
            nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
        )  # fmt: skip

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.relu(self.way(inputs) + self.around(inputs))


def resnet18() -> nn.Module:
    """ResNet-18 with the small stem that is usual for 32x32."""
    widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
    blocks = [
        Block(a if i == 0 else b, b, s if i == 0 else 1) for a, b, s in widths for i in (0, 1)
    ]
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), *blocks,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


class UNet(nn.Module):
    """Two levels down and up again: Ronneberger et al. 2015, arXiv:1505.04597, in small."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down = nn.ModuleList([_pair(1, width), _pair(width, 2 * width)])
        self.bottom = _pair(2 * width, 4 * width)
        self.up = nn.ModuleList([_pair(6 * width, 2 * width), _pair(3 * width, width)])
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        kept = []
        for down in self.down:
            kept.append(down(inputs))
            inputs = nn.functional.max_pool2d(kept[-1], 2)
        inputs = self.bottom(inputs)
        for up in self.up:
            larger = nn.functional.interpolate(inputs, scale_factor=2)
            inputs = up(torch.cat([larger, kept.pop()], 1))
        return self.out(inputs)


def _pair(inside: int, outside: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(),
        nn.Conv2d(outside, outside, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


def _made(shape: tuple[int, ...], rows: int, classes: int | None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, *shape, generator=generator)
    if classes is None:
        return inputs, inputs
    return inputs, torch.randint(classes, (rows,), generator=generator)


SETTINGS: dict[str, Callable[[], Setting]] = {
    "tiny CNN, 8x8": lambda: Setting(SmallCNN, images()[0], 64, nn.CrossEntropyLoss()),
    "LeNet, 28x28": lambda: Setting(lenet, _made((1, 28, 28), 1024, 10), 64, nn.CrossEntropyLoss()),
    "U-Net, 32x32": lambda: Setting(UNet, _made((1, 32, 32), 256, None), 16, nn.MSELoss()),
    "ResNet-18, 32x32": lambda: Setting(
        resnet18, _made((3, 32, 32), 512, 10), 128, nn.CrossEntropyLoss()
    ),
}


class Augmented(Dataset):
    """Images whose augmentation keeps the processor busy for so many seconds each."""

    def __init__(self, data: tuple[Tensor, Tensor], seconds: float) -> None:
        self.data, self.seconds = data, seconds

    def __len__(self) -> int:
        return len(self.data[0])

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        begin = time.thread_time()
        while time.thread_time() - begin < self.seconds:
            pass
        return self.data[0][row], self.data[1][row]


def slow_loader(setting: Setting, seconds: float) -> DataLoader:
    """Batches each of which takes so long to make."""
    data = Augmented(setting.data, seconds / setting.batch)
    return DataLoader(data, setting.batch, shuffle=True, drop_last=True)


@functools.cache
def setting(name: str) -> Setting:
    """One of the settings."""
    return SETTINGS[name]()
