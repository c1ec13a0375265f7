"""Healthy models that start oddly, change themselves, or compute in an unusual way."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from benchmarks.diagnosis.healthy import conv, mlp

F = nn.functional


class Branches(nn.Module):
    """Blocks that add little or nothing to their inputs at first."""

    def __init__(self, start: str) -> None:
        super().__init__()
        self.inward, self.tell = nn.Linear(64, 32), nn.Linear(32, 10)
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(6))
        self.ones = nn.ModuleList(nn.Linear(32, 64) for _ in range(6))
        self.twos = nn.ModuleList(nn.Linear(64, 32) for _ in range(6))
        gain = {"LayerScale": 1e-6, "ReZero": 0.0, "Fixup": 1.0}[start]
        self.gains = nn.ParameterList(nn.Parameter(torch.full((32,), gain)) for _ in range(6))
        if start == "Fixup":
            for two in self.twos:
                nn.init.zeros_(two.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.inward(inputs.flatten(1))
        for norm, one, two, gain in zip(self.norms, self.ones, self.twos, self.gains, strict=True):
            hidden = hidden + gain * two(F.gelu(one(norm(hidden))))
        return self.tell(hidden)


class Adapted(nn.Module):
    """A frozen layer, and a product of two thin matrices beside it, one of them zero: LoRA."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(64, 32).requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(64, 4) / 8), nn.Parameter(torch.zeros(4, 32))
        self.tell = nn.Linear(32, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs.flatten(1)
        return self.tell((self.body(inputs) + inputs @ self.down @ self.up).relu())


class Fitted(nn.Module):
    """Its first batch decides mean and scale of its features: ActNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(64, 32), nn.Linear(32, 10)
        self.mean, self.scale = nn.Parameter(torch.zeros(32)), nn.Parameter(torch.ones(32))
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.one(inputs.flatten(1))
        if not self.fitted:
            with torch.no_grad():
                self.mean.copy_(hidden.mean(0))
                self.scale.copy_(hidden.std(0) + 1e-3)
                self.fitted.fill_(True)
        return self.two(((hidden - self.mean) / self.scale).relu())


class Skipping(nn.Module):
    """Leaves out half of its layers in train mode: LayerDrop."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.tell = nn.Linear(64, 32), nn.Linear(32, 10)
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.inward(inputs.flatten(1))
        for layer in self.layers:
            if not self.training or float(torch.rand(())) > 0.5:
                hidden = hidden + layer(hidden).relu()
        return self.tell(hidden)


class Language(nn.Module):
    """A causal transformer whose last weights are those of its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(20, 32), nn.Parameter(torch.zeros(11, 32))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 2, 64, 0.0, batch_first=True, norm_first=True)
            for _ in range(3)
        )
        self.norm = nn.LayerNorm(32)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden, mask = self.embed(inputs) + self.place, torch.ones(11, 11).triu(1).bool()
        for layer in self.layers:
            hidden = layer(hidden, src_mask=mask, is_causal=True)
        return self.norm(hidden) @ self.embed.weight.T


class Quantized(nn.Module):
    """An autoencoder with codes, learned by their loss or as running means in a buffer: VQ-VAE."""

    def __init__(self, running: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.encode, self.decode, self.running = mlp(8), nn.Linear(8, 64), running
        codes = 0.3 * torch.randn(16, 8)
        if running:
            self.register_buffer("codes", codes)
        else:
            self.codes = nn.Parameter(codes)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        given = self.encode(inputs)
        place = torch.cdist(given, self.codes).argmin(1)
        if self.running and self.training:
            for one in place.unique():
                self.codes[one] = 0.9 * self.codes[one] + 0.1 * given[place == one].detach().mean(0)
        chosen = self.codes[place].clone()
        loss = 0.25 * F.mse_loss(given, chosen.detach())
        loss = loss if self.running else loss + F.mse_loss(chosen, given.detach())
        return self.decode(given + (chosen - given).detach()), loss


class Step(torch.autograd.Function):
    """The sign, with the gradient of a straight line around 0."""

    @staticmethod
    def forward(context: Any, inputs: Tensor) -> Tensor:
        context.save_for_backward(inputs)
        return inputs.sign()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (inputs,) = context.saved_tensors
        return gradient * (inputs.abs() < 1)


class Signs(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return Step.apply(inputs)


class Waves(nn.Module):
    """Learned frequencies, and a kernel with fixed centres; both as many as a batch has rows."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.tell = nn.Linear(8, 1), nn.Linear(128, 1)
        self.frequencies = nn.Parameter(torch.randn(64))
        self.register_buffer("centres", torch.linspace(-2, 2, 64))

    def forward(self, inputs: Tensor) -> Tensor:
        place = self.inward(inputs)
        near = (-((place - self.centres) ** 2)).exp()
        return self.tell(torch.cat([(place * self.frequencies).sin(), near], 1))


class Cells(nn.Module):
    """Reads an image six times, row by row, with a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.tell = nn.GRUCell(8, 24), nn.Linear(24, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        state = inputs.new_zeros(len(inputs), 24)
        for row in inputs[:, 0].repeat(1, 6, 1).unbind(1):
            state = self.cell(row, state)
        return self.tell(state)


class Rebuilt(nn.Module):
    """Computes its middle part a second time in the backward pass."""

    def __init__(self, reentrant: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.one, self.tell, self.reentrant = nn.Linear(64, 32), nn.Linear(32, 10), reentrant
        self.middle = nn.Sequential(nn.Linear(32, 32), nn.ReLU())

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.one(inputs.flatten(1))
        return self.tell(checkpoint(self.middle, hidden, use_reentrant=self.reentrant))


def zero_last() -> nn.Module:
    model = conv()
    nn.init.zeros_(model[-1].weight)
    return model


def spectral() -> nn.Module:
    one, two = (parametrizations.spectral_norm(nn.Linear(n, m)) for n, m in ((64, 32), (32, 10)))
    return nn.Sequential(nn.Flatten(), one, nn.ReLU(), two)


def weight_normed() -> nn.Module:
    layers = [parametrizations.weight_norm(nn.Linear(64, 64)) for _ in range(4)]
    inside = [part for layer in layers for part in (layer, nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *inside, nn.Linear(64, 10))


def signed() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), Signs(),
        nn.Linear(64, 64), nn.BatchNorm1d(64), Signs(), nn.Linear(64, 10),
    )  # fmt: skip
