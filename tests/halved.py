"""Validation data of every form, over the same rows, of which each can be told from the others."""

from dataclasses import dataclass, field

import torch
import zoo
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

ROWS, BATCH = 41, 8


def rows():
    """Inputs, whose first number is the number of the row, and labels of four classes."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(ROWS, 3, generator=generator)
    inputs[:, 0] = torch.arange(ROWS) / ROWS
    return inputs, torch.randint(0, 4, (ROWS,), generator=generator)


@dataclass
class Counted(Dataset):
    """A Dataset that notes what is read of it; `targets` are its labels where it has them."""

    read: list = field(default_factory=list)

    def __len__(self):
        return ROWS

    def __getitem__(self, row):
        inputs, labels = rows()
        self.read.append(row)
        return inputs[row], labels[row]


class Labelled(Counted):
    """A Dataset with its labels at hand, as those of torchvision have them."""

    targets = rows()[1].tolist()


class Streamed(IterableDataset):
    """Examples one by one."""

    def __iter__(self):
        yield from zip(*rows(), strict=True)


@dataclass
class Iterated:
    """Batches that can only be iterated; notes how often; overwrites one buffer, if asked to."""

    batches: list
    reuse: bool = False
    passes: zoo.Tally = field(default_factory=zoo.Tally)

    def __iter__(self):
        self.passes.append(self)
        for inputs, labels in self.batches:
            if not self.reuse:
                yield inputs, labels
                continue
            buffer = inputs.clone(), labels.clone()
            yield buffer
            buffer[0].fill_(99.0)


def by_name(examples):
    """Collate examples to a dict."""
    inputs, labels = (torch.stack(each) for each in zip(*examples, strict=True))
    return {"labels": labels, "inputs": inputs}


def a_list():
    """A list of batches, the last one short."""
    return list(zip(*(one.split(BATCH) for one in rows()), strict=True))


def dicts():
    return [{"inputs": inputs, "labels": labels} for inputs, labels in a_list()]


def graphs():
    """Batches that cannot be cut: the number of edges is not that of nodes."""
    return [(x, torch.zeros(2, 3 + n), y) for n, (x, y) in enumerate(a_list())]


class Graph:
    """A batch that is an object of the user's own."""

    def __init__(self, inputs, labels):
        self.inputs, self.labels = inputs, labels

    def to(self, _device):
        return self


def _loader(source=None, **options):
    return DataLoader(TensorDataset(*rows()) if source is None else source, BATCH, **options)


class OwnOrder(torch.utils.data.SequentialSampler):
    """A sampler of the user's own."""


BY_INDEX = {
    "tensors": rows,
    "arrays": lambda: tuple(one.numpy() for one in rows()),
    "tensor dataset": lambda: TensorDataset(*rows()),
    "dataset": Counted,
    "labelled dataset": Labelled,
    "subset": lambda: Subset(Labelled(), range(ROWS)),
    "loader": _loader,
    "shuffled loader": lambda: _loader(shuffle=True, generator=torch.Generator().manual_seed(3)),
    "loader with workers": lambda: _loader(num_workers=2, shuffle=True),
    "loader that drops": lambda: _loader(drop_last=True, shuffle=True),
    "loader of dicts": lambda: _loader(collate_fn=by_name),
}
BY_ROWS = {
    "list": a_list,
    "list of dicts": dicts,
    "loader with a sampler": lambda: _loader(sampler=OwnOrder(TensorDataset(*rows()))),
    "iterable dataset": Streamed,
    "loader of an iterable": lambda: _loader(Streamed()),
    "iterable": lambda: Iterated(a_list()),
    "iterable with a buffer": lambda: Iterated(a_list(), reuse=True),
    "single rows": lambda: list(zip(*(one.split(1) for one in rows()), strict=True)),
}
WHOLE = {
    "graphs": graphs,
    "objects": lambda: [Graph(*batch) for batch in a_list()],
}
FORMS = BY_INDEX | BY_ROWS | WHOLE
NOTING = {"dataset", "labelled dataset", "subset", "iterable", "iterable with a buffer"}
"""They note what is read of them, so they do change."""

STRATIFIED = sorted(set(BY_INDEX) - {"dataset"} | set(BY_ROWS) - {"list of dicts"})


def of_batch(batch):
    """Inputs and labels of a batch of any of these forms."""
    if isinstance(batch, dict):
        return batch["inputs"], batch["labels"]
    return (batch.inputs, batch.labels) if isinstance(batch, Graph) else (batch[0], batch[-1])


def rows_of(batch):
    """The numbers of the rows of a batch."""
    return (of_batch(batch)[0][:, 0] * ROWS).round().int().tolist()


def objective(model, batch):
    inputs, labels = of_batch(batch)
    return nn.functional.cross_entropy(model(inputs), labels)
