"""How a task makes its optimizers, and what it has to know of them."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lrtune.task import checks

MakeOptimizer = Callable[[nn.Module, float], Optimizer]


def optimizer_maker(given: Callable[..., Optimizer] | None) -> MakeOptimizer:
    """Return a function `(model, lr)` that makes what was given; SGD with momentum 0.9 for None.

    Optimizers that switch weights are made ready to train.
    """
    make = functools.partial(SGD, momentum=0.9) if given is None else given
    checks.check_optimizer_factory(make)
    kind = make.func if isinstance(make, functools.partial) else make
    whole = isinstance(kind, type)

    def made(model: nn.Module, lr: float) -> Optimizer:
        if whole:
            optimizer = make([p for p in model.parameters() if p.requires_grad], lr=lr)
        else:
            optimizer = make(model, lr)
        if switches_weights(optimizer):
            optimizer.train()  # type: ignore[attr-defined]
        return optimizer

    return made


def switches_weights(optimizer: object) -> bool:
    """Return whether an optimizer validates with other weights than it trains with.

    Schedule-free optimizers swap them in `eval()` and `train()`.

    Source: Defazio et al. 2024, arXiv:2405.15682.
    """
    return all(callable(getattr(optimizer, name, None)) for name in ("train", "eval"))


@contextmanager
def eval_weights(*optimizers: Optimizer) -> Iterator[None]:
    """Swap in the weights that optimizers validate with; training goes on bit for bit afterwards.

    Nothing happens to optimizers that have a single set of weights.
    """
    switching: list[Any] = [one for one in optimizers if switches_weights(one)]
    # `train()` gives the weights back up to rounding only, and may put them elsewhere in memory.
    weights = [weight for one in switching for weight in trained_weights(one)]
    held = [(weight, weight.data, weight.detach().clone()) for weight in weights]
    try:
        for one in switching:
            one.eval()
        yield
    finally:
        for one in switching:
            one.train()
        for weight, memory, numbers in held:
            memory.copy_(numbers)
            weight.data = memory


def trained_weights(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters that an optimizer trains, in the order of its groups."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def sets_own_rate(optimizer: Optimizer) -> bool:
    """Return whether an optimizer that has made no update estimates the rate itself.

    Its `lr` is then a factor, best near 1. D-Adaptation and Prodigy keep their estimate in the
    parameter groups, under `d`.

    Source: Defazio and Mishchenko 2023, arXiv:2301.07733; Mishchenko and Defazio 2023,
    arXiv:2306.06101.
    """
    return any("d" in group for group in optimizer.param_groups)
