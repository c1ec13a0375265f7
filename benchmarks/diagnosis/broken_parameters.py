"""Tasks of which some parameters do not train, each beside its healthy twin."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from benchmarks.diagnosis.healthy import DIGITS, conv, mlp
from benchmarks.diagnosis.pieces import NUMBERS, PIXELS, WORDS, Broken, Former, numeric, on
from lrtune import Task

F = nn.functional


class TwoParts(nn.Module):
    """A convolutional part and a head; `between` lies between them."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.back = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        )
        self.head, self.between = nn.Linear(128, 10), between

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.between(self.back(inputs)))


class Forgotten(nn.Module):
    """Has a second layer, and may forget to call it."""

    def __init__(self, forgets: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.one, self.two, self.tell = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        self.forgets = forgets

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.one(inputs.flatten(1)).relu()
        return self.tell(hidden if self.forgets else self.two(hidden).relu())


class Encoded(nn.Module):
    """An autoencoder whose encoder may run without gradients."""

    def __init__(self, grad: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.encode, self.decode, self.grad = mlp(8), nn.Linear(8, 64), grad

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.grad):
            code = self.encode(inputs)
        return self.decode(code)


class Pooled(nn.Module):
    """Word vectors that were turned to numbers on their way."""

    def __init__(self, whole: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.embed, self.tell, self.whole = nn.Embedding(20, 16), nn.Linear(16, 2), whole

    def forward(self, inputs: Tensor) -> Tensor:
        vectors = self.embed(inputs)
        if not self.whole:
            vectors = torch.tensor(vectors.tolist())
        return self.tell(vectors.mean(1))


class Masked(nn.Module):
    """A branch that counts nothing: its weight is a number that is zero, and stays so."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.main, self.side, self.weight = mlp(), mlp(), weight

    def forward(self, inputs: Tensor) -> Tensor:
        return self.main(inputs) + self.weight * self.side(inputs)


class Coded(nn.Module):
    """Chooses a code for each image, by the largest score or by all of them."""

    def __init__(self, hard: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.score, self.codes, self.tell = mlp(16), nn.Embedding(16, 16), nn.Linear(16, 10)
        self.hard = hard

    def forward(self, inputs: Tensor) -> Tensor:
        scores = self.score(inputs)
        if self.hard:
            return self.tell(self.codes(scores.argmax(1)))
        return self.tell(scores.softmax(1) @ self.codes.weight)


NO_GRADIENT = [
    (
        "detached features",
        lambda: Task(lambda: TwoParts(lambda x: x.detach()), **DIGITS),
        lambda: Task(lambda: TwoParts(lambda x: x), **DIGITS),
    ),
    (
        "a layer that is never called",
        lambda: Task(lambda: Forgotten(True), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: Forgotten(False), **DIGITS, optimizer=Adam),
    ),
    (
        "an encoder under no_grad",
        lambda: Task(lambda: Encoded(False), **PIXELS, loss=nn.MSELoss(), optimizer=Adam),
        lambda: Task(lambda: Encoded(True), **PIXELS, loss=nn.MSELoss(), optimizer=Adam),
    ),
    (
        "word vectors through numpy",
        lambda: on(WORDS, lambda: Pooled(False), optimizer=Adam),
        lambda: on(WORDS, lambda: Pooled(True), optimizer=Adam),
    ),
    (
        "a branch times zero",
        lambda: Task(lambda: Masked(0.0), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: Masked(1.0), **DIGITS, optimizer=Adam),
    ),
    (
        "codes by argmax",
        lambda: Task(lambda: Coded(True), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: Coded(False), **DIGITS, optimizer=Adam),
    ),
    (
        "rounded features",
        lambda: Task(lambda: TwoParts(lambda x: (8 * x).round() / 8), **DIGITS),
        lambda: Task(lambda: TwoParts(lambda x: x), **DIGITS),
    ),
]


def of_head(model: nn.Module, lr: float) -> Optimizer:
    return SGD(model[-1].parameters(), lr=lr, momentum=0.9)


def of_all(model: nn.Module, lr: float) -> Optimizer:
    return SGD(model.parameters(), lr=lr, momentum=0.9)


def matrices(model: nn.Module, lr: float) -> Optimizer:
    named = [(n, p) for n, p in model.named_parameters() if "bias" not in n]
    return AdamW([p for n, p in named if "embed" not in n], lr=lr)


def in_groups(model: nn.Module, lr: float) -> Optimizer:
    named = list(model.named_parameters())
    decayed = [p for n, p in named if n.endswith("weight")]
    others = [p for n, p in named if not n.endswith("weight")]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return AdamW(groups, lr=lr)


class Listed(nn.Module):
    """Keeps its layers in a list of Python, or of torch."""

    def __init__(self, keep: Callable[[list[nn.Module]], Any]) -> None:
        super().__init__()
        self.layers = keep([nn.Linear(64, 32), nn.Linear(32, 32)])
        self.tell = nn.Linear(32, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs.flatten(1)
        for layer in self.layers:
            hidden = layer(hidden).relu()
        return self.tell(hidden)


NOT_OPTIMIZED = [
    (
        "an optimizer for the last layer",
        lambda: Task(conv, **DIGITS, optimizer=of_head),
        lambda: Task(conv, **DIGITS, optimizer=of_all),
    ),
    (
        "groups that leave embeddings and biases out",
        lambda: on(WORDS, Former, optimizer=matrices),
        lambda: on(WORDS, Former, optimizer=in_groups),
    ),
    (
        "layers in a list of Python",
        lambda: Task(lambda: Listed(list), **DIGITS, optimizer=Adam),
        lambda: Task(lambda: Listed(nn.ModuleList), **DIGITS, optimizer=Adam),
    ),
]


class Centres(nn.Module):
    """Cross-entropy, and the distance to centres of the classes that are to be learned."""

    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(10, 10))

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        near = (outputs - self.centres[labels]).square().mean()
        return F.cross_entropy(outputs, labels) + 0.1 * near


class Uncertain(nn.Module):
    """A squared error with a noise that is to be learned (Kendall and Gal 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(()))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        error = (outputs.squeeze(1) - targets).square().mean()
        return error * (-self.log_variance).exp() + self.log_variance


class Owning(nn.Module):
    """A model together with its loss, so that the optimizer trains both."""

    def __init__(self, body: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.body, self.loss = body, loss

    def forward(self, inputs: Tensor) -> Tensor:
        return self.body(inputs)


def owned(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return model.loss(model(batch[0]), batch[1])


def with_temperature() -> Task:
    scale = nn.Parameter(torch.ones(()))

    def objective(model: nn.Module, batch: list[Tensor]) -> Tensor:
        return F.cross_entropy(scale * F.normalize(model(batch[0])), batch[1])

    return Task(mlp, **DIGITS, objective=objective, optimizer=Adam)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.scale = mlp(), nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.scale * F.normalize(self.body(inputs))


LOSS_PARAMETERS = [
    (
        "centres of classes",
        lambda: Task(mlp, **DIGITS, loss=Centres(), optimizer=Adam),
        lambda: Task(lambda: Owning(mlp(), Centres()), **DIGITS, objective=owned, optimizer=Adam),
    ),
    (
        "a learned noise",
        lambda: on(NUMBERS, numeric, loss=Uncertain(), optimizer=Adam),
        lambda: on(
            NUMBERS, lambda: Owning(numeric(), Uncertain()), objective=owned, optimizer=Adam
        ),
    ),
    (
        "a temperature of the objective",
        with_temperature,
        lambda: Task(Scaled, **DIGITS, optimizer=Adam),
    ),
]


BROKEN: Broken = {
    "no-gradient": NO_GRADIENT,
    "not-optimized": NOT_OPTIMIZED,
    "loss-parameters": LOSS_PARAMETERS,
}
