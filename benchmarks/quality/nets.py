"""Small nets of the usual families; each function returns a fresh one."""

import torch
from torch import Tensor, nn

from benchmarks.models import lenet
from lrtune.demo import SmallCNN

__all__ = [
    "ResNet", "SmallCNN", "UNet", "deep", "depthwise", "lenet", "normed", "plain", "vgg",
]  # fmt: skip


def normed() -> nn.Module:
    """Two convolutions with BatchNorm, for 8x8."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
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
        self.around = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.relu(self.way(inputs) + self.around(inputs))


class ResNet(nn.Sequential):
    """A stem, three blocks, and one linear layer."""

    def __init__(self, channels: int, width: int, classes: int, *, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 2 * width, 2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, classes),
        )  # fmt: skip


def vgg(channels: int, width: int, classes: int, size: int) -> nn.Module:
    """Pairs of convolutions with pooling, without any norm: arXiv:1409.1556, in small."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * width * (size // 4) ** 2, 64), nn.ReLU(),
        nn.Linear(64, classes),
    )  # fmt: skip


def depthwise(channels: int, width: int, classes: int) -> nn.Module:
    """Depthwise and pointwise convolutions with GroupNorm: arXiv:1704.04861, in small."""

    def pair(inside: int, outside: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False),
            nn.GroupNorm(4, inside), nn.ReLU(),
            nn.Conv2d(inside, outside, 1, bias=False), nn.GroupNorm(4, outside), nn.ReLU(),
        ]  # fmt: skip

    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU(),
        *pair(width, 2 * width, 2), *pair(2 * width, 2 * width, 1), *pair(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes),
    )  # fmt: skip


def deep(layers: int, width: int, classes: int) -> nn.Module:
    """So many convolutions, one after the other, with He's initial weights and nothing to help."""
    net = nn.Sequential(
        nn.Conv2d(1, width, 3, 2, 1), nn.ReLU(),
        *(part for _ in range(layers - 1) for part in (
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU())),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, classes),
    )  # fmt: skip
    for module in net:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return net


def plain(width: int) -> nn.Module:
    """Three convolutions from an image to an image: Dong et al. 2014, arXiv:1501.00092."""
    return nn.Sequential(
        nn.Conv2d(1, width, 5, padding=2), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1),
    )  # fmt: skip


class UNet(nn.Module):
    """Two levels down and up again: Ronneberger et al. 2015, arXiv:1505.04597, in small."""

    def __init__(self, width: int = 8, *, norm: bool = False) -> None:
        super().__init__()
        self.down = nn.ModuleList([_pair(1, width, norm), _pair(width, 2 * width, norm)])
        self.bottom = _pair(2 * width, 4 * width, norm)
        self.up = nn.ModuleList([_pair(6 * width, 2 * width, norm), _pair(3 * width, width, norm)])
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


def _pair(inside: int, outside: int, norm: bool) -> nn.Module:  # noqa: FBT001
    parts: list[nn.Module] = []
    for a, b in ((inside, outside), (outside, outside)):
        parts += [nn.Conv2d(a, b, 3, padding=1, bias=not norm)]
        parts += [nn.BatchNorm2d(b)] if norm else []
        parts += [nn.ReLU()]
    return nn.Sequential(*parts)
