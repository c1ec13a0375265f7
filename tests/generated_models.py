"""Models that hypothesis generates: blocks in a row, then edits such as freezing or hooks.

They take images of 4x4 to three classes, as the pictured models of the zoo do.
"""

import copy
import random
from dataclasses import dataclass

import numpy as np
import torch
import zoo
from hypothesis import strategies as st
from model_edits import HARMLESS, IN_THE_WAY
from torch import nn
from torch.nn.parameter import is_lazy

WIDE = 4


# --- blocks, which keep the shape of what they are given ------------------------------------------


class Twice(nn.Module):
    """One layer, used twice and known under two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(WIDE, WIDE, 1)
        self.second = self.first

    def forward(self, maps):
        return self.second(torch.relu(self.first(maps)))


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.there, self.back = nn.Conv2d(WIDE, WIDE, 1), nn.Conv2d(WIDE, WIDE, 1, bias=False)
        self.back.weight = self.there.weight

    def forward(self, maps):
        return self.back(torch.tanh(self.there(maps)))


class Averaging(nn.Module):
    """Moves two buffers, one of which is not saved."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(1, WIDE, 1, 1), persistent=False)

    def forward(self, maps):
        if self.training:
            self.calls += 1
            self.mean.mul_(0.9).add_(0.1 * maps.detach().mean((0, 2, 3), keepdim=True))
        return maps - self.mean


class Noting(nn.Module):
    """Keeps attributes that are plain: a tensor that it writes into, a list, a number."""

    def __init__(self):
        super().__init__()
        self.scale, self.seen, self.calls = torch.ones(1), [], 0

    def forward(self, maps):
        self.scale.mul_(0.99)
        self.seen.append(len(maps))
        self.calls += 1
        return maps * self.scale


class Drawing(nn.Module):
    """Draws from the three global generators, and from three of its own."""

    def __init__(self):
        super().__init__()
        self.numpy, self.python = np.random.default_rng(1), random.Random(1)
        self.torch = torch.Generator().manual_seed(1)

    def forward(self, maps):
        noise = float(np.random.normal()) + random.random() + float(torch.rand(()))
        noise += float(self.numpy.normal()) + self.python.random()
        return maps * (1 + 0.01 * (noise + float(torch.rand((), generator=self.torch))))


def convolution():
    return nn.Conv2d(WIDE, WIDE, 3, padding=1)


BLOCKS = {
    "convolution": convolution,
    "lazy convolution": lambda: nn.LazyConv2d(WIDE, 3, padding=1),
    "batch norm": lambda: nn.BatchNorm2d(WIDE),
    "batch norm without weights": lambda: nn.BatchNorm2d(WIDE, affine=False),
    "lazy batch norm": nn.LazyBatchNorm2d,
    "group norm": lambda: nn.GroupNorm(2, WIDE),
    "dropout": lambda: nn.Dropout2d(0.3),
    "relu in place": lambda: nn.Sequential(convolution(), nn.ReLU(inplace=True)),
    "twice": Twice,
    "tied": Tied,
    "averaging": Averaging,
    "noting": Noting,
    "drawing": Drawing,
}


class Copying(nn.Sequential):
    """Has a way of its own to be copied."""

    def __deepcopy__(self, memo):
        made = type(self)(*(copy.deepcopy(part, memo) for part in self))
        made.training = self.training
        return made


# --- plans ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How a model is made and handed over.

    Attributes:
        blocks: Between the first and the last layer.
        done: What is done to the model afterwards, and to which of its layers.
        lazy: Whether the last layer waits for its width.
        copying: Whether the model has a `__deepcopy__` of its own.
        training: Whether it is in the middle of one, with pending gradients and an optimizer.
        handed: As it is, or as a function; one that uses parts of the user's in every model.
    """

    blocks: tuple[str, ...]
    done: tuple[tuple[str, int], ...]
    lazy: bool
    copying: bool
    training: bool
    handed: str

    @property
    def refused(self):
        """Whether no copy of it can be made."""
        return self.handed == "model" and any(name in IN_THE_WAY for name, _ in self.done)

    def make(self, *mine):
        """The model; at last, the parts that are `mine` are put behind the first layer."""
        first = nn.Conv2d(1, WIDE, 3, padding=1)
        blocks = [BLOCKS[name]() for name in self.blocks]
        last = nn.LazyLinear(3) if self.lazy else nn.Linear(WIDE * 16, 3)
        kind = Copying if self.copying else nn.Sequential
        model = kind(first, *blocks, nn.Flatten(), last)
        for name, at in sorted(self.done, key=lambda one: one[0] in HARMLESS):
            layers = [part for part in model.modules() if _is_plain(part)]
            if layers:
                (HARMLESS | IN_THE_WAY)[name](model, layers[at % len(layers)])
        for part in mine:
            model.insert(1, part)
        return model

    def brought(self):
        """What a user has, all of which must stay as it is; and what is handed to a task."""
        if self.handed == "model":
            model = zoo.born(self.make)
            return [model, *self._trained(model)], model
        mine = []
        if self.handed == "function with parts":
            mine = [nn.BatchNorm2d(WIDE, affine=False), nn.ReLU().eval(), Averaging()]
        kept = torch.ones(WIDE)

        def factory():
            model = self.make(*mine)
            model[0].bias.data = kept
            return model

        return [*mine, kept], factory

    def _trained(self, model):
        weights = [one for one in model.parameters() if not is_lazy(one) and one.requires_grad]
        if not self.training or not weights:
            return []
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        optimizer = torch.optim.AdamW(weights)
        optimizer.step()
        return [optimizer]


def _is_plain(part):
    """Whether it is a layer whose weight is there, and has not been made into something else."""
    weight = part._parameters.get("weight")
    ready = weight is not None and not is_lazy(weight) and not weight._backward_hooks
    return isinstance(part, (nn.Conv2d, nn.Linear)) and ready


def plans():
    """A strategy for plans: most of them can be trained."""
    harmless, in_the_way = (
        st.tuples(st.sampled_from(sorted(names)), st.integers(0, 3))
        for names in (HARMLESS, IN_THE_WAY)
    )
    done = st.lists(harmless, max_size=6)
    more = st.builds(lambda some, last: [*some, last], done, in_the_way)
    return st.builds(
        Plan,
        blocks=st.lists(st.sampled_from(sorted(BLOCKS)), max_size=5).map(tuple),
        done=(done | done | more).map(tuple),
        lazy=st.booleans(),
        copying=st.booleans(),
        training=st.booleans(),
        handed=st.sampled_from(["model", "model", "function", "function with parts"]),
    )
