"""Validation data in two halves: one selects among runs, the other gives the stated loss."""

import itertools
import math
from collections.abc import Iterator
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lrtune.errors import TaskError
from lrtune.results.schema import PARTS, SELECTION
from lrtune.task.batches import Batch, count_examples
from lrtune.task.data import IterableData, as_data
from lrtune.task.epochs import Data, FoundBatch
from lrtune.task.repeats import repeatable
from lrtune.task.rows import Rows, rows_of
from lrtune.task.splitting import fair_order, split_in_halves
from lrtune.task.streams import StreamedHalves

LEAST_SAMPLES = 2
"""A share that is split off the training data has at least one sample for each half."""

State = TypeVar("State")


class ValidationData(Protocol):
    """Validation data in two parts, `selection` and `test`."""

    @property
    def counts(self) -> dict[str, int]:
        """The number of samples of each part."""

    def batches(self, samples: int | None = None) -> Iterator[tuple[str, Batch]]:
        """Yield batches with the names of their parts.

        All batches of both parts; or `samples` of the selection part, the first ones in a fixed
        order (all, if it has fewer; more, where they come in batches that cannot be cut).
        """

    def first(self, count: int) -> Iterator[Batch]:
        """Yield the first batches, and read no more than these."""

    def read(self, count: int) -> Iterator[Batch]:
        """Yield the first batches as the user's loader gives them, before they are divided."""

    def check_end(self) -> None:
        """Raise a TaskError where the data do not end."""

    def find(self, place: int, samples: int | None = None) -> FoundBatch:
        """Return a batch by its number in `batches(samples)`; all before it are read."""

    def odd_place(self) -> int | None:
        """Return the number of the first batch that holds NaN or infinite numbers.

        None where there is none, or where nobody knows without reading all.
        """


class HalvedRows:
    """Two halves of rows that can be had in any order."""

    def __init__(self, rows: Rows, which: Tensor) -> None:
        self._rows = rows
        halves = split_in_halves(rows.classes[which])
        self._parts = {part: which[half] for part, half in zip(PARTS, halves, strict=True)}

    @property
    def counts(self) -> dict[str, int]:
        """The number of samples of each part."""
        return {part: len(rows) for part, rows in self._parts.items()}

    def batches(self, samples: int | None = None) -> Iterator[tuple[str, Batch]]:
        """Yield the batches of both parts, or so many samples of the selection part."""
        named = self._named(samples)
        batches = self._rows.read([rows for _, rows in named])
        for (part, _), batch in zip(named, batches, strict=True):
            yield part, batch

    def _named(self, samples: int | None) -> list[tuple[str, Tensor]]:
        """Return the rows of each batch, with the name of its part."""
        parts = self._parts if samples is None else {SELECTION: self._parts[SELECTION][:samples]}
        return [(part, rows) for part, some in parts.items() for rows in self._rows.batches(some)]

    def check_end(self) -> None:
        """Do nothing: rows are counted."""

    def find(self, place: int, samples: int | None = None) -> FoundBatch:
        """Return a batch by its number in `batches(samples)`; no other is read."""
        part, rows = self._named(samples)[place]
        within = sum(part == other for other, _ in self._named(samples)[:place])
        batch = next(iter(self._rows.read([rows])))
        return FoundBatch(batch, f"validation batch {within} of the {part} part", rows.tolist())

    def odd_place(self) -> int | None:
        """Return the number of the first batch that holds NaN or infinite numbers."""
        odd = self._rows.odd_rows()
        if odd is None:
            return None
        named = enumerate(self._named(None))
        return next((place for place, (_, rows) in named if bool(odd[rows].any())), None)

    def first(self, count: int) -> Iterator[Batch]:
        """Yield the first batches."""
        return self._rows.read(self._rows.batches(self._parts[SELECTION])[:count])

    def read(self, count: int) -> Iterator[Batch]:
        """Yield the first batches, which are divided already: no row is in two of them."""
        return self.first(count)


