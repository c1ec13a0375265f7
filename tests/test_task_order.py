"""The order of the data: a loader that seeds itself is told epoch and seed, and never changed."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    Sampler,
    Subset,
    TensorDataset,
)

from lrtune import Run, Task, train
from lrtune.errors import TaskError
from lrtune.task.batches import digest
from lrtune.task.copies import LARGEST_ORDER, copy_iterable
from lrtune.task.data import as_data
from lrtune.task.random_state import preserve_random_state
from lrtune.task.repeats import MOST_BATCHES, repeatable

ROWS, BATCH, EPOCH = zoo.ROWS, zoo.BATCH, zoo.ROWS // zoo.BATCH
X, Y = zoo.vectors()
SET = TensorDataset(X, Y)


def data_of(source):
    return repeatable(as_data(source, None, what="train"))


def epochs(data, seed=0, count=3):
    """The batches of the first epochs of a stream, as digests."""
    with preserve_random_state():
        stream = [digest(batch) for batch in itertools.islice(data.batches(seed), count * EPOCH)]
    return [stream[n * EPOCH : (n + 1) * EPOCH] for n in range(count)]


# --- samplers that seed themselves ----------------------------------------------------------------


def distributed(kind=DistributedSampler):
    return kind(SET, num_replicas=1, rank=0)


class Mine(DistributedSampler):
    """A subclass, as those that repeat augmentations."""


class SeedsItself(Sampler):
    """It is told the epoch, without a class of torch's above it."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return ROWS

    def __iter__(self):
        return iter(np.random.RandomState(self.epoch).permutation(ROWS).tolist())


class OwnBatches(Sampler):
    """A batch sampler around another sampler, which it may hand the epoch on to."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return EPOCH

    def __iter__(self):
        order = list(self.inner)
        return iter([order[n : n + BATCH] for n in range(0, ROWS, BATCH)])


class HandsOn(OwnBatches):
    def set_epoch(self, epoch):
        self.inner.set_epoch(epoch)


SAMPLERS = {
    "distributed": lambda: DataLoader(SET, BATCH, sampler=distributed()),
    "subclass": lambda: DataLoader(SET, BATCH, sampler=distributed(Mine)),
    "own": lambda: DataLoader(SET, BATCH, sampler=SeedsItself()),
    "batch sampler": lambda: DataLoader(
        SET, batch_sampler=BatchSampler(distributed(), BATCH, drop_last=False)
    ),
    "own batch sampler": lambda: DataLoader(SET, batch_sampler=OwnBatches(distributed())),
    "hands on": lambda: DataLoader(SET, batch_sampler=HandsOn(SeedsItself())),
    "workers": lambda: DataLoader(SET, BATCH, sampler=distributed(), num_workers=1),
    "batches apart": lambda: DataLoader(
        SET, None, sampler=BatchSampler(distributed(), BATCH, False)
    ),
}


def innermost(loader):
    """The sampler of a loader that is told the epoch in its owner's loop."""
    for part in (loader.sampler, loader.batch_sampler):
        for one in (part, getattr(part, "sampler", None), getattr(part, "inner", None)):
            if hasattr(one, "set_epoch"):
                return one
    raise AssertionError


@pytest.mark.parametrize("name", SAMPLERS)
def test_seed_0_is_the_order_of_the_owners_loop(name):
    loader, expected = SAMPLERS[name](), []
    for epoch in range(3):
        innermost(loader).set_epoch(epoch)
        expected.append([digest(batch) for batch in loader])
    assert epochs(data_of(SAMPLERS[name]())) == expected


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_that_seeds_itself_has_an_order_for_each_epoch_and_seed(name):
    loader = SAMPLERS[name]()
    with zoo.untouched(loader):
        data = data_of(loader)
        every = [tuple(one) for seed in (0, 1, 2) for one in epochs(data, seed)]
        assert len(set(every)) == 9
        assert every[3:6] == [tuple(one) for one in epochs(data_of(SAMPLERS[name]()), 1)]


