"""Tiny models and data of every kind a user may have, and snapshots of their state.

The models take vectors of three numbers (the pictured ones, images of 4x4) to three classes.
"""

import contextlib
import functools
import random
import types
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrizations
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    TensorDataset,
)

ROWS, BATCH = 24, 8


def born(make, seed=0):
    """Whatever `make` makes, the same each time; the global random states stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def vectors():
    """Inputs and labels; each row can be told from the others."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(ROWS, 3, generator=generator)
    return inputs, inputs.argmax(1)


def images():
    """The same, as images of one channel."""
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(ROWS, 1, 4, 4, generator=generator)
    return inputs, torch.arange(ROWS) % 3


# --- models ---------------------------------------------------------------------------------------


class Tied(nn.Module):
    """Two layers that share one matrix."""

    def __init__(self):
        super().__init__()
        self.there, self.back = nn.Linear(3, 3, bias=False), nn.Linear(3, 3)
        self.back.weight = self.there.weight

    def forward(self, inputs):
        return self.back(torch.tanh(self.there(inputs)))


class Twice(nn.Module):
    """One layer, which it knows under two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first

    def forward(self, inputs):
        return self.second(torch.tanh(self.first(inputs)))


class Counting(nn.Module):
    """Remembers in buffers how often it was called, and lets that change what it says."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("drift", torch.zeros(3), persistent=False)

    def forward(self, inputs):
        if self.training:
            self.calls += 1
            self.drift = 0.9 * self.drift + 0.1 * inputs.detach().mean(0)
        return self.layer(inputs - self.drift) * (1 + 0.01 * self.calls)


class InPlace(nn.Module):
    """Overwrites its input."""

    def __init__(self, layer=nn.Linear):
        super().__init__()
        self.layer = layer(3, 3) if layer is nn.Linear else layer(3)

    def forward(self, inputs):
        inputs.mul_(2).add_(1)
        return self.layer(inputs)


class Noisy(nn.Module):
    """Draws from numpy's, Python's and torch's global generators, and tells what it drew."""

    drawn = ()  # what the latest call of any copy drew

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, inputs):
        noise = float(np.random.normal()), random.random(), float(torch.rand(()))
        Noisy.drawn = noise
        return self.layer(inputs * (1 + 0.1 * sum(noise)))


def linear():
    return nn.Linear(3, 3)


def convolution():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(64, 3),
    )


def dropout():
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def frozen():
    """The first layers are frozen: weights without gradients, BatchNorm in eval mode."""
    first, norm = nn.Linear(3, 8).requires_grad_(requires_grad=False), nn.BatchNorm1d(8)
    norm.weight.requires_grad_(requires_grad=False)
    model = nn.Sequential(first, norm, nn.ReLU(), nn.Linear(8, 3))
    norm.eval()
    return model


def lazy():
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))


def lazy_in_place():
    return InPlace(nn.LazyLinear)


def evaluated():
    return convolution().eval()


def pending():
    """Gradients that its owner has not applied yet."""
    model = linear()
    model(torch.ones(1, 3)).sum().backward()
    return model


def weight_norm():
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 8)), nn.Linear(8, 3))


def spectral_norm():
    """Its forward moves buffers of its own, in train mode."""
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(3, 8)), nn.Linear(8, 3))


PICTURED = {"convolution", "evaluated"}
MODELS = {
    make.__name__: make
    for make in (
        linear,
        convolution,
        dropout,
        Tied,
        Twice,
        frozen,
        lazy,
        lazy_in_place,
        evaluated,
        Counting,
        pending,
        weight_norm,
        spectral_norm,
        InPlace,
        Noisy,
    )
}


def model(name):
    """A model of the zoo, with the same weights each time."""
    return born(MODELS[name])


def tensors(name):
    """The data that it takes."""
    return images() if name in PICTURED else vectors()


# --- data -----------------------------------------------------------------------------------------


class Stateful(Sampler):
    """A random order from generators of its own, which move on with each pass."""

    def __init__(self, rows=ROWS):
        self.rows, self.passes = rows, 0
        self.numpy, self.python = np.random.default_rng(3), random.Random(3)

    def __len__(self):
        return self.rows

    def __iter__(self):
        self.passes += 1
        order = self.numpy.permutation(self.rows).tolist()
        self.python.shuffle(order)
        return iter(order)


class Streamed(IterableDataset):
    """Examples one by one, in a random order."""

    def __iter__(self):
        inputs, labels = vectors()
        for row in torch.randperm(ROWS).tolist():
            yield inputs[row], labels[row]


