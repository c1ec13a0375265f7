"""Tasks whose labels are sorted or rare, each beside its healthy twin."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from benchmarks.diagnosis.healthy import TRAIN, VAL, conv, cross_entropy, mlp
from benchmarks.diagnosis.parts import CPU, EVEN, Make, P, Pair, drawn, loader, named, permuted
from lrtune import Task

# --- single-class-batches


class Sorted(Dataset[dict[str, Tensor]]):
    """One folder per class, as they lie on the disk."""

    def __init__(self, data: Pair) -> None:
        self.data, self.order = data, data[1].argsort(stable=True)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        row = self.order[place]
        return {"image": self.data[0][row], "label": self.data[1][row]}


def by_class(data: Pair) -> Pair:
    order = data[1].flatten().argsort(stable=True)
    return data[0][order], data[1][order]


class OneClass(IterableDataset[tuple[Tensor, Tensor]]):
    """A stream of shards, one for each class."""

    def __init__(self, *, mixed: bool) -> None:
        self.mixed = mixed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(TRAIN[1])
        order = torch.randperm(count) if self.mixed else TRAIN[1].argsort(stable=True)
        for row in order.tolist():
            yield TRAIN[0][row], TRAIN[1][row]


# --- class-imbalance


def rare(data: Pair, label: int, keep: float) -> Pair:
    """Of one class against all others, so many samples are kept."""
    target = (data[1] == label).long()
    there = (target == 0).nonzero().flatten()
    some = target.nonzero().flatten()
    rows = torch.cat([there, some[: max(2, round(keep * len(some)))]])
    rows = permuted(rows)
    return data[0][rows], target[rows]


def balanced(data: Pair, label: int) -> Pair:
    target = (data[1] == label).long()
    some, there = target.nonzero().flatten(), (target == 0).nonzero().flatten()
    rows = permuted(torch.cat([some, permuted(there)[: len(some)]]))
    return data[0][rows], target[rows]


def long_tail(data: Pair) -> Pair:
    """All zeros, and of every other digit a handful."""
    kept = [
        (data[1] == label).nonzero().flatten()[: None if label == 0 else 1] for label in range(10)
    ]
    rows = permuted(torch.cat([kept[0].repeat(2), *kept[1:]]))
    return data[0][rows] + 0.01 * drawn(*data[0][rows].shape), data[1][rows]


def as_yes(data: Pair) -> Pair:
    return data[0], data[1].float()


def squeezed(outputs: int = 1) -> nn.Module:
    return nn.Sequential(conv(outputs), nn.Flatten(0))


# --- the names of the findings

BROKEN: dict[str, list[tuple[str, Make, Make]]] = {
    "single-class-batches": [
        ("folders one after the other",
         lambda: Task(mlp, DataLoader(Sorted(TRAIN), 32), objective=cross_entropy, **CPU),
         lambda: Task(mlp, DataLoader(Sorted(TRAIN), 32, shuffle=True), objective=cross_entropy,
                      **CPU)),
        ("sorted by class, CNN", lambda: Task(conv, loader(by_class(TRAIN), shuffle=False), val=VAL,
                                              **CPU),
         lambda: Task(conv, loader(by_class(TRAIN)), val=VAL, **CPU)),
        ("yes and no one after the other",
         lambda: Task(P(mlp, 1), loader(by_class(EVEN["train"]), 128, shuffle=False),
                      loss=nn.BCEWithLogitsLoss(), val=EVEN["val"], **CPU),
         lambda: Task(P(mlp, 1), loader(by_class(EVEN["train"]), 128),
                      loss=nn.BCEWithLogitsLoss(), val=EVEN["val"], **CPU)),
        ("shards of a class", lambda: Task(mlp, DataLoader(OneClass(mixed=False), 64), val=VAL,
                                           **CPU),
         lambda: Task(mlp, DataLoader(OneClass(mixed=True), 64), val=VAL, **CPU)),
    ],
    "class-imbalance": [
        ("3 % of one class",
         lambda: Task(P(mlp, 2), rare(TRAIN, 3, 0.25), val=rare(VAL, 3, 0.25), **CPU),
         lambda: Task(P(mlp, 2), balanced(TRAIN, 3), val=balanced(VAL, 3), **CPU)),
        ("1 % of one class, CNN, binary",
         lambda: Task(squeezed, as_yes(rare(TRAIN, 8, 0.1)), loss=nn.BCEWithLogitsLoss(), **CPU),
         lambda: Task(squeezed, as_yes(balanced(TRAIN, 8)), loss=nn.BCEWithLogitsLoss(), **CPU)),
        ("a long tail", lambda: Task(mlp, long_tail(TRAIN), batch_size=32, **CPU),
         lambda: Task(mlp, TRAIN, batch_size=32, **CPU)),
        ("3 % of one class, in dicts",
         lambda: Task(P(mlp, 2), named(rare(TRAIN, 5, 0.25)), objective=cross_entropy, **CPU),
         lambda: Task(P(mlp, 2), named(balanced(TRAIN, 5)), objective=cross_entropy, **CPU)),
        ("labels that are all 0", lambda: Task(mlp, (TRAIN[0], 0 * TRAIN[1]), **CPU),
         lambda: Task(mlp, TRAIN, **CPU)),
    ],
}  # fmt: skip
