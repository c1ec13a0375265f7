"""Trainings that stand, each for a reason of its own, beside healthy twins."""

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from benchmarks.diagnosis.healthy import Attention, Rows, conv, mlp
from benchmarks.diagnosis.trainings import Training
from lrtune import Task, schedules
from lrtune.demo import SmallCNN, images
from lrtune.testing import bowl

P = functools.partial
TRAIN, VAL = images()
MOMENTUM = P(SGD, momentum=0.9)


def at(
    task: Callable[[], Task], lr: float | None, steps: int = 1000, more: Mapping[str, object] = {}
) -> Training:
    """A training of a thousand updates, or as many as are given."""
    return Training(task, lr, steps, more)


def digits(model: Callable[[], nn.Module] = SmallCNN, **more: object) -> Task:
    return Task(model, **{"train": TRAIN, "val": VAL, "device": "cpu", **more})


def wrong_labels(share: float, count: int = 1438) -> tuple[Tensor, Tensor]:
    """Digits, of whose labels a share is drawn anew."""
    random = torch.Generator().manual_seed(1)
    drawn = torch.randint(10, (count,), generator=random)
    wrong = torch.rand(count, generator=random) < share
    return TRAIN[0][:count], torch.where(wrong, drawn, TRAIN[1][:count])


@functools.cache
def line(noise: float, count: int = 2000, inputs: int = 8) -> tuple[Tensor, Tensor]:
    """Targets that depend on their inputs in a line, with noise."""
    random = torch.Generator().manual_seed(2)
    x = torch.randn(count, inputs, generator=random)
    slope = torch.linspace(-1, 1, inputs)
    return x, (x @ slope + noise * torch.randn(count, generator=random)).unsqueeze(1)


def regression(noise: float, batch: int = 4, **more: object) -> Task:
    return Task(
        P(nn.Linear, 8, 1), line(noise), loss=nn.MSELoss(), device="cpu", batch_size=batch,
        **{"optimizer": SGD, **more},
    )  # fmt: skip


def fitted(count: int, optimizer: Callable[..., Optimizer] = Adam, batch: int = 20) -> Task:
    """A network that is fitted to noisy targets."""
    x, y = line(0.5, 2500)
    held = (x[2000:], y[2000:])
    return Task(
        lambda: nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1)),
        (x[:count], y[:count]), val=(held[0], held[1]), loss=nn.MSELoss(), optimizer=optimizer,
        batch_size=batch, device="cpu",
    )  # fmt: skip


def narrow(width: int = 16, outputs: int = 10) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, outputs))


