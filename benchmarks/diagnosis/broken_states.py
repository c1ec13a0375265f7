"""Tasks that differ by mode or by the batches before, each beside its healthy twin."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Adam

from benchmarks.diagnosis.healthy import DIGITS, conv, mlp
from benchmarks.diagnosis.pieces import NUMBERS, WORDS, Broken, flat, on
from lrtune import Task

F = nn.functional


def slow_norm(momentum: float) -> nn.Module:
    return conv(norm=lambda width: nn.BatchNorm2d(width, momentum=momentum))


class Otherwise(nn.Module):
    """In eval mode it forgets to scale its inputs as in train mode."""

    def __init__(self, always: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.body, self.always = mlp(), always

    def forward(self, inputs: Tensor) -> Tensor:
        standard = self.training or self.always
        return self.body((inputs - 0.3) / 0.4 if standard else 255 * inputs.flip(-1))


class Stacked(nn.Module):
    """Many layers of BatchNorm, on batches of two."""

    def __init__(self, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Flatten()]
        for inputs in (64, 32, 32, 32):
            parts += [nn.Linear(inputs, 32), norm(32), nn.ReLU()]
        self.body, self.tell = nn.Sequential(*parts), nn.Linear(32, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.tell(self.body(inputs))


class TwoHeads(nn.Module):
    """Takes one head in train mode and the other in eval mode, or their mean."""

    def __init__(self, both: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.body, self.both = mlp(32), both
        self.one, self.other = nn.Linear(32, 10), nn.Linear(32, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.body(inputs).relu()
        if self.both:
            return (self.one(hidden) + self.other(hidden)) / 2
        return self.one(hidden) if self.training else self.other(hidden)


EVAL_DIFFERS = [
    (
        "BatchNorm with a momentum of 1e-5",
        lambda: Task(lambda: slow_norm(1e-5), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: slow_norm(0.1), **DIGITS, optimizer=Adam),
    ),
    (
        "other inputs in eval mode",
        lambda: Task(lambda: Otherwise(False), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: Otherwise(True), **DIGITS, optimizer=Adam),
    ),
    (
        "BatchNorm with a momentum of 0, MLP",
        lambda: on(
            (NUMBERS[0] * 30, NUMBERS[1]),
            lambda: nn.Sequential(
                nn.Linear(8, 32), nn.BatchNorm1d(32, momentum=0.0), nn.ReLU(), nn.Linear(32, 1)
            ),
            loss=flat, optimizer=Adam,
        ),
        lambda: on(
            (NUMBERS[0] * 30, NUMBERS[1]),
            lambda: nn.Sequential(
                nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1)
            ),
            loss=flat, optimizer=Adam,
        ),
    ),
    (
        "several BatchNorms, batches of two",
        lambda: Task(lambda: Stacked(nn.BatchNorm1d), **DIGITS, batch_size=2, optimizer=Adam),
        lambda: Task(lambda: Stacked(nn.LayerNorm), **DIGITS, batch_size=2, optimizer=Adam),
    ),
    (
        "another head in eval mode",
        lambda: Task(lambda: TwoHeads(False), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: TwoHeads(True), **DIGITS, optimizer=Adam),
    ),
]  # fmt: skip


class Remembering(nn.Module):
    """An LSTM that begins each batch where the one before has ended, or anew."""

    def __init__(self, keeps: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.read, self.tell = nn.LSTM(8, 24, batch_first=True), nn.Linear(24, 10)
        self.keeps, self.state = keeps, None

    def forward(self, inputs: Tensor) -> Tensor:
        fits = self.state is not None and self.state[0].shape[1] == len(inputs)
        outputs, state = self.read(inputs[:, 0], self.state if fits else None)
        if self.keeps:
            self.state = tuple(one.detach() for one in state)
        return self.tell(outputs[:, -1])


class Smoothing(nn.Module):
    """Normalizes by a mean over the batches so far, or by that of the batch."""

    def __init__(self, keeps: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.body, self.keeps, self.mean = mlp(), keeps, None

    def forward(self, inputs: Tensor) -> Tensor:
        mean = inputs.mean(0)
        if self.keeps and self.mean is not None:
            mean = 0.5 * self.mean + 0.5 * mean
        self.mean = mean.detach()
        return self.body((inputs - mean) / 0.4)


def against_bank(keeps: bool) -> Task:  # noqa: FBT001
    """Two views find each other among those of earlier batches, which the objective keeps."""
    bank: list[Tensor] = []

    def objective(model: nn.Module, batch: list[Tensor]) -> Tensor:
        view = batch[0] + 0.3 * (torch.randn_like(batch[0]) if model.training else 1)
        one, other = F.normalize(model(batch[0])), F.normalize(model(view))
        known = torch.cat([other, *bank])
        if keeps:
            bank[:] = [other.detach()]
        return F.cross_entropy(one @ known.T / 0.2, torch.arange(len(one)))

    return Task(mlp, **DIGITS, objective=objective, optimizer=Adam)


class Cached(nn.Module):
    """Attends to what it has cached of the batches before."""

    def __init__(self, keeps: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.embed, self.ask, self.tell = nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 2)
        self.keeps, self.cache = keeps, []

    def forward(self, inputs: Tensor) -> Tensor:
        vectors = self.embed(inputs)
        keys = vectors.flatten(0, 1)[:200]
        known = torch.cat([*self.cache, keys])
        if self.keeps:
            self.cache = [known.detach()[-400:]]
        weights = (self.ask(vectors.mean(1)) @ known.T).softmax(1)
        return self.tell(vectors.amax(1) + weights @ known)


class Listing(nn.Module):
    """Compares its outputs with the mean of all outputs so far, or of the batch."""

    def __init__(self, keeps: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.body, self.keeps, self.seen = mlp(), keeps, []

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.body(inputs)
        self.seen = [*self.seen, outputs.detach()] if self.keeps else [outputs.detach()]
        return outputs - torch.cat(self.seen[-20:]).mean(0)


class Holding(nn.Module):
    """A GRU that keeps its hidden state as it is, so that a second update fails."""

    def __init__(self, keeps: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.read, self.tell = nn.GRU(8, 24, batch_first=True), nn.Linear(24, 10)
        self.keeps, self.state = keeps, None

    def forward(self, inputs: Tensor) -> Tensor:
        fits = self.keeps and self.state is not None and self.state.shape[1] == len(inputs)
        outputs, state = self.read(inputs[:, 0], self.state if fits else None)
        self.state = state if self.keeps else None
        return self.tell(outputs[:, -1])


STATE = [
    (
        "a hidden state that is kept",
        lambda: Task(lambda: Remembering(True), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: Remembering(False), **DIGITS, optimizer=Adam),
    ),
    (
        "a mean over the batches so far",
        lambda: Task(lambda: Smoothing(True), **DIGITS),
        lambda: Task(lambda: Smoothing(False), **DIGITS),
    ),
    ("views of earlier batches", lambda: against_bank(True), lambda: against_bank(False)),
    (
        "a cache that is never emptied",
        lambda: on(WORDS, lambda: Cached(True), optimizer=Adam),
        lambda: on(WORDS, lambda: Cached(False), optimizer=Adam),
    ),
    (
        "a list of outputs",
        lambda: Task(lambda: Listing(True), **DIGITS),
        lambda: Task(lambda: Listing(False), **DIGITS),
    ),
    (
        "a hidden state with its graph",
        lambda: Task(lambda: Holding(True), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: Holding(False), **DIGITS, optimizer=Adam),
    ),
]

BROKEN: Broken = {"eval-differs": EVAL_DIFFERS, "state-between-batches": STATE}
