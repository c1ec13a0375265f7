"""How a task makes its optimizers, and what it has to know of them."""

import functools
import inspect
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lrtune.errors import TaskError, shown
from lrtune.task import checks

MakeOptimizer = Callable[[nn.Module, float], Optimizer]


def optimizer_maker(given: Callable[..., Optimizer] | None) -> MakeOptimizer:
    """Return a function `(model, lr)` that makes what was given; SGD with momentum 0.9 for None.

    Optimizers that switch weights are made ready to train.
    """
    make = functools.partial(SGD, momentum=0.9) if given is None else given
    check_optimizer_factory(make)
    kind = make.func if isinstance(make, functools.partial) else make
    whole = isinstance(kind, type)

    def made(model: nn.Module, lr: float) -> Optimizer:
        if whole:
            optimizer = make([p for p in model.parameters() if p.requires_grad], lr=lr)
        else:
            with refuse_new_parameters(model):
                optimizer = make(model, lr)
        if switches_weights(optimizer):
            optimizer.train()  # type: ignore[attr-defined]
        return optimizer

    return made


@contextmanager
def refuse_new_parameters(model: nn.Module) -> Iterator[None]:
    """Raise if the code inside, the user's, adds parameters to the model or takes some away.

    An optimizer is made several times for a model, also when a run goes on.
    """
    before = {id(one): name for name, one in model.named_parameters()}
    yield
    after = {id(one): name for name, one in model.named_parameters()}
    changes = {
        "adds": sorted(after[new] for new in after.keys() - before.keys()),
        "removes": sorted(before[old] for old in before.keys() - after.keys()),
    }
    for what, names in changes.items():
        if names:
            raise TaskError(
                f"the optimizer's function {what} {', '.join(names[:3])}; expected that it leaves "
                "the parameters of the model as they are. Make that change in the function "
                "that makes the model: Task(make_model, ...)."
            )


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


def check_optimizer_factory(given: object) -> None:
    """Raise unless it is a class, a partial of one, or a function; an optimizer is refused."""
    if isinstance(given, Optimizer):
        name = type(given).__name__
        raise TaskError(
            f"optimizer is a finished {name}, bound to your own model and one rate; expected "
            f"something that makes one for each run. Pass optimizer=torch.optim.{name}, or "
            f"functools.partial(torch.optim.{name}, ...), or a function (model, lr)."
        )
    if not callable(given):
        raise TaskError(
            f"optimizer={shown(given)} cannot be called; expected a class such as "
            "torch.optim.AdamW, a functools.partial of one, or a function (model, lr) that returns "
            "an optimizer."
        )


def check_optimizer(make: Callable[[nn.Module, float], object], model: nn.Module) -> Optimizer:
    """Return an optimizer of the factory, which must train this model, at the rate `lr`."""
    made = make(model, checks.TRIAL_LR)
    if not isinstance(made, Optimizer):
        raise TaskError(
            f"the optimizer factory returned {shown(made)}; expected a torch.optim.Optimizer. "
            "Return the optimizer."
        )
    own = {id(parameter) for parameter in model.parameters()}
    if any(id(p) not in own for group in made.param_groups for p in group["params"]):
        raise TaskError(
            "the optimizer holds parameters that are not in the model it was given, so it would "
            "train something else. Use the function's argument: "
            "lambda model, lr: SGD(model.parameters(), lr=lr)."
        )
    # torch wraps `step` for its profiler.
    parameters = inspect.signature(inspect.unwrap(made.step)).parameters
    if "closure" in parameters and parameters["closure"].default is inspect.Parameter.empty:
        raise TaskError(
            f"{type(made).__name__} needs a closure at each step, as it searches its step size "
            "itself; there is no rate to find. Use SGD, Adam or another first-order optimizer."
        )
    twice = make(model, 2 * checks.TRIAL_LR)
    if not isinstance(twice, Optimizer) or group_rates(made) == group_rates(twice):
        raise TaskError(
            f"the optimizer's rates are {shown(group_rates(made))} whatever lr is; expected them "
            "to follow it. Hand lr on: lambda model, lr: AdamW(model.parameters(), lr=lr)."
        )
    return made