def squeezed(width: int = 16) -> nn.Module:
    """A linear autoencoder."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 64))


def softmax() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def thin(width: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(),
        nn.Linear(4 * width, 10),
    )  # fmt: skip


def pixels(make: Callable[[], nn.Module], **more: object) -> Task:
    """Rebuild the digits."""
    train, val = ((one[0], one[0].flatten(1)) for one in (TRAIN, VAL))
    return Task(make, train, val=val, loss=nn.MSELoss(), device="cpu", **more)


def few(count: int, model: Callable[[], nn.Module], **more: object) -> Task:
    """Few training samples, all of the validation data."""
    return digits(model, train=tuple(one[:count] for one in TRAIN), batch_size=16, **more)


def large(hidden: int = 256, outputs: int = 10) -> nn.Module:
    return mlp(outputs, hidden)


def checkpoint_of(make: Callable[[], Task], lr: float, steps: int) -> dict[str, object]:
    """What a training script saves after so many updates at a constant rate."""
    task = make()
    state = task.init_state(0, lr)
    for _, batch in zip(range(steps), task.batches(0), strict=False):
        state.optimizer.zero_grad()
        task.loss(state, batch).backward()
        state.optimizer.step()
    return {"model": state.model.state_dict(), "optimizer": state.optimizer.state_dict()}


def saved(make: Callable[[], Task], lr: float, steps: int) -> Training:
    """A training of which only a checkpoint is left."""
    return at(make, None, more={"checkpoint": P(checkpoint_of, make, lr, steps)})


_LINE = P(regression, 1.0)
_SOFTMAX = P(digits, softmax, train=wrong_labels(0.6))
_PLAIN = P(digits, mlp)
_CONV = P(digits, conv, optimizer=MOMENTUM)
_LSTM = P(digits, Rows, optimizer=Adam)
_ATTENTION = P(digits, Attention, optimizer=AdamW)
_CNN = P(digits, SmallCNN)


def fading(times: int) -> Callable[[float], float]:
    """Nine tenths, so many times."""
    return lambda progress: 0.9 ** (times * progress)


def soon(share: float) -> schedules.Schedule:
    """A schedule that is spread over a share of the training only."""
    return schedules.join(pieces=(schedules.cosine(), schedules.scale(schedules.constant(), 1e-4)),
                          at=(share,))  # fmt: skip


BROKEN: dict[str, list[tuple[str, Training, Training]]] = {
    "noise-floor": [
        ("regression on noisy targets", at(_LINE, 0.1, 2000), at(_LINE, 0.003, 2000)),
        ("MLP on noisy targets", at(P(fitted, 2000, SGD, 4), 0.05, 4000),
         at(P(fitted, 2000, SGD, 64), 0.05, 1000)),
        ("softmax on wrong labels", at(P(_SOFTMAX, batch_size=16), 0.1, 4000),
         at(P(_SOFTMAX, batch_size=64), 0.02, 3000)),
        ("a bowl", at(P(bowl, 1.0, 0.5), 0.3, 6000), at(P(bowl, 1.0), 0.3, 6000)),
        ("a checkpoint of a regression", saved(_LINE, 0.1, 800), saved(_LINE, 0.003, 100)),
    ],
    "converged": [
        ("regression on noisy targets", at(P(regression, 1.0, 500), 0.1, 2000),
         at(_PLAIN, 0.1, 1000)),
        ("all data in a batch", at(P(regression, 1.0, 2000), 0.2, 1000),
         at(_CONV, 0.05, 1000)),
        ("softmax with weight decay",
         at(P(digits, softmax, batch_size=719,
                    optimizer=P(SGD, momentum=0.9, weight_decay=0.1)), 0.1, 2000),
         at(P(digits, softmax, batch_size=719), 0.1, 2000)),
        ("a checkpoint", saved(P(regression, 1.0, 500), 0.1, 400),
         saved(P(regression, 1.0, 500), 0.1, 10)),
    ],
    "rate-too-low": [
        ("MLP", at(_PLAIN, 1e-3), at(_PLAIN, 0.1)),
        ("convolutions", at(_CONV, 1e-3), at(_CONV, 0.1)),
        ("LSTM", at(_LSTM, 1e-4), at(_LSTM, 0.02)),
        ("transformer", at(_ATTENTION, 1e-4), at(_ATTENTION, 0.01)),
        ("regression", at(P(regression, 0.1, 64), 1e-4),
         at(P(regression, 0.1, 64), 0.1)),
        ("a checkpoint", saved(_PLAIN, 1e-3, 100), saved(_PLAIN, 0.1, 100)),
        ("a rate of nothing, convolutions", at(_CONV, 1e-8), at(_CONV, 0.1)),
    ],
    "rate-too-high": [
        ("MLP", at(_PLAIN, 1.5), at(_PLAIN, 0.1)),
        ("autoencoder", at(P(pixels, P(squeezed, 32), optimizer=Adam), 0.3),
         at(P(pixels, P(squeezed, 32), optimizer=Adam), 0.01)),
        ("transformer", at(_ATTENTION, 0.3), at(_ATTENTION, 0.005)),
        ("CNN", at(_CNN, 0.5), at(_CNN, 0.05)),
        ("regression", at(P(regression, 0.1, 64), 1.2),
         at(P(regression, 0.1, 64), 0.1)),
        ("LSTM", at(_LSTM, 0.3), at(_LSTM, 0.02)),
        ("transformer that rises without end", at(_ATTENTION, 3.0, 2000),
         at(_ATTENTION, 0.005, 2000)),
        ("softmax, batches of four", at(P(_SOFTMAX, batch_size=4), 0.5, 3000),
         at(P(_SOFTMAX, batch_size=64), 0.02, 3000)),
    ],
    "capacity": [
        ("MLP of two units", at(P(digits, P(narrow, width=2)), 0.1, 3000),
         at(P(digits, P(narrow, width=64)), 0.1, 3000)),
        ("autoencoder", at(P(pixels, P(squeezed, width=2), optimizer=Adam), 0.01, 3000),
         at(P(pixels, P(squeezed, width=48), optimizer=Adam), 0.003, 3000)),
        ("CNN of one channel", at(P(digits, P(thin, width=1), optimizer=Adam), 0.03, 3000),
         at(P(digits, P(thin, width=16), optimizer=Adam), 0.01, 3000)),
    ],
    "overfitting": [
        ("MLP, 100 samples", at(P(few, 100, large, optimizer=Adam), 0.01, 1500),
         at(P(digits, large, optimizer=Adam), 0.001, 1500)),
        ("wrong labels", at(P(digits, large, train=wrong_labels(0.5, 400), optimizer=Adam),
                                  0.01, 2000),
         at(P(digits, mlp, optimizer=Adam), 0.003, 1500)),
        ("regression on few samples", at(P(fitted, 60), 0.01, 1500),
         at(P(fitted, 2000), 0.01, 1500)),
        ("LSTM, 60 samples", at(P(few, 60, Rows, optimizer=Adam), 0.02, 2000),
         at(_LSTM, 0.005, 2000)),
    ],
    "ended-early": [
        ("cosine over a tenth", at(_PLAIN, 0.03, 1000, {"schedule": soon(0.1)}),
         at(_PLAIN, 0.1, 1000, {"schedule": schedules.cosine()})),
        ("decay stepped by batch", at(_CONV, 0.01, 1000, {"schedule": fading(1000)}),
         at(_CONV, 0.05, 1000, {"schedule": fading(10)})),
        ("milestones by batch",
         at(_CNN, 0.03, 1000, {"schedule": schedules.multistep((0.03, 0.06, 0.09))}),
         at(_CNN, 0.05, 1000, {"schedule": schedules.multistep((0.3, 0.6, 0.9))})),
    ],
}  # fmt: skip
"""Name of the finding to (title, a training that has it, its healthy twin)."""
