"""The default task of the command line: handwritten digits and a small CNN, without a download.

The data are the 1,797 images (8x8, grey values 0 to 16) of the test part of "Optical Recognition
of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licensed under CC BY 4.0; here stored as one compressed file.
"""

from importlib.resources import files

import numpy as np
import torch
from torch import Tensor, nn

from lrtune.task.task import Task

__all__ = ["SmallCNN", "digits", "images"]


def images() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the digits as (train, val), each (images, labels); every fifth image is in val.

    Returns:
        Images of shape (n, 1, 8, 8), float32 in [0, 1], and labels (n,), int64 in 0 ... 9, with n
        = 1,438 and 359.
    """
    with (
        files(__name__).joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        grey, labels = stored["images"], stored["labels"]
    pixels = torch.from_numpy(grey).float()[:, None] / 16
    targets = torch.from_numpy(labels).long()
    val = torch.arange(len(targets)) % 5 == 4
    return (pixels[~val], targets[~val]), (pixels[val], targets[val])


class SmallCNN(nn.Sequential):
    """Two convolutions with ReLU and pooling, and one linear layer: 1,898 parameters."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 10),
        )


def digits(device: str = "auto") -> Task:
    """Return the task that `lrtune search` trains by default: batches of 64, SGD, momentum 0.9.

    >>> digits("cpu").describe()["batch"]
    '(float32[64, 1, 8, 8], int64[64])'
    """
    train, val = images()
    return Task(SmallCNN, train, val=val, device=device)
