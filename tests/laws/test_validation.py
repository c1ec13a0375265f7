"""Validation: data of any form are split once in halves, and measuring changes nothing."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import zoo
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, get_worker_info

from lrtune import Cohort, Run, Task
from lrtune.errors import ArgumentError, TaskError
from lrtune.task.loaders import loader_of_batches
from lrtune.task.measuring import mean_and_stderr
from lrtune.task.random_state import preserve_random_state
from tests import halved
from tests.halved import BATCH, FORMS, ROWS, rows_of


def model():
    return zoo.born(lambda: nn.Linear(3, 4))


def brought(name, source=None, **more):
    """A task with validation data of that form."""
    val = FORMS[name]() if source is None else source
    train = halved.dicts()[:2] if "dict" in name else FORMS["objects"]()[:2]
    return Task(model(), train, val=val, objective=halved.objective, device="cpu", **more)


def read(task, samples=None):
    """The rows of each part, batch by batch."""
    with preserve_random_state():
        found = {"selection": [], "test": []}
        for part, batch in task._val.batches(samples):
            found[part].append(rows_of(batch))
        return found


def flat(batches):
    return [row for batch in batches for row in batch]


def measured(task, samples=None):
    with preserve_random_state():
        return task.validate({"": task.init_state(0, 0.1)}, samples)[""]


# --- the halves -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
def test_halves_are_disjoint_and_hold_every_row(name):
    parts = {part: flat(batches) for part, batches in read(brought(name)).items()}
    assert sorted(parts["selection"] + parts["test"]) == list(range(ROWS))
    unequal = BATCH if name in halved.WHOLE else 4 if name in halved.BY_ROWS else 1
    assert abs(len(parts["selection"]) - len(parts["test"])) <= unequal


@pytest.mark.parametrize("name", halved.STRATIFIED)
def test_halves_are_stratified_where_the_labels_are_known(name):
    labels = halved.rows()[1]
    parts = read(brought(name))
    one, other = (torch.bincount(labels[flat(parts[part])], minlength=4) for part in parts)
    assert (one - other).abs().max() <= 1


@pytest.mark.parametrize("name", FORMS)
def test_halves_and_samples_are_the_same_whatever_was_asked_before(name):
    task, other = brought(name), brought(name)
    whole, short, longer = read(task), read(task, 7), read(task, 12)
    torch.rand(3), np.random.random(3)
    assert [read(other, 12), read(other, 7), read(other)] == [longer, short, whole]
    assert [read(task), read(task, 12), read(task, 7)] == [whole, longer, short]


@pytest.mark.slow
def test_halves_and_samples_are_the_same_in_another_process():
    names = sorted(set(FORMS) - {"loader with workers"})
    code = (
        "from tests.laws.test_validation import brought, read; "
        f"print([(read(brought(name)), read(brought(name), 9)) for name in {names}])"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    here = [(read(brought(name)), read(brought(name), 9)) for name in names]
    assert seen.stdout.strip() == repr(here)


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=5)
@given(less=st.integers(1, 30), more=st.integers(1, 30))
@example(less=1, more=ROWS)
def test_a_sample_is_the_first_part_of_a_longer_one(name, less, more):
    task = brought(name)
    one, other = (flat(read(task, each)["selection"]) for each in sorted((less, more)))
    assert other[: len(one)] == one
    selection = flat(read(task)["selection"])
    assert set(other) <= set(selection)
    wanted = min(less, more, len(selection))
    if name == "graphs":  # batches that cannot be cut
        assert wanted <= len(one) < wanted + BATCH
    elif name != "objects":
        assert len(one) == wanted
    assert read(task, less)["test"] == []


def test_a_sample_has_each_class_by_its_share():
    labels = torch.arange(400) % 4
    inputs = torch.randn(400, 3)
    inputs[:, 0] = torch.arange(400) / ROWS
    for val in ((inputs, labels), list(zip(inputs.split(50), labels.split(50), strict=True))):
        task = Task(model(), (inputs, labels), val=val, device="cpu")
        for samples in (20, 60, 100):
            sample = labels[flat(read(task, samples)["selection"])]
            assert (torch.bincount(sample) - samples / 4).abs().max() <= 3


# --- what it costs --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [halved.Counted, halved.Labelled])
@pytest.mark.parametrize("loads", [True, False], ids=["loader", "dataset"])
@pytest.mark.parametrize("samples", [1, 5, 12])
def test_a_short_validation_reads_its_samples_and_no_more(kind, loads, samples):
    dataset = kind()
    task = brought("dataset", DataLoader(dataset, BATCH, shuffle=True) if loads else dataset)
    dataset.read.clear()
    parts = measured(task, samples)
    assert len(dataset.read) == samples == parts[0].samples
    dataset.read.clear()
    measured(task)
    assert sorted(dataset.read) == list(range(ROWS))


@pytest.mark.parametrize("reuse", [True, False])
def test_a_stream_is_read_once_for_all_short_validations(reuse):
    source = halved.Iterated(halved.a_list(), reuse=reuse)
    task = brought("iterable", source)
    source.passes.clear()
    first = [measured(task, 12), measured(task, 5)]
    assert len(source.passes) == 1
    assert [measured(task, 12), measured(task, 5)] == first
    assert len(source.passes) == 1
    measured(task)
    assert len(source.passes) == 2
    everything = measured(task, 500)  # all that there is; so nothing more can be asked for
    assert everything == measured(task, 900) == measured(task, 30)
    assert len(source.passes) == 3


def test_a_task_is_tried_on_one_validation_batch():
    calls = []

    def objective(model, batch):
        calls.append(len(halved.of_batch(batch)[1]))
        return halved.objective(model, batch)

    for name in FORMS:
        calls.clear()
        task = Task(model(), FORMS[name](), val=FORMS[name](), objective=objective, device="cpu")
        assert calls[0] <= ROWS, "an update"
        assert len(calls) <= 8, "whole and halves, a short last batch, one of validation"
        assert task.has_validation


COUNTED = sorted(set(FORMS) - {"objects"})
"""An object counts as one sample, because nothing tells how many it holds."""


@pytest.mark.parametrize("name", COUNTED)
def test_the_counts_are_those_of_the_parts(name):
    task = brought(name)
    before = task.val_counts
    parts = {part.part: part.samples for part in measured(task)}
    assert before == task.val_counts == parts
    assert parts == {part: len(flat(rows)) for part, rows in read(task).items()}


def test_a_stream_is_counted_by_the_task_and_not_read_for_that_again():
    source = halved.Iterated(halved.a_list())
    task = brought("iterable", source)
    passes = len(source.passes)
    assert sum(task.val_counts.values()) == ROWS
    assert task.val_counts == task.val_counts
    assert len(source.passes) == passes


def test_counts_without_validation_data_are_empty():
    assert Task(model(), halved.rows(), device="cpu").val_counts == {}


# --- hands off ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMS)
def test_validating_changes_nothing_of_the_users(name):
    val = FORMS[name]()
    with zoo.untouched(None if name in halved.NOTING else val):
        task = brought(name, val)
        cohort = Cohort(task, [Run("a", 0.1), Run("b", 0.2, seed=1)], 4)
        cohort.validate(5).advance(2).validate().validate(9)
        cohort.advance().validate()
        assert task.val_counts


def test_the_users_own_data_set_is_what_its_workers_see():
    """Such as the function that opens a file in each worker."""

    class Opened(TensorDataset):
        opened = False

        def __getitem__(self, row):
            assert self.opened
            return super().__getitem__(row)

    def open_it(_worker):
        get_worker_info().dataset.opened = True

    loader = DataLoader(Opened(*halved.rows()), BATCH, num_workers=1, worker_init_fn=open_it)
    assert [part.samples for part in measured(brought("loader", loader))] == [21, 20]


def test_no_more_workers_start_than_there_are_batches():
    rows, loader = [torch.arange(3)] * 2, FORMS["loader"]()
    assert loader_of_batches(loader, rows).num_workers == 0
    loader = DataLoader(loader.dataset, BATCH, num_workers=2)
    assert loader_of_batches(loader, rows[:1]).num_workers == 1
    assert loader_of_batches(loader, [*rows, *rows]).num_workers == loader.num_workers == 2


# --- the losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COUNTED)
def test_the_mean_of_both_parts_is_the_loss_over_all_data(name):
    task = brought(name)
    parts = measured(task)
    inputs, labels = halved.rows()
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model()(inputs), labels).item()
    whole = sum(part.loss * part.samples for part in parts) / ROWS
    assert whole == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", FORMS)
def test_a_sample_has_the_loss_of_its_rows(name):
    task = brought(name)
    (part,) = measured(task, 11)
    chosen = flat(read(task, 11)["selection"])
    inputs, labels = (one[chosen] for one in halved.rows())
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model()(inputs), labels).item()
    assert part.part == "selection"
    assert part.loss == pytest.approx(expected, rel=1e-6)


@settings(max_examples=30)
@given(rows=st.integers(1, 90), size=st.integers(1, 40))
def test_batches_that_are_made_here_are_small_enough_to_show_an_error(rows, size):
    inputs = torch.randn(rows, 3)
    inputs[:, 0] = torch.arange(rows) / ROWS
    labels = torch.zeros(rows, dtype=torch.int64)
    for val in ((inputs, labels), TensorDataset(inputs, labels)):
        task = Task(model(), (inputs, labels), val=val, batch_size=size, device="cpu")
        for samples in (None, 6):
            for batches in read(task, samples).values():
                count = len(flat(batches))
                assert len(batches) >= min(5, count)
                assert max(map(len, batches), default=0) <= size


def test_the_users_loader_keeps_its_batch_size():
    sizes = [[len(rows) for rows in batches] for batches in read(brought("loader")).values()]
    assert sizes == [[8, 8, 5], [8, 8, 4]]


@given(
    st.lists(
        st.tuples(st.floats(-9, 9), st.integers(1, 99)), min_size=1, max_size=9
    )
)  # fmt: skip
def test_the_error_is_that_of_a_weighted_mean(batches):
    losses, samples = map(np.array, zip(*batches, strict=True))
    mean, stderr = mean_and_stderr(losses, samples)
    assert mean == pytest.approx(np.average(losses, weights=samples))
    assert np.isnan(stderr) == (len(losses) < 2)
    shifted = mean_and_stderr(3 + 2 * losses, samples)
    assert shifted == pytest.approx((3 + 2 * mean, 2 * stderr), nan_ok=True, abs=1e-9)
    equal = mean_and_stderr(losses, [1] * len(losses))[1]
    if len(losses) > 1:
        assert equal == pytest.approx(np.std(losses, ddof=1) / np.sqrt(len(losses)), abs=1e-9)


def test_the_error_is_the_spread_of_repeated_draws():
    """Two thousand validation sets of noise: the stated error is the scatter of the stated mean."""
    generator = np.random.default_rng(0)
    means, errors = zip(
        *(mean_and_stderr(generator.normal(size=12), [7] * 12) for _ in range(2000)), strict=True
    )
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(means), rel=0.05)


def test_a_loss_that_is_not_finite_stays_so():
    assert np.isnan(mean_and_stderr([1.0, np.nan], [1, 1])[0])
    assert mean_and_stderr([1.0, np.inf], [1, 1])[0] == np.inf


# --- batches that cannot be cut, and odd ones -----------------------------------------------------


def test_a_single_batch_that_cannot_be_cut_selects_and_states_nothing():
    for val in (halved.graphs()[:1], FORMS["objects"]()[:1]):
        task = brought("graphs", val)
        (part,) = measured(task)
        assert (part.part, np.isnan(part.stderr)) == ("selection", True)
        assert task.val_counts["test"] == 0
        assert measured(task, 3) == [part]


def test_a_single_row_selects_and_states_nothing():
    inputs, labels = (one[:1] for one in halved.rows())
    for val in ((inputs, labels), [(inputs, labels)]):
        task = Task(model(), halved.rows(), val=val, device="cpu")
        assert [(part.part, part.samples) for part in measured(task)] == [("selection", 1)]


def test_rows_of_different_shapes_are_sampled_in_batches_of_their_own():
    """As sequences that are padded batch by batch."""

    def mean(model, batch):
        return nn.functional.cross_entropy(model(batch["words"].mean(1)), batch["labels"])

    inputs, labels = halved.rows()
    chunks = zip(inputs.split(6), labels.split(6), strict=True)
    val = [
        {"words": x[:, None].expand(-1, 2 + n, -1), "labels": y, "hint": None}
        for n, (x, y) in enumerate(chunks)
    ]
    task = Task(model(), val, val=val, objective=mean, device="cpu")
    (part,) = measured(task, 15)
    assert part.samples == 15
    parts = measured(task)
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model()(inputs), labels).item()
    assert sum(part.loss * part.samples for part in parts) / ROWS == pytest.approx(expected)


def test_a_later_batch_that_cannot_be_cut_goes_to_one_part():
    whole = [*halved.a_list()[:2], *[(x, y, torch.zeros(())) for x, y in halved.a_list()[2:4]]]

    def of_first_two(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    task = Task(model(), whole, val=whole, objective=of_first_two, device="cpu")
    parts = read(task)
    assert list(range(16, 24)) in parts["selection"]
    assert list(range(24, 32)) in parts["test"]
    assert sorted(flat(parts["selection"] + parts["test"])) == list(range(32))


@pytest.mark.parametrize("samples", [0, -1, 2.0, True])
def test_a_number_of_samples_that_is_none_is_refused(samples):
    with pytest.raises(ArgumentError, match="samples must be a whole number >= 1"):
        measured(brought("tensors"), samples)


@pytest.mark.parametrize("val", [[], DataLoader(TensorDataset(torch.zeros(0, 3)), 4)])
def test_validation_data_without_a_batch_are_refused(val):
    with pytest.raises(TaskError, match="the validation data gave no batch"):
        Task(model(), halved.rows(), val=val, device="cpu")