class Shuffled:
    """A re-iterable that shuffles with numpy's global generator."""

    def __iter__(self):
        inputs, labels = vectors()
        for rows in np.split(np.random.permutation(ROWS), ROWS // BATCH):
            yield inputs[rows], labels[rows]


class Augmented(Dataset):
    """Its examples are noisy, from all three global generators."""

    def __len__(self):
        return ROWS

    def __getitem__(self, row):
        inputs, labels = vectors()
        noise = float(torch.rand(())) + float(np.random.random()) + random.random()
        return inputs[row] + 0.01 * noise, labels[row]


@dataclass
class Named:
    """Batches as dicts."""

    source: DataLoader

    def __iter__(self):
        for inputs, labels in self.source:
            yield {"inputs": inputs, "labels": labels}


class Tally(list):
    """Notes what is read; copies of a loader share it."""

    def __deepcopy__(self, memo):
        return self


def by_name(model, batch):
    """The objective for batches that are dicts."""
    return nn.functional.cross_entropy(model(batch["inputs"]), batch["labels"])


def _set():
    return TensorDataset(*vectors())


def _generator():
    return torch.Generator().manual_seed(7)


def own_batch_sampler():
    sampler = RandomSampler(_set(), generator=_generator())
    return DataLoader(_set(), batch_sampler=BatchSampler(sampler, BATCH, drop_last=False))


DATA = {
    "tensors": vectors,
    "arrays": lambda: tuple(one.numpy() for one in vectors()),
    "dataset": _set,
    "augmented": Augmented,
    "loader": lambda: DataLoader(_set(), BATCH, shuffle=True),
    "generator": lambda: DataLoader(_set(), BATCH, shuffle=True, generator=_generator()),
    "stateful sampler": lambda: DataLoader(_set(), BATCH, sampler=Stateful()),
    "batch sampler": own_batch_sampler,
    "iterable": lambda: DataLoader(Streamed(), BATCH),
    "shuffled": Shuffled,
    "dicts": lambda: Named(DataLoader(_set(), BATCH, shuffle=True)),
}
"""Shuffled, all of them: three batches of eight. Tensors and data sets need batch_size=8."""

ORDERED = {
    "list": lambda: list(DataLoader(_set(), BATCH)),
    "in order": lambda: DataLoader(_set(), BATCH),
}
"""Always in the same order."""

UNCUT = {"tensors", "arrays", "dataset", "augmented"}


def options(name):
    """What else a task needs for data of that name."""
    size = {"batch_size": BATCH} if name in UNCUT else {}
    return size | ({"objective": by_name} if name == "dicts" else {})


# --- the camera -----------------------------------------------------------------------------------


@functools.singledispatch
def photograph(thing):
    """Everything that may change in it, as plain values that compare by bits."""
    return photograph(vars(thing)) if hasattr(thing, "__dict__") else repr(thing)


@photograph.register
def _(model: nn.Module):
    """Its parts, with all that they hold: mode, hooks, weights, buffers, attributes."""
    parts = dict(model.named_modules(remove_duplicate=False))
    return {name: (id(part), str(type(part)), _inside(part)) for name, part in parts.items()}


def _inside(part):
    return {key: photograph(value) for key, value in vars(part).items() if key != "_modules"}


@photograph.register(types.FunctionType)
@photograph.register(types.MethodType)
def _(function):
    """Which one it is; what it has written elsewhere belongs to its author."""
    return id(getattr(function, "__self__", function)), function.__qualname__


@photograph.register
def _(tensor: torch.Tensor):
    if is_lazy(tensor):
        return "lazy", id(tensor), tensor.requires_grad, str(type(tensor))
    hooked = tensor._backward_hooks, tensor._post_accumulate_grad_hooks
    flat = tensor.detach().contiguous().reshape(-1)
    return (
        id(tensor),
        tensor._version,
        tensor.data_ptr(),
        tensor.stride(),
        [photograph(dict(hooks or {})) for hooks in hooked],
        photograph(vars(tensor)),
        flat.view(torch.uint8).numpy().tobytes(),
        str(tensor.dtype),
        tuple(tensor.shape),
        tensor.requires_grad,
        photograph(tensor.grad if tensor.is_leaf else None),
    )


@photograph.register
def _(loader: DataLoader):
    parts = loader.generator, loader.sampler, loader.batch_sampler, loader._iterator
    return [photograph(part) for part in (*parts, loader.dataset)]


@photograph.register
def _(optimizer: torch.optim.Optimizer):
    return photograph(optimizer.state_dict())


@photograph.register
def _(generator: torch.Generator):
    return generator.get_state().tolist()


@photograph.register
def _(generator: np.random.Generator):
    return repr(generator.bit_generator.state)


@photograph.register
def _(generator: random.Random):
    return generator.getstate()


@photograph.register
def _(mapping: dict):
    return {key: photograph(value) for key, value in mapping.items()}


@photograph.register(list)
@photograph.register(tuple)
def _(several):
    return [photograph(value) for value in several]


def world():
    """The global random states."""
    name, keys, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), (name, keys.tolist(), rest), random.getstate()


@contextlib.contextmanager
def untouched(*things):
    """Fails if any of these, or the global random states, changes in this block."""
    before, states = [photograph(thing) for thing in things], world()
    try:
        yield
    finally:
        assert not differences(before, [photograph(thing) for thing in things])
        assert world() == states


def differences(before, after, path=""):
    """Where two photographs differ."""
    if type(before) is type(after) is dict and before.keys() == after.keys():
        pairs = [(f"{path}.{key}", before[key], after[key]) for key in before]
    elif type(before) is type(after) in (list, tuple) and len(before) == len(after):
        pairs = [(f"{path}.{n}", *pair) for n, pair in enumerate(zip(before, after, strict=True))]
    else:
        return [] if before == after else [path]
    return [found for where, one, other in pairs for found in differences(one, other, where)]
