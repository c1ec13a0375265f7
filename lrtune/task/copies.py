"""Copies of what the user iterates: a state moves on in the copy, while the data are shared."""

import copy
import io
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lrtune.errors import TaskError
from lrtune.task.random_state import reseed_generator

EPOCHS_APART = 100_000
"""The epochs of seed s begin with s times this number, so seed 0 has the user's own."""

LONG = 1000
"""Lists with more elements hold the data; nobody looks for random generators in them."""

LARGEST_ORDER = 2**24
"""Whole numbers in one row: up to so many may be the order of a loader, which it shuffles."""

GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


@dataclass(frozen=True)
class OwnCopy:
    """A copy of the user's loader, which one stream of batches reads epoch by epoch.

    Attributes:
        source: The copy.
        parts: What was copied with it, such as samplers and random generators.
    """

    source: Iterable[Any]
    parts: Sequence[object] = ()

    def begin_epoch(self, first: int, number: int) -> None:
        """Seed its random generators with `first`; tell whatever has `set_epoch` the `number`."""
        if isinstance(self.source, DataLoader):
            vars(self.source)["_iterator"] = None  # workers that live on would keep their seeds
        for part in self.parts:
            reseed_generator(part, first)
            set_epoch = getattr(part, "set_epoch", None)
            if callable(set_epoch):
                set_epoch(number)


def copy_iterable(source: Iterable[Any], what: str) -> OwnCopy:
    """Return a copy of an iterable of batches; a list or an array is used as it is.

    Raises:
        TaskError: It keeps an iterator that cannot be copied; `what` it is names it in the message.
    """
    if isinstance(source, (list, tuple, Tensor, np.ndarray)):
        return OwnCopy(source)
    memo = {id(part): part for part in parts_of(source) if isinstance(part, Dataset)}
    memo = {key: part for key, part in memo.items() if not has_own_state(part)}
    made = copy_sharing_data(source, memo, what)
    return OwnCopy(made, copied_parts(memo))


def copy_sharing_data(thing: Any, memo: dict[int, Any], what: str) -> Any:
    """Return a deep copy that shares the data; a shallow one of what has no deep copy.

    Data are what is large: models, and tensors and arrays unless their numbers may be an order of
    rows or a counter.

    Args:
        thing: A loader, an iterable or a data set of the user's.
        memo: What `copy.deepcopy` has copied, or is to share; it is added to.
        what: `train` or `val`, for messages.

    Raises:
        TaskError: A shallow copy would share an iterator with the original.
    """
    for part in parts_of(thing):
        if _holds_data(part):
            memo[id(part)] = part
    try:
        return copy.deepcopy(thing, memo)
    except Exception:  # noqa: BLE001 - such as a lock, an open file or a generator
        refuse_kept_iterators(thing, vars(thing) if hasattr(thing, "__dict__") else {}, what)
    made = thing
    with suppress(Exception):
        made = copy.copy(thing)
    memo[id(thing)] = made
    return made


def copied_parts(memo: Mapping[int, Any]) -> list[object]:
    """Return the copies that a memo of `copy.deepcopy` lists."""
    return [made for key, made in memo.items() if key not in (id(made), id(memo))]


def refuse_kept_iterators(owner: object, attributes: Mapping[str, Any], what: str) -> None:
    """Raise if an attribute is an iterator, which would go on where another run has stopped."""
    for name, value in attributes.items():
        if isinstance(value, Iterator) and not isinstance(value, io.IOBase):
            raise TaskError(
                f"{what} is a {type(owner).__name__} that keeps an iterator, `{name}`, and a "
                f"{type(value).__name__} cannot be copied; every run needs the same batches from "
                "the start. Make the iterator in __iter__, or pass a plain DataLoader."
            )


def has_own_state(dataset: object) -> bool:
    """Return whether a data set is told the epoch, or draws from a random generator of its own."""
    return isinstance(dataset, IterableDataset) or any(
        isinstance(part, GENERATORS) or callable(getattr(part, "set_epoch", None))
        for part in parts_of(dataset, longest=LONG)
    )


def parts_of(thing: object, longest: int | None = None) -> Iterator[Any]:
    """Yield an object, and the values in its attributes, dicts and lists; data are not opened.

    Lists with more than `longest` elements are not opened either.
    """
    waiting, seen = [thing], set[int]()
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, (str, int, float, type, FunctionType)):
            continue
        seen.add(id(part))
        yield part
        inside: Collection[Any] = ()
        if isinstance(part, dict):
            inside = part.values()
        elif isinstance(part, (list, tuple, set)):
            inside = part
        elif isinstance(part, MethodType):
            inside = (part.__self__,)
        elif hasattr(part, "__dict__") and not _holds_data(part):
            inside = vars(part).values()
        if longest is None or len(inside) <= longest:
            waiting += inside


def _holds_data(part: object) -> bool:
    """Return whether a copy of a loader shares this part of it."""
    if isinstance(part, Tensor):
        whole = not (part.is_floating_point() or part.is_complex())
        return not _may_count(part.ndim, part.numel(), whole=whole)
    if isinstance(part, np.ndarray):
        whole = part.dtype.kind in "biu" and not isinstance(part, np.memmap)
        return not _may_count(part.ndim, part.size, whole=whole)
    return isinstance(part, (nn.Module, ModuleType))


def _may_count(ndim: int, size: int, *, whole: bool) -> bool:
    """Return whether numbers may be an order of rows, or a counter."""
    return ndim == 0 or (ndim == 1 and whole and size <= LARGEST_ORDER)
