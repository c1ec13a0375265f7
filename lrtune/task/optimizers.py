"""How a task makes its optimizers, and what it has to know of them."""

import functools
from collections.abc import Callable

from torch import nn
from torch.optim import SGD, Optimizer

from lrtune.task import checks

MakeOptimizer = Callable[[nn.Module, float], Optimizer]


def optimizer_maker(given: Callable[..., Optimizer] | None) -> MakeOptimizer:
    """Return a function `(model, lr)` that makes what was given; SGD with momentum 0.9 for None."""
    make = functools.partial(SGD, momentum=0.9) if given is None else given
    checks.check_optimizer_factory(make)
    kind = make.func if isinstance(make, functools.partial) else make
    if not isinstance(kind, type):
        return make
    return lambda model, lr: make([p for p in model.parameters() if p.requires_grad], lr=lr)


def sets_own_rate(optimizer: Optimizer) -> bool:
    """Return whether an optimizer that has made no update estimates the rate itself.

    Its `lr` is then a factor, best near 1. D-Adaptation and Prodigy keep their estimate in the
    parameter groups, under `d`.

    Source: Defazio and Mishchenko 2023, arXiv:2301.07733; Mishchenko and Defazio 2023,
    arXiv:2306.06101.
    """
    return any("d" in group for group in optimizer.param_groups)
