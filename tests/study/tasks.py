"""Tasks for the tests of studies: small, with everything that a fingerprint looks at."""

from functools import partial

import torch
from torch import nn

import lrtune

NAMES = ("model", "train", "loss", "optimizer", "val", "device")


def numbers(seed, rows=48, width=6):
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, width, generator=draw)
    return inputs, inputs.sum(1).gt(0).long()


def net(hidden=5, drop=0.2, seed=3):
    torch.manual_seed(seed)
    layers = [nn.Linear(6, hidden), nn.BatchNorm1d(hidden), nn.Dropout(drop), nn.Linear(hidden, 2)]
    return nn.Sequential(*layers)


def a_task(**other):
    """A task with validation data; each part can be another one."""
    parts = {
        "model": net(),
        "train": numbers(1),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": partial(torch.optim.SGD, momentum=0.9),
        "val": numbers(2, rows=20),
        "device": "cpu",
        "batch_size": 12,
    }
    whole = parts | other
    with torch.random.fork_rng():
        return lrtune.Task(whole.pop("model"), whole.pop("train"), **whole)
