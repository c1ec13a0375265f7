"""Healthy tasks whose methods look odd: whatever is said against one of them is a false alarm."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adagrad, Adam, AdamW

from benchmarks.diagnosis import odd_models as odd
from benchmarks.diagnosis.healthy import DIGITS, TRAIN, mlp
from benchmarks.diagnosis.pieces import NUMBERS, PIXELS, WORDS, flat, numeric, on, segmenter
from lrtune import Task

F = nn.functional
P = functools.partial
Objective = Callable[[nn.Module, list[Tensor]], Tensor]


def by(objective: Objective, model: Callable[[], nn.Module] = mlp, **rest: Any) -> Task:
    return Task(model, **DIGITS, objective=objective, optimizer=Adam, **rest)


# --- objectives -----------------------------------------------------------------------------------


def language(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0][:, :-1]).flatten(0, 1), batch[0][:, 1:].flatten())


def quantized(model: nn.Module, batch: list[Tensor]) -> Tensor:
    rebuilt, loss = model(batch[0])
    return F.mse_loss(rebuilt, batch[0].flatten(1)) + loss


def triplets(model: nn.Module, batch: list[Tensor]) -> Tensor:
    one = F.normalize(model(batch[0]))
    near, far = F.mse_loss(one, one.roll(1, 0)), F.mse_loss(one, one.roll(5, 0))
    return (near - far + 0.2).relu()


def focal(model: nn.Module, batch: list[Tensor]) -> Tensor:
    outputs, wanted = model(batch[0]), F.one_hot(batch[1], 10).float()
    right = (outputs.sigmoid() - (1 - wanted)).abs()
    each = F.binary_cross_entropy_with_logits(outputs, wanted, reduction="none")
    return ((1 - right) ** 2 * each).mean()


def dice(model: nn.Module, batch: list[Tensor]) -> Tensor:
    given, wanted = model(batch[0]).sigmoid(), (batch[0] > 0.4).float()
    return 1 - (2 * (given * wanted).sum() + 1) / (given.sum() + wanted.sum() + 1)


def penalized(model: nn.Module, batch: list[Tensor]) -> Tensor:
    with torch.enable_grad():
        inputs = batch[0].clone().requires_grad_()
        loss = F.cross_entropy(model(inputs), batch[1])
        (slope,) = torch.autograd.grad(loss, inputs, create_graph=True)
    return loss + slope.square().sum()


def distilling() -> Objective:
    teacher = mlp().requires_grad_(False)

    def objective(model: nn.Module, batch: list[Tensor]) -> Tensor:
        given, wanted = model(batch[0]), teacher(batch[0]).softmax(1)
        soft = F.kl_div(given.log_softmax(1), wanted, reduction="batchmean")
        return soft + F.cross_entropy(given, batch[1])

    return objective


def of_classes(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Images of one class find each other (Khosla et al. 2020)."""
    inputs, labels = batch
    views = F.normalize(model(inputs))
    alike = views @ views.T / 0.2 - 1e9 * torch.eye(len(views))
    same = (labels[:, None] == labels).float() - torch.eye(len(views))
    logs = alike - alike.logsumexp(1, keepdim=True)
    return -((same * logs).sum(1) / same.sum(1).clamp(min=1)).mean()


def discrepancy(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Rows of noise become like those of the data, in the mean of a kernel over all pairs."""
    real = batch[0].flatten(1)
    fake = model(torch.randn(len(real), 8))

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return (-(one.unsqueeze(1) - other).square().mean(-1)).exp().mean()

    return kernel(fake, fake) - 2 * kernel(fake, real) + kernel(real, real)


def ranking(model: nn.Module, batch: list[Tensor]) -> Tensor:
    scores, targets = model(batch[0]).squeeze(1), batch[1]
    above = (targets[:, None] > targets[None]).float()
    return F.binary_cross_entropy_with_logits(scores[:, None] - scores[None], above)


def rewarded(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """A policy gradient of rewards that are all negative."""
    logs = model(batch[0]).log_softmax(1)
    action = torch.multinomial(logs.detach().exp(), 1)
    reward = -(action[:, 0] != batch[1]).float() - 0.1
    return -(reward * logs.gather(1, action)[:, 0]).mean()


def unsure(model: nn.Module, batch: list[Tensor]) -> Tensor:
    outputs = model(batch[0])
    logs = outputs.log_softmax(1)
    return F.cross_entropy(outputs, batch[1]) + 0.05 * (logs.exp() * logs).sum(1).mean()


def by_sample(model: nn.Module, batch: list[Tensor]) -> Tensor:
    weights = dict(model.named_parameters())

    def loss(image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(
            torch.func.functional_call(model, weights, (image[None],)), label[None]
        )

    return torch.vmap(loss)(*batch).mean()


def in_half(model: nn.Module, batch: list[Tensor]) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return F.cross_entropy(model(batch[0]), batch[1])


METHODS: dict[str, Callable[[], Task]] = {
    **{name: P(lambda name: Task(lambda: odd.Branches(name), **DIGITS, optimizer=AdamW), name)
       for name in ("LayerScale", "ReZero", "Fixup")},
    **{name: P(lambda model: Task(model, **DIGITS, optimizer=Adam), model) for name, model in {
        "LoRA": odd.Adapted, "ActNorm": odd.Fitted, "LayerDrop": odd.Skipping, "cells": odd.Cells,
        "a last layer of zeros": odd.zero_last, "spectral norm": odd.spectral,
        "weight norm": odd.weight_normed, "a network of signs": odd.signed,
        "checkpointed": lambda: odd.Rebuilt(False),
        "checkpointed, reentrant": lambda: odd.Rebuilt(True),
        "compiled": lambda: torch.compile(mlp(), backend="eager"),
    }.items()},
    **{name: P(by, objective) for name, objective in {
        "triplets": triplets, "focal loss": focal, "gradient penalty": penalized,
        "contrast of classes": of_classes, "policy gradient": rewarded,
        "entropy bonus": unsure, "gradients by sample": by_sample, "autocast": in_half,
    }.items()},
    "distillation": lambda: by(distilling()),
    "language": lambda: on(WORDS, odd.Language, objective=language, optimizer=AdamW),
    "codes": lambda: by(quantized, lambda: odd.Quantized(False)),
    "codes as running means": lambda: by(quantized, lambda: odd.Quantized(True)),
    "dice": lambda: by(dice, segmenter),
    "discrepancy": lambda: by(discrepancy, lambda: numeric(outputs=64)),
    "ranking": lambda: on(NUMBERS, numeric, objective=ranking, optimizer=Adam),
    "waves": lambda: on(NUMBERS, odd.Waves, loss=flat, optimizer=Adam),
    "pixels between 0 and 1": lambda: Task(
        lambda: nn.Sequential(mlp(64), nn.Sigmoid()), **PIXELS, loss=nn.BCELoss(), optimizer=Adam
    ),
    "sparse gradients": lambda: on(
        WORDS, lambda: nn.Sequential(nn.EmbeddingBag(20, 16, sparse=True), nn.Linear(16, 2)),
        optimizer=Adagrad,
    ),
    "double precision": lambda: Task(
        lambda: mlp().double(), (TRAIN[0].double(), TRAIN[1]), device="cpu"
    ),
}  # fmt: skip
"""Names to functions that make a task."""