def test_the_epoch_is_told_with_100_000_times_the_seed():
    class Noting(SeedsItself):
        told = zoo.Tally()

        def set_epoch(self, epoch):
            self.told.append(epoch)

    data = as_data(DataLoader(SET, BATCH, sampler=Noting()), None, what="train")
    epochs(data, seed=2)
    assert Noting.told == [200_000, 200_001, 200_002]


def test_runs_of_a_distributed_sampler_see_their_seeds_orders():
    task = Task(zoo.model("linear"), SAMPLERS["distributed"](), device="cpu")
    frame = train(task, [Run("a", 0.01), Run("b", 0.01, seed=1)], 3 * EPOCH).frame
    seen = frame.pivot(index="step", columns="run", values="batch").to_numpy()
    assert len(np.unique(seen)) == seen.size


def test_a_distributed_sampler_has_its_share_of_the_rows():
    sampler = DistributedSampler(SET, num_replicas=3, rank=1)
    data = data_of(DataLoader(SET, BATCH, sampler=sampler))
    with preserve_random_state():
        assert sum(len(batch[0]) for batch in data.epoch(0, 0)) == ROWS / 3


# --- data sets and loaders that are told the epoch ------------------------------------------------


class Epochs(Dataset):
    """A data set whose examples depend on the epoch."""

    def __init__(self):
        self.epoch, self.told = 0, []

    def set_epoch(self, epoch):
        self.epoch = epoch
        self.told.append(epoch)

    def __len__(self):
        return ROWS

    def __getitem__(self, row):
        return X[row] + self.epoch, Y[row]


class StreamedEpochs(IterableDataset):
    """One that shuffles with the epoch, which it keeps in a tensor, as some libraries do."""

    def __init__(self):
        self.epoch = torch.zeros((), dtype=torch.int64)

    def set_epoch(self, epoch):
        self.epoch.fill_(epoch)

    def __iter__(self):
        for row in np.random.RandomState(int(self.epoch)).permutation(ROWS):
            yield X[row], Y[row]


class LoaderOfEpochs(DataLoader):
    """A loader that hands the epoch on to its data set, as those of accelerate do."""

    def set_epoch(self, epoch):
        self.dataset.set_epoch(epoch)


TOLD = {
    "data set": lambda: DataLoader(Epochs(), BATCH),
    "loader": lambda: LoaderOfEpochs(Epochs(), BATCH),
    "subset": lambda: DataLoader(Subset(Epochs(), range(ROWS)), BATCH),
    "stream": lambda: DataLoader(StreamedEpochs(), BATCH),
    "iterable": lambda: zoo.Named(DataLoader(StreamedEpochs(), BATCH)),
}


@pytest.mark.parametrize("name", TOLD)
def test_data_sets_that_are_told_the_epoch_are_told_it_on_a_copy(name):
    loader = TOLD[name]()
    with zoo.untouched(loader, getattr(loader, "source", loader).dataset):
        data = data_of(loader)
        every = [tuple(one) for seed in (0, 1) for one in epochs(data, seed)]
    assert len(set(every)) == 6


# --- loaders with a state of their own ------------------------------------------------------------


class Flips:
    """Whole data in memory, mirrored in every other pass, as the loader of airbench does it."""

    def __init__(self):
        self.images, self.epoch, self.cached = X, 0, {}

    def __iter__(self):
        if not self.cached:
            self.cached["mirrored"] = self.images.flip(1)
        images = self.images if self.epoch % 2 == 0 else self.cached["mirrored"]
        self.epoch += 1
        for rows in torch.randperm(ROWS).split(BATCH):
            yield images[rows], Y[rows]


def test_a_loader_that_flips_goes_on_within_a_stream_and_nowhere_else():
    loader = Flips()
    with zoo.untouched(loader):
        data = data_of(loader)
        with preserve_random_state():
            batches = list(itertools.islice(data.batches(0), 2 * EPOCH))
        first, second = (torch.cat([x for x, _ in batches[n : n + EPOCH]]) for n in (0, EPOCH))
        assert sorted(first[:, 0].tolist()) == sorted(X[:, 0].tolist())
        assert sorted(second[:, 0].tolist()) == sorted(X[:, 2].tolist())
        once = epochs(data)
        assert epochs(data) == once != epochs(data, 1)


