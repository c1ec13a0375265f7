"""Copies of the user's DataLoaders: with seeds of their own, or over some rows of the data set."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
)

from lrtune.errors import TaskError
from lrtune.task.copies import (
    OwnCopy,
    copied_parts,
    copy_sharing_data,
    has_own_state,
    refuse_kept_iterators,
)


class RowBatches(Sampler[list[int]]):
    """Batches of row numbers, in their order."""

    def __init__(self, batches: Sequence[Tensor]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class RowSampler(Sampler[int]):
    """Row numbers in their order, or shuffled by a generator: the global one where it is None."""

    def __init__(self, rows: Tensor, generator: torch.Generator | None, *, shuffle: bool) -> None:
        self.rows, self.generator, self.shuffle = rows, generator, shuffle

    def __iter__(self) -> Iterator[int]:
        rows = self.rows
        if self.shuffle:
            rows = rows[torch.randperm(len(rows), generator=self.generator)]
        return iter(rows.tolist())

    def __len__(self) -> int:
        return len(self.rows)


def goes_by_index(loader: object) -> bool:
    """Return whether it is a DataLoader that reads every row of its data set once an epoch.

    Any other sampler, batch sampler or `__iter__` decides by itself what an epoch is.
    """
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return False
    sampler: Any = loader.sampler
    plain = type(sampler) is SequentialSampler
    plain |= type(sampler) is RandomSampler and not sampler.replacement
    return (
        plain
        and type(loader.batch_sampler) is BatchSampler
        and loader.batch_size is not None
        and type(loader).__iter__ is DataLoader.__iter__
        and len(sampler) == len(cast("Any", loader.dataset))
    )


def drawn_rows(loader: DataLoader[Any]) -> Tensor | None:
    """Return the rows that a loader draws in each epoch; None where nobody knows."""
    if goes_by_index(loader):
        return torch.arange(len(cast("Any", loader.dataset)))
    return loader.sampler.rows if isinstance(loader.sampler, RowSampler) else None


def short_last_batch(loader: DataLoader[Any]) -> DataLoader[Any] | None:
    """Return a loader of a last batch of an epoch, which has fewer rows than the others.

    None where all batches have the same number of rows, or where a batch sampler or `__iter__` of
    the user's own decides that. Its rows are drawn in this call.
    """
    batches, dataset = loader.batch_sampler, loader.dataset
    if type(batches) is not BatchSampler or isinstance(dataset, IterableDataset):
        return None
    if batches.drop_last or type(loader).__iter__ is not DataLoader.__iter__:
        return None
    try:
        count = len(cast("Any", batches.sampler))
    except TypeError:  # a sampler need not know its length
        return None
    rest = count % batches.batch_size
    if not rest or rest == count:
        return None
    rows = [list(batches.sampler)[-rest:]]
    return _changed(loader, sampler=rows, batch_sampler=rows, num_workers=0)


def has_end(source: object) -> bool:
    """Return whether an iterable is known to end: a list, or a loader that knows its length."""
    if not isinstance(source, DataLoader):
        return isinstance(source, (list, tuple, Tensor))
    if isinstance(source.dataset, IterableDataset) or (
        type(source).__iter__ is not DataLoader.__iter__
    ):
        return False
    try:
        return len(source) >= 0
    except TypeError:  # a sampler without a length
        return False


class RecordedRows(Sampler[Any]):
    """A batch sampler that notes which rows it gave in the epoch so far."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.drawn = inner, list[Any]()

    def __iter__(self) -> Iterator[Any]:
        self.drawn = []
        for rows in self.inner:
            self.drawn.append(rows)
            yield rows

    def __len__(self) -> int:
        return len(self.inner)


