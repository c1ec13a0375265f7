"""Validation data that can only be iterated: divided batch by batch, sampled in one pass."""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lrtune.errors import TaskError
from lrtune.results.schema import PARTS, SELECTION
from lrtune.task.batches import (
    Batch,
    clone_batch,
    count_examples,
    map_leaves,
    tensors_of,
)
from lrtune.task.data import IterableData
from lrtune.task.epochs import FoundBatch
from lrtune.task.loaders import has_end
from lrtune.task.random_state import preserve_random_state
from lrtune.task.rows import LEAST_BATCHES
from lrtune.task.splitting import StreamKeys, StreamSplitter, class_labels

ENDLESS = 10_000
"""By convention: a validation stream of so many batches whose length is not known has no end."""


@dataclass
class _Piece:
    """Some rows of a batch, which belong to one part, or a whole batch that cannot be cut.

    `classes` has the class of each row; None for a whole batch.
    """

    part: str
    batch: Batch
    classes: Sequence[int] | None


@dataclass
class _Kept:
    """One example that is kept in memory, or a `whole` batch, and its place in the sample."""

    key: float
    samples: int
    batch: Batch
    whole: bool


class StreamedHalves:
    """Two halves of the batches that an iterable gives, always in the same order.

    Where all tensors of the first batch have the same number of rows, the rows of each batch are
    divided; else whole batches go to the selection part and the test part in turn.

    Args:
        data: Only the first `most` batches are read; all when None.
        most: At least 1.
    """

    def __init__(self, data: IterableData, most: int | None = None) -> None:
        self._data, self._most, self._counts = data, most, dict[str, int]()
        self._asked, self._kept, self._size = 0, list[_Kept](), 1

    @property
    def counts(self) -> dict[str, int]:
        """The number of samples of each part; where nothing has counted them, all is read once."""
        if not self._counts:
            with preserve_random_state():
                for _ in self.batches():
                    pass
        return dict(self._counts)

    def batches(self, samples: int | None = None) -> Iterator[tuple[str, Batch]]:
        """Yield the batches of both parts, or so many samples of the selection part."""
        if samples is not None:
            for batch in self._sample(samples):
                yield SELECTION, batch
            return
        counts = dict.fromkeys(PARTS, 0)
        for piece in self._pieces():
            counts[piece.part] += count_examples(piece.batch)
            yield piece.part, piece.batch
        self._counts = counts

    def check_end(self) -> None:
        """Read the data once, unless they are known to end.

        Raises:
            TaskError: They give `ENDLESS` batches, and no end.
        """
        if self._most is None and not has_end(self._data.source):
            _ = self.counts

    def find(self, place: int, samples: int | None = None) -> FoundBatch:
        """Return a batch by its number in `batches(samples)`; all before it are read."""
        batches = list(islice(self.batches(samples), place + 1))
        part, batch = batches[-1]
        within = sum(part == other for other, _ in batches[:-1])
        return FoundBatch(batch, f"validation batch {within} of the {part} part")

    def odd_place(self) -> int | None:
        """Return None: only reading tells."""
        return None

    def first(self, count: int) -> Iterator[Batch]:
        """Yield the first batches."""
        for piece in islice(self._pieces(), count):
            yield piece.batch

    def read(self, count: int) -> Iterator[Batch]:
        """Yield the first batches as the loader gives them."""
        yield from islice(self._data.epoch(0, 0), count)

    def _pieces(self) -> Iterator[_Piece]:
        splitter, whole, by_rows = StreamSplitter(), 0, None
        for place, batch in enumerate(islice(self._data.epoch(0, 0), self._most)):
            if self._most is None and place == ENDLESS and not has_end(self._data.source):
                raise TaskError(
                    f"val gave {ENDLESS:,} batches and did not end; validation data have to. "
                    "Limit them to the first ones: Task(..., val_batches=200)."
                )
            count = _row_count(batch)
            by_rows = count > 0 if by_rows is None else by_rows
            if not by_rows or not count:
                yield _Piece(PARTS[whole % 2], batch, None)
                whole += 1
                continue
            classes = _row_classes(batch, count)
            for part, rows in zip(PARTS, splitter.split(classes), strict=True):
                if rows:
                    yield _Piece(part, _take(batch, rows), [classes[row] for row in rows])

    # --- the sample: kept in memory, because short runs ask for it again and again ----------------

    def _sample(self, samples: int) -> list[Batch]:
        """Return the first samples of the selection part in a fixed order, as batches."""
        held = sum(one.samples for one in self._kept)
        if samples > self._asked and (not self._asked or held >= self._asked):
            self._kept, self._size = self._collect(samples)
            self._asked = samples
        some, count = list[_Kept](), 0
        for one in self._kept:
            if count >= samples:
                break
            some.append(one)
            count += one.samples
        return _joined(some, max(1, min(self._size, count // LEAST_BATCHES)))

    def _collect(self, samples: int) -> tuple[list[_Kept], int]:
        """Return the samples with the lowest keys, in their order: at least so many, if there are.

        They are kept one by one, so that a shorter sample is the first part of a longer one. The
        number is the size of the batches that they come in.
        """
        keys, kept, held, size = StreamKeys(), list[_Kept](), 0, 1
        for piece in self._pieces():
            if piece.part != SELECTION:
                continue
            size = max(size, count_examples(piece.batch))
            for row, each in enumerate([0] if piece.classes is None else piece.classes):
                key = keys.key(each)
                if held >= samples and key >= kept[-1].key:
                    continue
                one = _kept(piece, row, key)
                bisect.insort(kept, one, key=lambda one: one.key)
                held += one.samples
                while held - kept[-1].samples >= samples:
                    held -= kept.pop().samples
        return kept, size


def _kept(piece: _Piece, row: int, key: float) -> _Kept:
    # Copies: a loader may reuse its buffers, and one row would keep its whole batch in memory.
    if piece.classes is None:
        return _Kept(key, count_examples(piece.batch), clone_batch(piece.batch), whole=True)
    return _Kept(key, 1, _take(piece.batch, [row]), whole=False)


def _row_count(batch: Batch) -> int:
    """Return the number of rows of a batch; 0 where it cannot be cut by rows."""
    leaves: list[Any] = []
    map_leaves(batch, leaves.append)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if any(leaf is not None and not isinstance(leaf, Tensor) for leaf in leaves):
        return 0  # nobody knows what other objects have to do with the rows
    counts = {len(one) if one.ndim and one.layout is torch.strided else 0 for one in tensors}
    return counts.pop() if len(counts) == 1 else 0


def _row_classes(batch: Batch, count: int) -> Sequence[int]:
    """Return the class of each row of a batch; always 0 where it has none."""
    target = batch[-1] if isinstance(batch, (tuple, list)) else None
    classes = class_labels(target, count)
    return [0] * count if classes is None else classes.tolist()


def _take(batch: Batch, rows: Sequence[int]) -> Batch:
    """Return a batch of these rows, which are copied."""
    index = torch.tensor(rows)
    return map_leaves(batch, lambda leaf: leaf if leaf is None else leaf[index])


def _joined(kept: Sequence[_Kept], size: int) -> list[Batch]:
    """Return examples as batches of at most `size`; those of other shapes in batches apart."""
    made = [one.batch for one in kept if one.whole]
    rows = [one.batch for one in kept if not one.whole]
    for start in range(0, len(rows), size):
        alike: dict[str, list[Batch]] = {}
        for row in rows[start : start + size]:
            alike.setdefault(str(map_leaves(row, _shape)), []).append(row)
        made += map(_concatenated, alike.values())
    return made


def _shape(leaf: Tensor | None) -> str:
    return "" if leaf is None else f"{leaf.dtype} {tuple(leaf.shape[1:])}"


def _concatenated(batches: Sequence[Batch]) -> Batch:
    columns = zip(*map(tensors_of, batches), strict=True)
    tensors = iter([torch.cat(column) for column in columns])
    return map_leaves(batches[0], lambda leaf: leaf if leaf is None else next(tensors))