class ShufflesInPlace:
    """It shuffles the order that it keeps."""

    def __init__(self, order):
        self.order = order

    def __iter__(self):
        random.shuffle(self.order)
        for start in range(0, ROWS, BATCH):
            rows = [int(row) for row in self.order[start : start + BATCH]]
            yield X[rows], Y[rows]


class OwnGenerator(Dataset):
    """It draws from a generator of its own, which lies inside of it."""

    def __init__(self, generator):
        self.transform = {"noise": [generator]}

    def __len__(self):
        return ROWS

    def __getitem__(self, row):
        (generator,) = self.transform["noise"]
        draw = generator.normal if hasattr(generator, "normal") else lambda: generator.gauss(0, 1)
        return X[row] + draw(), Y[row]


class Counts(Dataset):
    """The numbers of an example depend on how many were read before."""

    def __init__(self):
        self.count = 0

    def __len__(self):
        return ROWS

    def __getitem__(self, row):
        self.count += 1
        return X[row] + self.count, Y[row]


class CountsBatches(IterableDataset):
    def __init__(self):
        self.count = 0

    def __iter__(self):
        for x, y in SET:
            self.count += 1
            yield x + self.count, y


class OwnIterator:
    """It keeps an iterator that can be copied, and goes on where it stopped."""

    def __init__(self):
        self.rows = iter(list(range(ROWS - 1)) * 9)

    def __iter__(self):
        for _ in range(EPOCH):
            rows = list(itertools.islice(self.rows, BATCH))
            yield X[rows], Y[rows]


class HasGenerator:
    """An iterable around a loader that shuffles by its own generator."""

    def __init__(self):
        generator = torch.Generator().manual_seed(5)
        self.loader = DataLoader(SET, BATCH, shuffle=True, generator=generator)

    def __iter__(self):
        return iter(self.loader)


COPIED = {
    "flips": Flips,
    "a list in place": lambda: ShufflesInPlace(list(range(ROWS))),
    "an array in place": lambda: ShufflesInPlace(np.arange(ROWS)),
    "numpy's generator": lambda: DataLoader(OwnGenerator(np.random.default_rng(1)), BATCH),
    "an old generator": lambda: DataLoader(OwnGenerator(np.random.RandomState(1)), BATCH),
    "python's generator": lambda: DataLoader(OwnGenerator(random.Random(1)), BATCH),
    "a generator in a subset": lambda: DataLoader(
        Subset(OwnGenerator(random.Random(1)), range(ROWS)), BATCH
    ),
    "a data set that counts": lambda: DataLoader(Counts(), BATCH, shuffle=True),
    "a subset that counts": lambda: DataLoader(Subset(Counts(), range(ROWS)), BATCH),
    "a stream that counts": lambda: DataLoader(CountsBatches(), BATCH),
    "an iterator": OwnIterator,
    "a loader with a generator": HasGenerator,
    "a sampler with a state": zoo.DATA["stateful sampler"],
}


@pytest.mark.parametrize("name", COPIED)
def test_a_state_is_copied_for_each_stream(name):
    source = COPIED[name]()
    with zoo.untouched(source, vars(source)):
        data = data_of(source)
        once = epochs(data)
        assert epochs(data) == epochs(data_of(COPIED[name]())) == once
        assert len({tuple(one) for one in once}) == 3


@pytest.mark.parametrize("name", COPIED)
def test_validation_reads_a_state_from_its_begin(name):
    """So every run is validated on the same numbers, however often."""
    source = COPIED[name]()
    with zoo.untouched(source, vars(source)), preserve_random_state():
        task = Task(zoo.model("linear"), (X, Y), val=source, device="cpu")
        state = task.init_state(0, 0.1)
        parts, few = task.validate({"": state}), task.validate({"": state}, 5)
        assert task.validate({"": state}) == parts
        assert task.validate({"": state}, 5) == few


