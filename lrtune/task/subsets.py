"""A fair sample of training data: nested, stratified by class, the same in every process."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lrtune.errors import TaskError, quantity
from lrtune.task.data import IterableData, TensorData
from lrtune.task.epochs import Data
from lrtune.task.loaders import drawn_rows
from lrtune.task.rows import loader_rows, row_classes
from lrtune.task.splitting import class_labels, fair_order


def subset(data: Data, share: float) -> Data:
    """Return a share of training data, > 0 and <= 1, in batches and orders as those of the whole.

    A smaller share is part of every larger one, and each class has about the same share in it. Of a
    list whole batches are chosen.

    Raises:
        TaskError: The share is out of its range, or holds less than a batch; or nothing tells
            which examples the data have.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise TaskError(
            f"share={share!r}; expected a number > 0 and <= 1. Give 0.1 for a tenth of the data."
        )
    if isinstance(data, TensorData):
        labels = class_labels(data.tensors[-1], len(data.tensors[-1]))
        chosen = _sample(data.rows, labels, share)
        _check(share, len(chosen), len(data.rows), data.size)
        return data.part(chosen)
    source: Any = cast("IterableData", data).source
    if isinstance(source, list):
        order = fair_order(torch.zeros(len(source), dtype=torch.int64))
        chosen = order[: round(share * len(source))].sort().values
        _check(share, len(chosen), len(source), 1, "batch")
        return IterableData([source[place] for place in chosen.tolist()], "train")
    rows = drawn_rows(source) if isinstance(source, DataLoader) else None
    if rows is None:
        raise TaskError(
            f"a share of the training data needs tensors, a Dataset, a list of batches, or a "
            "DataLoader that goes through a Dataset with torch's own samplers; train is a "
            f"{type(source).__name__} whose samples cannot be chosen. Hand Task the data set."
        )
    loader = loader_rows(cast("IterableData", data))
    chosen = _sample(rows, row_classes(source.dataset), share)
    _check(share, len(chosen), len(rows), loader.size)
    return loader.training_data(chosen)


def _sample(rows: Tensor, labels: Tensor | None, share: float) -> Tensor:
    """Return so many of these rows, in ascending order; `labels` has the class of every row."""
    classes = torch.zeros(len(rows), dtype=torch.int64) if labels is None else labels[rows]
    return rows[fair_order(classes)[: round(share * len(rows))].sort().values]


def _check(share: float, count: int, of: int, least: int, noun: str = "sample") -> None:
    if count < least:
        raise TaskError(
            f"{100 * share:.3g} % of {quantity(of, 'training ' + noun)} are {count}; expected at "
            f"least {least}, as many as a batch has. Give a larger share, or make the batch "
            "smaller."
        )
