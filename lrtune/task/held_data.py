"""The numbers that data hold in memory: tensors, arrays, and lists of numbers."""

import random
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

DEPTH = 8
"""Objects inside objects are followed so far."""

NUMBERS = "biuf"
"""The kinds of arrays that hold real numbers."""

LARGE = 2**28
"""Of a tensor with more numbers than that, rows at even distances are taken."""

OPAQUE = type, ModuleType, torch.Generator, np.random.Generator, random.Random
"""Objects that are no data."""


def held_tensors(source: object) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in data of any form, each with a name that tells where it is.

    Found are those of tuples, lists, TensorDatasets, Subsets, loaders, and of the attributes of
    data sets and samplers of the user's own. A dict whose keys are no texts is taken for a cache.

    >>> data = torch.utils.data.TensorDataset(torch.zeros(3), torch.ones(3))
    >>> [name for name, _ in held_tensors(torch.utils.data.Subset(data, [2, 0]))]
    ['.dataset.tensors.0', '.dataset.tensors.1', '.indices.list']
    """
    yield from _inside(source, "", set())


def _inside(value: object, name: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, (Tensor, np.ndarray)):
        if isinstance(value, Tensor) or value.dtype.kind in NUMBERS:
            yield name, _numbers(value)
    elif id(value) not in seen and name.count(".") < DEPTH and not isinstance(value, OPAQUE):
        seen.add(id(value))
        for key, one in _parts(value):
            yield from _inside(one, f"{name}.{key}", seen)


def _parts(value: object) -> Iterable[tuple[object, object]]:
    """Return what is inside an object, each with its name there."""
    match value:
        case pd.DataFrame():
            return ((key, one.to_numpy()) for key, one in value.items())
        case pd.Series():
            return [("values", value.to_numpy())]
        case list() | tuple() if all(type(one) in (bool, int, float) for one in value):
            return [("list", np.array(value))] if value else []
        case list() | tuple():
            return enumerate(value)
        case Mapping():
            return ((key, one) for key, one in value.items() if isinstance(key, str))
    return vars(value).items() if hasattr(value, "__dict__") else []


def _numbers(value: Tensor | NDArray[Any]) -> Tensor:
    """Return the numbers of a tensor or an array; of a large one, such as a mapped file, some."""
    if not (isinstance(value, Tensor) and value.layout is not torch.strided) and value.ndim:
        count = value.numel() if isinstance(value, Tensor) else value.size
        value = value[:: max(1, -(-count // LARGE))]
    return value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