def record_rows(source: Any) -> Callable[[int], Sequence[object] | None]:
    """Let a copy of a loader note its rows; return a function of the place of a batch.

    It returns the rows of a batch that was read in the present epoch; None where nobody knows.
    """
    by_rows = isinstance(source, DataLoader) and not isinstance(source.dataset, IterableDataset)
    if not by_rows or source.batch_sampler is None:
        return lambda _place: None
    recorded = RecordedRows(source.batch_sampler)
    vars(source)["batch_sampler"] = recorded

    def rows_of(place: int) -> Sequence[object] | None:
        rows = recorded.drawn[place] if place < len(recorded.drawn) else None
        return rows if isinstance(rows, (list, tuple)) else None

    return rows_of


def shuffles(loader: DataLoader[Any]) -> bool:
    """Return whether a loader that goes by index, or draws some of the rows, shuffles them."""
    sampler = loader.sampler
    return (
        sampler.shuffle if isinstance(sampler, RowSampler) else isinstance(sampler, RandomSampler)
    )


def loader_of_batches(loader: DataLoader[Any], batches: Sequence[Tensor]) -> DataLoader[Any]:
    """Return a loader with the settings of this one that gives these batches of row numbers."""
    # Samplers choose the rows, and no Subset: functions of workers see the user's own data set.
    sampler = RowBatches(batches)
    workers = min(loader.num_workers, len(batches))  # more would start for nothing
    return _changed(loader, sampler=sampler, batch_sampler=sampler, num_workers=workers)


def loader_of_rows(loader: DataLoader[Any], rows: Tensor, *, drop_last: bool) -> DataLoader[Any]:
    """Return a loader with the settings of this one, also its shuffling, over these rows."""
    assert loader.batch_size is not None, "only a loader that goes by index is asked for rows"
    generator = getattr(loader.sampler, "generator", None)
    sampler = RowSampler(rows, generator, shuffle=shuffles(loader))
    batch_sampler = BatchSampler(sampler, loader.batch_size, drop_last)
    return _changed(loader, sampler=sampler, batch_sampler=batch_sampler, drop_last=drop_last)


def copy_loader(loader: DataLoader[Any], what: str, *, with_dataset: bool) -> OwnCopy:
    """Return a copy of the user's loader for one stream of batches.

    A data set may be huge, so the copy shares it, unless it has a state of its own. It does not
    share samplers and random generators: their state would move on in the user's own loader.

    Args:
        loader: The user's.
        what: `train` or `val`, for messages.
        with_dataset: Copy the data set in any case, but not what is large in it.

    Raises:
        TaskError: The sampler cannot be copied, or the loader keeps an iterator.
    """
    torchs: DataLoader[Any] = DataLoader(cast("Any", [0]))
    own = {key: value for key, value in vars(loader).items() if key not in vars(torchs)}
    refuse_kept_iterators(loader, own, what)
    dataset, memo = loader.dataset, dict[int, Any]()
    if with_dataset or has_own_state(dataset):
        dataset = copy_sharing_data(dataset, memo, what)
    else:
        memo[id(dataset)] = dataset
    generator = None if loader.generator is None else torch.Generator(loader.generator.device)
    memo[id(loader.generator)] = generator
    try:
        sampler, batch_sampler = copy.deepcopy((loader.sampler, loader.batch_sampler), memo)
    except Exception as error:
        raise TaskError(
            f"the sampler of the {type(loader).__name__} cannot be copied "
            f"({type(error).__name__}: {error}), and iterating yours would change its state. "
            "Pass the data set itself, or a sampler that copy.deepcopy can copy."
        ) from error
    made = _changed(
        loader,
        dataset=dataset,
        sampler=sampler,
        batch_sampler=batch_sampler,
        generator=generator,
    )
    return OwnCopy(made, [*copied_parts(memo), made])


def _changed(loader: DataLoader[Any], **attributes: Any) -> DataLoader[Any]:
    """Return a shallow copy of a loader with some other attributes."""
    made = copy.copy(loader)
    # DataLoader.__setattr__ refuses to replace these after construction; this goes around it.
    vars(made).update(attributes, _iterator=None)
    return made