def test_data_are_read_alike_while_the_user_reads_them():
    loader = Flips()
    data = data_of(loader)
    once = epochs(data)
    with preserve_random_state():
        list(loader)
    assert epochs(data) == once


def test_a_copy_shares_what_is_large():
    class Holder:
        def __init__(self):
            self.pictures = torch.zeros(5, 3)
            self.mean = np.zeros(3)
            self.tokens = torch.zeros(1, dtype=torch.int64).expand(LARGEST_ORDER + 1)
            self.teacher = torch.nn.Linear(3, 3)
            self.dataset = SET
            self.several = [torch.zeros(2, 3), torch.zeros(3)]
            self.order, self.count = torch.arange(9), torch.zeros(())

        def __iter__(self):
            yield self.pictures

    one = Holder()
    other = copy_iterable(one, "train").source
    for name in ("pictures", "mean", "tokens", "teacher", "dataset"):
        assert getattr(other, name) is getattr(one, name)
    assert all(a is b for a, b in zip(one.several, other.several, strict=True))
    assert one.several is not other.several
    assert one.order is not other.order
    assert one.count is not other.count


# --- what is refused ------------------------------------------------------------------------------


class KeepsItsWorkers(DataLoader):
    """As loaders do that start their workers once."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.iterator = super().__iter__()

    def __iter__(self):
        for _ in range(len(self)):
            yield next(self.iterator)


class KeepsGenerator:
    def __init__(self):
        self.batches = (batch for batch in [(X, Y)] * 99)

    def __iter__(self):
        return itertools.islice(self.batches, 3)


class StreamKeepsGenerator(IterableDataset):
    def __init__(self):
        self.rows = (row for row in list(SET) * 9)

    def __iter__(self):
        return itertools.islice(self.rows, ROWS)


class Calls:
    """A function that returns batches, as an iterable."""

    def __init__(self, function):
        self.function = function

    def __iter__(self):
        return self.function()


def counting():
    passes = 0

    def batches():
        nonlocal passes
        passes += 1
        yield from [(X + passes, Y)] * 3

    return Calls(batches)


def one_source_for_all():
    rows = itertools.cycle(range(7))
    return Calls(lambda: ((X + next(rows), Y) for _ in range(3)))


class CountsInItsClass(Dataset):
    count = 0

    def __len__(self):
        return ROWS

    def __getitem__(self, row):
        type(self).count += 1
        return X[row] + self.count, Y[row]


class Unseeded(Dataset):
    def __len__(self):
        return ROWS

    def __getitem__(self, row):
        return X[row] + np.random.default_rng().normal(), Y[row]


KEPT = {
    "a loader": (lambda: KeepsItsWorkers(SET, BATCH), "KeepsItsWorkers that keeps", "`iterator`"),
    "an iterable": (KeepsGenerator, "KeepsGenerator that keeps", "`batches`"),
    "a stream": (lambda: DataLoader(StreamKeepsGenerator(), BATCH), "StreamKeeps", "`rows`"),
}


@pytest.mark.parametrize("what", ["train", "val"])
@pytest.mark.parametrize("name", KEPT)
def test_an_iterator_that_cannot_be_copied_is_refused_unread(name, what):
    make, *told = KEPT[name]
    source, data = make(), {"train": (X, Y), "val": (X, Y)}
    with pytest.raises(TaskError, match="every run needs the same batches") as caught:
        Task(zoo.model("linear"), device="cpu", **data | {what: source})
    for part in (what, *told, "Make the iterator in __iter__"):
        assert part in str(caught.value)
    unread = next(iter(source.dataset if isinstance(source, DataLoader) else source))
    assert torch.equal(torch.atleast_2d(unread[0])[0], X[0])


DIFFERING = {
    "a function that counts": counting,
    "a function that goes on": one_source_for_all,
    "a class that counts": lambda: DataLoader(CountsInItsClass(), BATCH),
    "noise without a seed": lambda: DataLoader(Unseeded(), BATCH),
    "the same, by rows": Unseeded,
}


@pytest.mark.parametrize("what", ["train", "val"])
@pytest.mark.parametrize("name", DIFFERING)
def test_data_that_differ_from_pass_to_pass_are_refused(name, what):
    with pytest.raises(TaskError) as caught:
        Task(zoo.model("linear"), device="cpu", **{"train": (X, Y), what: DIFFERING[name]()})
    message = str(caught.value)
    for part in (f"{what} gives other batches", "of two passes differs", "Draw random numbers"):
        assert part in message


def test_a_file_whose_place_two_streams_would_move_is_refused():
    class Lines:
        def __init__(self, file):
            self.file = file

        def __iter__(self):
            self.file.seek(0)
            for line in iter(self.file.readline, ""):
                yield X + len(line), Y

    with (
        Path(__file__).open(encoding="utf-8") as file,
        pytest.raises(TaskError, match="gives other"),
    ):
        Task(zoo.model("linear"), Lines(file), device="cpu")


def test_a_data_set_that_is_refused_gets_its_attributes_back():
    class Both(Counts):
        def __getitem__(self, row):
            x, y = super().__getitem__(row)
            return x + np.random.default_rng().normal(), y

    dataset = Both()
    with zoo.untouched(dataset), pytest.raises(TaskError, match="train gives other batches"):
        Task(zoo.model("linear"), DataLoader(dataset, BATCH), device="cpu")


@pytest.mark.parametrize("rows", [64, 60])
def test_a_single_number_that_differs_between_two_passes_is_noticed(rows):
    class Spotted(TensorDataset):
        def __getitem__(self, row):
            (picture,) = super().__getitem__(row)
            spotted = picture.clone()
            spotted[0, 13, 17] += np.random.default_rng().normal()
            return spotted, row % 3

    pictures = Spotted(torch.zeros(rows, 1, 28, 28))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))
    with pytest.raises(TaskError, match="train gives other batches"):
        Task(model, DataLoader(pictures, 16), device="cpu")


# --- what is accepted -----------------------------------------------------------------------------


def test_two_passes_read_at_most_20_batches_each_and_no_endless_data():
    read = []

    def endless():
        for count in itertools.count():
            read.append(count)
            yield X, Y + 0 * count

    Task(zoo.model("linear"), Calls(endless), device="cpu")
    assert len(read) <= 2 * MOST_BATCHES + 1


def test_a_slow_loader_is_compared_on_two_batches(monkeypatch):
    read = []

    def slow():
        for count in range(9):
            read.append(count)
            yield X, Y

    monkeypatch.setattr("lrtune.task.repeats.PATIENCE", -1.0)
    repeatable(as_data(Calls(slow), None, what="train"))
    assert read == [0, 0, 1, 1]


def test_a_worker_function_with_a_state_changes_nothing():
    """It runs in the worker, whose memory ends with it."""

    class Init:
        count = 0

        def __call__(self, _worker):
            self.count += 1
            torch.utils.data.get_worker_info().dataset.shift = self.count

    class Shifted(TensorDataset):
        shift = 0

        def __getitem__(self, row):
            x, y = super().__getitem__(row)
            return x + self.shift, y

    loader = DataLoader(Shifted(X, Y), BATCH, num_workers=1, worker_init_fn=Init())
    with zoo.untouched(loader):
        data = data_of(loader)
        once = epochs(data)
    assert epochs(data) == once
    assert once[0] == [
        digest((X[n : n + BATCH] + 1, Y[n : n + BATCH])) for n in range(0, ROWS, BATCH)
    ]


def test_an_error_of_the_users_is_left_to_training():
    def broken():
        yield X, Y
        raise OSError("the disk is gone")

    task = Task(zoo.model("linear"), Calls(broken), device="cpu")
    with pytest.raises(OSError, match="the disk is gone") as caught:
        train(task, [Run("a", 0.1)], 3)
    assert "while loading batch 1 of seed 0" in caught.value.__notes__
