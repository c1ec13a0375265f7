"""Data whose examples can be had in any order: tensors, Datasets, loaders that go by index."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset

from lrtune.task.batches import Batch
from lrtune.task.data import IterableData, TensorData, read_epoch
from lrtune.task.epochs import Data, odd_rows
from lrtune.task.loaders import copy_loader, goes_by_index, loader_of_batches, loader_of_rows
from lrtune.task.splitting import class_labels

LEAST_BATCHES = 5
"""A part of the validation data has at least so many batches, as its error comes from them."""


class Rows(ABC):
    """Examples that can be had in any order.

    `classes` has one number per example: its class where that is known, else always 0. `size` is
    the number of examples in a batch.
    """

    classes: Tensor
    size: int

    @abstractmethod
    def batches(self, rows: Tensor) -> Sequence[Tensor]:
        """Cut row numbers into those of validation batches."""

    @abstractmethod
    def read(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        """Yield the batches of these row numbers; nothing else is read."""

    def odd_rows(self) -> Tensor | None:
        """Return for each row whether it holds NaN or infinite numbers; None if nobody knows."""
        return None

    @abstractmethod
    def training_data(self, rows: Tensor) -> Data:
        """Return these rows as training data, in batches and orders as those of the whole."""


def rows_of(data: Data) -> Rows | None:
    """Return the data by rows; None where only iterating tells what they hold."""
    if isinstance(data, TensorData):
        return TensorRows(data)
    if isinstance(data, IterableData) and goes_by_index(data.source):
        return loader_rows(data)
    return None


def loader_rows(data: IterableData) -> "LoaderRows":
    """Return the rows of the data set that a loader reads."""
    return LoaderRows(data, cast("DataLoader[Any]", data.source))


def row_classes(dataset: Any) -> Tensor | None:
    """Return the class of every row of a data set; None where it is not at hand."""
    return class_labels(_targets(dataset), len(dataset))


class TensorRows(Rows):
    """The rows of tensors."""

    def __init__(self, data: TensorData) -> None:
        self._data, self.size, count = data, data.size, len(data.rows)
        self.classes = _classes(data.tensors[-1], count)

    def batches(self, rows: Tensor) -> Sequence[Tensor]:
        """Cut row numbers into those of validation batches."""
        return _even_batches(rows, self.size)

    def read(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        """Yield the batches of these row numbers."""
        for rows in batches:
            yield tuple(tensor[rows] for tensor in self._data.tensors)

    def odd_rows(self) -> Tensor | None:
        """Return for each row whether it holds NaN or infinite numbers."""
        return odd_rows(self._data.tensors)

    def training_data(self, rows: Tensor) -> Data:
        """Return these rows as training data."""
        return self._data.part(rows)


class LoaderRows(Rows):
    """The rows of a data set, which a loader reads: the user's own, or one that was made here."""

    def __init__(self, data: IterableData, loader: DataLoader[Any]) -> None:
        self._loader, self._what, self._own = loader, data.what, data.own_loader
        self._copies_dataset = data.copies_dataset
        self.size = cast("int", loader.batch_size)
        count = len(cast("Any", loader.dataset))
        self.classes = _classes(_targets(loader.dataset), count)

    def batches(self, rows: Tensor) -> Sequence[Tensor]:
        """Cut row numbers into those of validation batches; the user's batch size stays."""
        if not self._own:
            return _even_batches(rows, self.size)
        return torch.split(rows, self.size) if len(rows) else []

    def read(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        """Yield the batches of these row numbers."""
        if not batches:
            return iter(())
        loader = loader_of_batches(self._loader, batches)
        return read_epoch(copy_loader(loader, self._what, with_dataset=self._copies_dataset), 0, 0)

    def odd_rows(self) -> Tensor | None:
        """Return for each row whether it holds NaN or infinite numbers, where tensors tell."""
        dataset = self._loader.dataset
        return odd_rows(dataset.tensors) if type(dataset) is TensorDataset else None

    def training_data(self, rows: Tensor) -> Data:
        """Return these rows as training data."""
        # Where the loader was made here, a short last batch is dropped, unless it is the only one.
        drop_last = self._loader.drop_last if self._own else len(rows) >= self.size
        loader = loader_of_rows(self._loader, rows, drop_last=drop_last)
        return IterableData(
            loader, self._what, own_loader=self._own, copies_dataset=self._copies_dataset
        )


def _even_batches(rows: Tensor, size: int) -> Sequence[Tensor]:
    """Cut rows into batches of about the same size: at most `size`, and a fifth of the rows."""
    if not len(rows):
        return []
    most = max(1, min(size, len(rows) // LEAST_BATCHES))
    return torch.tensor_split(rows, -(-len(rows) // most))


def _classes(targets: Any, count: int) -> Tensor:
    classes = class_labels(targets, count)
    return torch.zeros(count, dtype=torch.int64) if classes is None else classes


def _targets(dataset: Any) -> Tensor | None:
    """Return the targets of a data set that has them at hand; no example is read."""
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[-1]
    # A data set of the user's own may have attributes of these names that are something else.
    with suppress(Exception):
        if isinstance(dataset, Subset):
            inner = _targets(dataset.dataset)
            return None if inner is None else inner[torch.as_tensor(list(dataset.indices))]
        for name in ("targets", "labels"):
            if hasattr(dataset, name):
                return torch.as_tensor(np.asarray(getattr(dataset, name)))
    return None
