"""Tasks whose loss rises or differs by itself, each beside its healthy twin."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from benchmarks.diagnosis.broken_outputs import by_hand, squared_right
from benchmarks.diagnosis.healthy import DIGITS, Rows, conv, mlp
from benchmarks.diagnosis.parts import HEIGHTS, P
from benchmarks.diagnosis.pieces import NUMBERS, PIXELS, Broken, numeric, on
from lrtune import Task

F = nn.functional


class Reversed(torch.autograd.Function):
    """A square whose derivative has the wrong sign."""

    @staticmethod
    def forward(context: Any, inputs: Tensor) -> Tensor:
        context.save_for_backward(inputs)
        return inputs**2

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (inputs,) = context.saved_tensors
        return -2 * inputs * gradient


class Climbing(SGD):
    """Goes up where it should go down."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for one in group["params"]:
                if one.grad is not None:
                    one.grad.neg_()
        return super().step(closure)


def likelihood(outputs: Tensor, labels: Tensor) -> Tensor:
    return -F.cross_entropy(outputs, labels)


def log_likelihood(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return F.log_softmax(model(batch[0]), 1).gather(1, batch[1][:, None]).mean()


def own_square(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return Reversed.apply(model(batch[0]).squeeze(1) - batch[1]).mean()


def signal_to_noise(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return -10 * F.mse_loss(model(batch[0]), batch[1]).log10()


WRONG_SIGN = [
    (
        "a negated loss",
        lambda: Task(conv, **DIGITS, loss=likelihood),
        lambda: Task(conv, **DIGITS),
    ),
    (
        "maximize=True",
        lambda: Task(mlp, **DIGITS, optimizer=lambda m, lr: SGD(m.parameters(), lr, maximize=True)),
        lambda: Task(mlp, **DIGITS, optimizer=SGD),
    ),
    (
        "an own function with a wrong backward",
        lambda: on(NUMBERS, numeric, objective=own_square, optimizer=Adam),
        lambda: on(NUMBERS, numeric, objective=squared_right, optimizer=Adam),
    ),
    (
        "an own optimizer that climbs",
        lambda: Task(Rows, **DIGITS, optimizer=lambda m, lr: Climbing(m.parameters(), lr)),
        lambda: Task(Rows, **DIGITS, optimizer=SGD),
    ),
    (
        "PSNR as a loss",
        lambda: Task(lambda: mlp(64), **PIXELS, objective=signal_to_noise, optimizer=Adam),
        lambda: Task(lambda: mlp(64), **PIXELS, loss=nn.MSELoss(), optimizer=Adam),
    ),
    (
        "a log-likelihood as a loss",
        lambda: Task(mlp, **DIGITS, objective=log_likelihood, optimizer=Adam),
        lambda: Task(mlp, **DIGITS, objective=by_hand, optimizer=Adam),
    ),
    (
        "a squared error that is negated by hand",
        lambda: Task(P(mlp, 1), **HEIGHTS | {"loss": lambda o, t: -((o - t) ** 2).mean()}),
        lambda: Task(P(mlp, 1), **HEIGHTS | {"loss": lambda o, t: ((o - t) ** 2).mean()}),
    ),
]


OWN = random.Random(7)  # noqa: S311 - data, no secret
SYSTEM = random.SystemRandom()
DRAWN = torch.Generator().manual_seed(8)
NUMPYS = np.random.default_rng(9)


def jittered(draw: Callable[[], float]) -> Callable[[nn.Module, list[Tensor]], Tensor]:
    def objective(model: nn.Module, batch: list[Tensor]) -> Tensor:
        scale = 0.5 + draw() if model.training else 1.0
        return F.cross_entropy(model(batch[0] * scale), batch[1])

    return objective


class OwnDropout(nn.Module):
    """A dropout with a generator that all models share, or with that of torch."""

    def __init__(self, generator: torch.Generator | None) -> None:
        super().__init__()
        self.body, self.own = mlp(), [] if generator is None else [lambda: generator]

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return self.body(inputs)
        generator = self.own[0]() if self.own else None
        kept = torch.rand(inputs.shape, generator=generator) > 0.3
        return self.body(inputs * kept)


def drawn(generator: np.random.Generator | None) -> nn.Module:
    """A model whose first weights come from this generator, or from torch's."""
    model = conv()
    if generator is not None:
        weights = torch.from_numpy(generator.standard_normal((8, 1, 3, 3)))
        model[0].weight.data = weights.float() / 3
    return model


NONDETERMINISTIC = [
    (
        "noise of a random.Random of its own",
        lambda: Task(mlp, **DIGITS, objective=jittered(OWN.random)),
        lambda: Task(mlp, **DIGITS, objective=jittered(lambda: float(torch.rand(())))),
    ),
    (
        "noise of the system",
        lambda: Task(Rows, **DIGITS, objective=jittered(SYSTEM.random), optimizer=Adam),
        lambda: Task(Rows, **DIGITS, objective=jittered(random.random), optimizer=Adam),
    ),
    (
        "a dropout with a shared generator",
        lambda: Task(lambda: OwnDropout(DRAWN), **DIGITS),
        lambda: Task(lambda: OwnDropout(None), **DIGITS),
    ),
    (
        "weights of a generator of numpy's",
        lambda: Task(lambda: drawn(NUMPYS), **DIGITS),
        lambda: Task(lambda: drawn(None), **DIGITS),
    ),
]


BROKEN: Broken = {"wrong-sign": WRONG_SIGN, "nondeterministic": NONDETERMINISTIC}
