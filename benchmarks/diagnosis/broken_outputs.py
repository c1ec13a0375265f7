"""Tasks whose loss gets the wrong thing, each beside its healthy twin."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from benchmarks.diagnosis.healthy import DIGITS, NAMED, Rows, conv, mlp, relabelled
from benchmarks.diagnosis.pieces import (
    MASKS,
    NUMBERS,
    ODD,
    PIXELS,
    WORDS,
    Broken,
    Reader,
    flat,
    numeric,
    on,
    segmenter,
    with_end,
)
from lrtune import Task

F = nn.functional


class OwnSoftmax(nn.Module):
    """Classifies, and returns probabilities where it was asked to."""

    def __init__(self, probabilities: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.body, self.probabilities = conv(), probabilities

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        scores = self.body(image)
        return {"output": torch.softmax(scores, -1) if self.probabilities else scores}


def from_dict(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch["image"])["output"], batch["label"])


def by_hand(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return -F.log_softmax(model(batch[0]), 1).gather(1, batch[1][:, None]).mean()


def binary(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(batch[0]), (batch[1] % 2).float())


class Ending(nn.Module):
    """Does something with its outputs, which may depend on the mode."""

    def __init__(
        self, end: Callable[[Tensor, bool], Tensor] = lambda x, _: x, outputs: int = 10
    ) -> None:
        super().__init__()
        self.body, self.end = mlp(outputs), end

    def forward(self, inputs: Tensor) -> Tensor:
        return self.end(self.body(inputs), self.training)


def divergence(log: bool) -> Callable[[nn.Module, list[Tensor]], Tensor]:  # noqa: FBT001
    def objective(model: nn.Module, batch: list[Tensor]) -> Tensor:
        given, wanted = model(batch[0]), F.one_hot(batch[1], 10).float()
        given = given.log_softmax(1) if log else given.softmax(1)
        return F.kl_div(given, wanted, reduction="batchmean")

    return objective


STANDARD = relabelled(lambda x, _: (x.flatten(1) - 0.3) / 0.4)
ACTIVATION = [
    (
        "CNN with a softmax layer",
        lambda: Task(lambda: with_end(conv(), nn.Softmax(1)), **DIGITS),
        lambda: Task(conv, **DIGITS),
    ),
    (
        "MLP, NLLLoss on raw scores",
        lambda: Task(mlp, **DIGITS, loss=nn.NLLLoss()),
        lambda: Task(lambda: with_end(mlp(), nn.LogSoftmax(1)), **DIGITS, loss=nn.NLLLoss()),
    ),
    (
        "MLP, NLLLoss on probabilities",
        lambda: Task(lambda: with_end(mlp(), nn.Softmax(1)), **DIGITS, loss=nn.NLLLoss()),
        lambda: Task(lambda: with_end(mlp(), nn.LogSoftmax(1)), **DIGITS, loss=nn.NLLLoss()),
    ),
    (
        "log-softmax over the batch",
        lambda: Task(lambda: with_end(mlp(), nn.LogSoftmax(0)), **DIGITS, loss=nn.NLLLoss()),
        lambda: Task(lambda: with_end(mlp(), nn.LogSoftmax(1)), **DIGITS, loss=nn.NLLLoss()),
    ),
    (
        "sigmoid before BCEWithLogits",
        lambda: Task(
            lambda: with_end(mlp(1), nn.Sigmoid()), **ODD, loss=nn.BCEWithLogitsLoss(),
            optimizer=Adam,
        ),
        lambda: Task(lambda: mlp(1), **ODD, loss=nn.BCEWithLogitsLoss(), optimizer=Adam),
    ),
    (
        "segmentation with a sigmoid",
        lambda: Task(
            lambda: segmenter(nn.Sigmoid()), **MASKS, loss=nn.BCEWithLogitsLoss(), optimizer=Adam
        ),
        lambda: Task(segmenter, **MASKS, loss=nn.BCEWithLogitsLoss(), optimizer=Adam),
    ),
    (
        "dict batches, softmax inside the model",
        lambda: Task(lambda: OwnSoftmax(True), **NAMED, objective=from_dict),
        lambda: Task(lambda: OwnSoftmax(False), **NAMED, objective=from_dict),
    ),
    (
        "GRU that ends with a sigmoid, cross-entropy",
        lambda: on(WORDS, lambda: Reader(torch.sigmoid), optimizer=Adam),
        lambda: on(WORDS, Reader, optimizer=Adam),
    ),
    (
        "a ReLU behind the last layer",
        lambda: Task(lambda: with_end(conv(), nn.ReLU()), **DIGITS, optimizer=Adam),
        lambda: Task(conv, **DIGITS, optimizer=Adam),
    ),
    (
        "log-likelihood by hand, of a softmax",
        lambda: Task(lambda: with_end(mlp(), nn.Softmax(1)), **DIGITS, objective=by_hand),
        lambda: Task(mlp, **DIGITS, objective=by_hand),
    ),
    (
        "log-softmax twice",
        lambda: Task(lambda: with_end(mlp(), nn.LogSoftmax(1)), **DIGITS),
        lambda: Task(mlp, **DIGITS),
    ),
    (
        "tanh before targets between -6 and 6",
        lambda: on(
            (NUMBERS[0], NUMBERS[1][:, None]), lambda: numeric(nn.Tanh()), loss=nn.MSELoss(),
            optimizer=Adam,
        ),
        lambda: on(
            (NUMBERS[0], NUMBERS[1][:, None] / 8), lambda: numeric(nn.Tanh()), loss=nn.MSELoss(),
            optimizer=Adam,
        ),
    ),
    (
        "a softmax and a small number",
        lambda: Task(lambda: Ending(lambda x, _: x.softmax(1) + 1e-8), **DIGITS),
        lambda: Task(Ending, **DIGITS),
    ),
    (
        "a sigmoid that is cut and squeezed",
        lambda: Task(
            lambda: Ending(lambda x, _: x.sigmoid().clamp(0.01, 0.99).squeeze(1), 1),
            **DIGITS,
            objective=binary,
        ),
        lambda: Task(lambda: Ending(lambda x, _: x.squeeze(1), 1), **DIGITS, objective=binary),
    ),
    (
        "a softmax in eval mode",
        lambda: Task(lambda: Ending(lambda x, train: x if train else x.softmax(1)), **DIGITS),
        lambda: Task(Ending, **DIGITS),
    ),
    (
        "divergence from probabilities",
        lambda: Task(mlp, **DIGITS, objective=divergence(log=False)),
        lambda: Task(mlp, **DIGITS, objective=divergence(log=True)),
    ),
    (
        "a sigmoid for pixels of mean 0",
        lambda: Task(lambda: Ending(lambda x, _: x.sigmoid(), 64), **STANDARD, loss=nn.MSELoss()),
        lambda: Task(lambda: Ending(lambda x, _: x.sigmoid(), 64), **PIXELS, loss=nn.MSELoss()),
    ),
]  # fmt: skip


def squared(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return ((model(batch[0]) - batch[1]) ** 2).mean()


def squared_right(model: nn.Module, batch: list[Tensor]) -> Tensor:
    return ((model(batch[0]).squeeze(1) - batch[1]) ** 2).mean()


def absolute(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return (batch["label"].float() / 5 - 1 - model(batch["image"])).abs().mean()


def absolute_right(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return (batch["label"].float() / 5 - 1 - model(batch["image"])[:, 0]).abs().mean()


def weighted(model: nn.Module, batch: list[Tensor]) -> Tensor:
    inputs, targets = batch
    each = F.mse_loss(model(inputs), targets[:, None], reduction="none")
    return (targets.abs() * each).mean()


def weighted_right(model: nn.Module, batch: list[Tensor]) -> Tensor:
    inputs, targets = batch
    each = F.mse_loss(model(inputs), targets[:, None], reduction="none")
    return (targets.abs() * each[:, 0]).mean()


CLOCK = relabelled(lambda _, y: y.float() / 5 - 1)
BROADCAST = [
    (
        "regression, MSELoss",
        lambda: on(NUMBERS, numeric, loss=nn.MSELoss(), optimizer=Adam),
        lambda: on(NUMBERS, numeric, loss=flat, optimizer=Adam),
    ),
    (
        "regression by hand",
        lambda: on(NUMBERS, numeric, objective=squared),
        lambda: on(NUMBERS, numeric, objective=squared_right),
    ),
    (
        "CNN, smooth L1",
        lambda: Task(lambda: conv(1), **CLOCK, loss=nn.SmoothL1Loss(), optimizer=AdamW),
        lambda: Task(
            lambda: conv(1), **CLOCK, loss=lambda o, y: flat(o, y, F.smooth_l1_loss),
            optimizer=AdamW,
        ),
    ),
    (
        "dict batches, absolute error by hand",
        lambda: Task(lambda: mlp(1), **NAMED, objective=absolute, optimizer=Adam),
        lambda: Task(lambda: mlp(1), **NAMED, objective=absolute_right, optimizer=Adam),
    ),
    (
        "weights of the samples",
        lambda: on(NUMBERS, numeric, objective=weighted, optimizer=Adam),
        lambda: on(NUMBERS, numeric, objective=weighted_right, optimizer=Adam),
    ),
    (
        "masks without the axis of channels",
        lambda: Task(
            segmenter, **relabelled(lambda x, _: x[:, 0]), loss=nn.MSELoss(), optimizer=Adam
        ),
        lambda: Task(segmenter, **relabelled(lambda x, _: x), loss=nn.MSELoss(), optimizer=Adam),
    ),
    (
        "an LSTM, absolute error",
        lambda: Task(lambda: with_end([Rows()], nn.Linear(10, 1)), **CLOCK, loss=nn.L1Loss()),
        lambda: Task(
            lambda: with_end([Rows()], nn.Linear(10, 1), nn.Flatten(0)), **CLOCK, loss=nn.L1Loss()
        ),
    ),
]  # fmt: skip


BROKEN: Broken = {"activation-before-loss": ACTIVATION, "broadcast-targets": BROADCAST}