def with_validation(
    train: Data, val: object, batch_size: int | None, most: int | None = None
) -> tuple[Data, ValidationData | None]:
    """Return training and validation data; a number is a share of the training data.

    `most` limits validation data to so many batches.
    """
    share = isinstance(val, (int, float)) and not isinstance(val, bool)
    if most is not None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise TaskError(f"val_batches must be a whole number >= 1, got {most!r}.")
        if share or val is None:
            raise TaskError(
                f"val_batches={most} limits validation data of their own, but val={val}. "
                + ("Make the share smaller." if share else "Pass val=..., or leave it out.")
            )
    if isinstance(val, (int, float)) and share:
        return hold_out(train, val)
    return train, None if val is None else validation_data(val, batch_size, most)


def validation_data(
    source: object, batch_size: int | None, most: int | None = None
) -> ValidationData:
    """Return validation data of any form; `batch_size` is for tensors and Datasets.

    `most` limits them: to the first batches of an iterable, or to a fair sample of as many rows.
    """
    size = batch_size if isinstance(source, (tuple, Dataset)) else None
    data = repeatable(as_data(source, size, what="val"))
    rows = rows_of(data)
    if rows is None:
        return StreamedHalves(cast("IterableData", data), most)
    every = torch.arange(len(rows.classes))
    if most is None or most * rows.size >= len(every):
        return HalvedRows(rows, every)
    return HalvedRows(rows, fair_order(rows.classes)[: most * rows.size].sort().values)


# --- a share of the training data -----------------------------------------------------------------


def hold_out(train: Data, share: float) -> tuple[Data, ValidationData]:
    """Split a share off the training data, and return the rest, and the share for validation.

    Raises:
        TaskError: The share is not in (0, 1), it is too small or too large for the data, or the
            data have no rows and are no list.
    """
    if not 0 < share < 1:
        raise TaskError(
            f"val={share!r} is a number; expected a share of the training data, > 0 and < 1, or "
            "validation data. Pass val=0.1 to use a tenth of the training data."
        )
    rows = rows_of(train)
    if rows is not None:
        order = fair_order(rows.classes)
        count = round(share * len(order))
        _check_count(share, count, len(order), rest=len(order) - count)
        rest = order[count:].sort().values
        return rows.training_data(rest), HalvedRows(rows, order[:count])
    source = cast("IterableData", train).source
    if not isinstance(source, list):
        raise TaskError(
            f"val={share:g} splits a share off tensors, a Dataset, a list of batches, or a "
            "DataLoader that goes through a Dataset with torch's own samplers; train is a "
            f"{type(source).__name__} whose samples cannot be chosen. Pass validation data of "
            "their own: val=loader."
        )
    return _hold_out_batches(source, share)


def _hold_out_batches(batches: list[Batch], share: float) -> tuple[Data, ValidationData]:
    """Split off evenly spaced batches of a list: every k-th, for a share of 1/k."""
    # So many of the first n batches: the last bit of a product such as 5 x 0.1 makes no difference.
    held_of = [math.floor(n * share + 0.5 + 1e-9) for n in range(len(batches) + 1)]
    held = [after > before for before, after in itertools.pairwise(held_of)]
    kept, rest = (
        [batch for batch, is_held in zip(batches, held, strict=True) if is_held is wanted]
        for wanted in (True, False)
    )
    samples = [sum(map(count_examples, some)) for some in (kept, batches)]
    _check_count(share, *samples, rest=len(rest))
    return IterableData(rest, "train"), StreamedHalves(IterableData(kept, "val"))


def _check_count(share: float, count: int, of: int, *, rest: int) -> None:
    if count < LEAST_SAMPLES or not rest:
        wrong = f"expected at least {LEAST_SAMPLES}" if rest else "and nothing is left to train on"
        raise TaskError(
            f"val={share:g} holds out {count} of {of} training samples; {wrong}. Pass another "
            "share, or validation data of their own."
        )
