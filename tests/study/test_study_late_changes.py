"""Changes that neither the first batches nor the first updates show begin a new study, too."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from lrtune.study.fingerprint import fingerprint
from lrtune.study.identity import HINTS
from tests.study.tasks import a_task, numbers

X, Y = numbers(5, rows=400)


class Rows(Dataset):
    """A data set of the user's own, which keeps what it has read."""

    def __init__(self, held, *, read=lambda one, row: one[row]):
        self.held, self.read, self.seen = held, read, {}

    def __len__(self):
        return 400

    def __getitem__(self, row):
        self.seen[row] = torch.tensor(float(row))
        x, y = self.read(self.held[0], row), self.read(self.held[1], row)
        return torch.as_tensor(x, dtype=torch.float32), int(y)


class Streamed(IterableDataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __iter__(self):
        return iter(zip(self.x, self.y, strict=True))


def loader(dataset, **more):
    return DataLoader(dataset, 10, **more)


FORMS = {
    "tensors": lambda x, y: (x, y),
    "a TensorDataset": TensorDataset,
    "a loader": lambda x, y: loader(TensorDataset(x, y)),
    "a shuffled loader": lambda x, y: loader(TensorDataset(x, y), shuffle=True),
    "a subset": lambda x, y: loader(Subset(TensorDataset(x, y), list(range(0, 400, 2)))),
    "two data sets": lambda x, y: loader(
        ConcatDataset([TensorDataset(x[:200], y[:200]), TensorDataset(x[200:], y[200:])])
    ),
    "a list of batches": lambda x, y: list(zip(x.split(10), y.split(10), strict=True)),
    "arrays of a data set": lambda x, y: loader(Rows((x.numpy(), y.numpy()))),
    "lists of a data set": lambda x, y: loader(Rows((x.tolist(), y.tolist()))),
    "a table of a data set": lambda x, y: loader(
        Rows((x, pd.Series(y.numpy())), read=lambda one, row: np.asarray(one)[row])
    ),
    "an iterable data set": lambda x, y: loader(Streamed(x, y)),
}


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_data_that_change_behind_the_first_batches_are_another_task(form, part):
    def of(x, y):
        return fingerprint(a_task(**{part: form(x, y), "batch_size": None}))

    before, again = of(X, Y), of(X.clone(), Y.clone())
    assert before.differences(again) == []
    labels, inputs = Y.clone(), X.clone()
    labels[390] = 1 - labels[390]
    inputs[390, 3] += 1.0
    name = {"train": "training", "val": "validation"}[part]
    for other in (of(X, labels), of(inputs, Y)):
        (told,) = before.differences(other)
        early = HINTS[{"train": "data", "val": "validation"}[part]]  # where they are shuffled
        assert told in (f"the {name} data differ behind the first batches", early)
    rounded = torch.nextafter(X, torch.full_like(X, 9.0))
    assert before.differences(of(rounded, Y)) == [], "up to rounding"


def test_the_rows_and_the_weights_that_are_drawn_belong_to_the_data():
    def subset(*last):
        rows = [*range(300), *last]
        return fingerprint(a_task(train=loader(Subset(TensorDataset(X, Y), rows)), batch_size=None))

    def weighted(last):
        weights = [1.0] * 399 + [last]
        sampler = WeightedRandomSampler(weights, 400)
        data = loader(TensorDataset(X, Y), sampler=sampler)
        return fingerprint(a_task(train=data, batch_size=None))

    assert subset(1, 2).differences(subset(1, 2)) == []
    assert subset(1, 2).differences(subset(1, 3))
    assert weighted(1.0).differences(weighted(1.0)) == []
    assert weighted(1.0).differences(weighted(1e-9))


def test_what_a_data_set_has_read_is_no_part_of_it():
    data = Rows((X, Y))
    task = a_task(train=loader(data), batch_size=None)
    before = fingerprint(task)
    data.seen.update({row: torch.ones(3) for row in range(400)})
    assert before.differences(fingerprint(task)) == []


# --- code of the optimizer ------------------------------------------------------------------------

CODE = """
import torch

LATE = 5

def scaled(gradient, count):
    return gradient * 100 if count > LATE else gradient

class Warm(torch.optim.SGD):
    count, late = 0, 5

    def step(self, closure=None):
        self.count += 1
        if self.count > self.late:
            for group in self.param_groups:
                for one in group["params"]:
                    one.grad.mul_(100)  # much
        return super().step(closure)

class Wrapped(torch.optim.SGD):
    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.inner = Warm(params, lr=lr)

def whole(model, lr):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    count = [0]

    def hook(*_):
        count[0] += 1
        if count[0] > LATE:
            for one in model.parameters():
                one.grad.mul_(100)

    optimizer.register_step_pre_hook(hook)
    return optimizer

kind = Warm
lambdas = lambda model, lr: Warm(model.parameters(), lr=lr)
wrapped = lambda model, lr: Wrapped(list(model.parameters()), lr=lr)
"""


def code_of(folder, text):
    path = folder / f"code{len(list(folder.iterdir()))}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["kind", "lambdas", "wrapped", "whole"])
def test_code_of_an_optimizer_that_acts_late_belongs_to_the_task(tmp_path, name):
    def of(text):
        return fingerprint(a_task(optimizer=getattr(code_of(tmp_path, text), name)))

    before = of(CODE)
    same = (
        CODE.replace("  # much", "")
        .replace("model", "net")
        .replace("import torch", "\nimport torch")
    )
    assert before.differences(of(same)) == []
    later = CODE.replace("late = 0, 5", "late = 0, 1000").replace("LATE = 5", "LATE = 1000")
    for other in (later, CODE.replace("mul_(100)", "mul_(10)")):
        (told,) = before.differences(of(other))
        assert "its settings or code differ" in told