@contextmanager
def explain_sparse_gradients(model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Turn an error about sparse and dense gradients into a `TaskError` that says what to do."""
    gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    try:
        yield
    except Exception as error:
        if "sparse" not in str(error).lower():
            raise
        kinds = {one.layout is not torch.strided: name for name, one in gradients.items()}
        words = [f"that of {kinds[kind]} is {'sparse' if kind else 'dense'}" for kind in kinds]
        raise TaskError(
            f"{type(optimizer).__name__} with these settings cannot update all gradients: "
            f"{', '.join(words)}. An nn.Embedding(sparse=True) has a sparse one; expected an "
            "optimizer that takes every kind there is. Make the embedding dense with sparse=False, "
            "or use Adagrad or SGD without weight decay, which take both."
        ) from error


GroupRates = Callable[[float], list[float]]
"""Maps a multiplier of the peak rate to the rate of each parameter group."""

PROBES = (1e-6, 1e-3)
"""Multiples of the peak rate at which a factory shows which of its groups follow the rate."""


def group_rates(optimizer: Optimizer) -> list[float]:
    """Return the rate of each parameter group."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def multiples(peaks: Sequence[float]) -> GroupRates:
    """Return the rates of a training: its schedule multiplies the peak rate of each group."""
    return lambda multiplier: [peak * multiplier for peak in peaks]


def swept_rates(make: Callable[[float], Optimizer], lr: float) -> GroupRates:
    """Return the rates of a sweep: those that the factory gives at each multiple of `lr`.

    >>> import torch
    >>> def make(lr):
    ...     back, head = ({"params": [torch.zeros(1)]} for _ in range(2))
    ...     return SGD([back | {"lr": 1e-3}, head], lr=lr)
    >>> swept_rates(make, 10.0)(0.01)
    [0.001, 0.1]
    """
    peaks, probed = group_rates(make(lr)), [group_rates(make(lr * share)) for share in PROBES]
    seen = list(zip(peaks, *probed, strict=True))  # of each group
    follows = [_are_multiples(rates, PROBES) for rates in seen]
    stays = [_are_multiples(rates, [1.0] * len(PROBES)) for rates in seen]
    if all(map(operator.or_, follows, stays)):
        return lambda multiplier: [
            peak * multiplier if scaled else peak
            for peak, scaled in zip(peaks, follows, strict=True)
        ]
    return lambda multiplier: group_rates(make(lr * multiplier))


def _are_multiples(rates: Sequence[float], shares: Sequence[float]) -> bool:
    """Return whether all rates but the first are such shares of it."""
    pairs = zip(rates[1:], shares, strict=True)
    return all(math.isclose(rate, share * rates[0], rel_tol=1e-6) for rate, share in pairs)


MULTIPLIERS = ("lr_scale", "lr_mult", "lr_multiplier", "lr_ratio")
"""Names under which parameter groups carry a multiplier of the rate, as layer decay does."""


def unapplied_multipliers(optimizer: Optimizer) -> dict[str, list[float]]:
    """Return the multipliers that groups carry, and that have not been applied to their rates.

    timm and the code of BEiT, MAE and ConvNeXt write `lr_scale` into each group, and leave it to
    their own scheduler or training loop to multiply the rate by it. Without them it has no effect.

    Args:
        optimizer: One that a factory has just made.

    Returns:
        The name of the multiplier to the values of the groups whose rate is what it would be
        without it; empty where all are applied, or where they are settings of the optimizer's own.

    >>> import torch
    >>> weights = [{"params": [torch.zeros(1)], "lr_scale": scale} for scale in (0.5, 1.0)]
    >>> unapplied_multipliers(SGD(weights, lr=0.1))
    {'lr_scale': [0.5]}
    """
    usual = optimizer.defaults.get("lr")
    found: dict[str, list[float]] = {}
    for name in MULTIPLIERS:
        groups = [group for group in optimizer.param_groups if name in group]
        if name in optimizer.defaults or not groups:
            continue
        plain = [float(group["lr"]) for group in groups if group[name] == 1.0]
        rates = plain if usual is None else [*plain, float(usual)]
        found[name] = [
            float(group[name])
            for group in groups
            if group[name] != 1.0 and any(math.isclose(group["lr"], rate) for rate in rates)
        ]
    return {name: values for name, values in found.items() if values}


def sets_own_rate(optimizer: Optimizer) -> bool:
    """Return whether an optimizer that has made no update estimates the rate itself.

    Its `lr` is then a factor, best near 1. D-Adaptation and Prodigy keep their estimate in the
    parameter groups, under `d`.

    Source: Defazio and Mishchenko 2023, arXiv:2301.07733; Mishchenko and Defazio 2023,
    arXiv:2306.06101.
    """
    return any("d" in group for group in optimizer.param_groups)
