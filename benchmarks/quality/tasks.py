"""What is trained: twelve open tasks and four that are held out.

The held-out ones were chosen before anything was measured, and nothing may be tuned on them.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from benchmarks.quality import data, nets
from lrtune import Task
from lrtune.task.random_state import preserve_random_state

MOMENTUM = functools.partial(SGD, momentum=0.9)


@dataclass(frozen=True)
class Spec:
    """One task of the benchmark.

    Attributes:
        name: Its key in every table.
        model: Makes a fresh model.
        load: Makes (train, val).
        optimizer: Takes parameters and `lr=`.
        batch: Examples per step.
        steps: The full length, T.
        loss: Of outputs and targets.
        held_out: Run for the published table only, never looked at while tuning.
        about: What is particular about it.
    """

    name: str
    model: Callable[[], nn.Module]
    load: Callable[[], data.Data]
    optimizer: Callable[..., Optimizer]
    batch: int
    steps: int
    loss: nn.Module = field(default_factory=nn.CrossEntropyLoss)
    held_out: bool = False
    about: str = ""

    @property
    def family(self) -> str:
        """SGD or Adam."""
        kind = getattr(self.optimizer, "func", self.optimizer)
        return "SGD" if kind is SGD else "Adam"

    @property
    def method(self) -> str:
        """The optimizer, in words."""
        kind = getattr(self.optimizer, "func", self.optimizer)
        given = getattr(self.optimizer, "keywords", {})
        words = [f"{name.replace('_', ' ')} {value:g}" for name, value in given.items()]
        return ", ".join([kind.__name__, *words])

    @functools.cached_property
    def data(self) -> data.Data:
        """(train, val), read once."""
        return self.load()

    def task(self, optimizer: Callable[..., Optimizer] | None = None) -> Task:
        """As lrtune takes it; with another optimizer when one is given."""
        train, val = self.data
        return Task(
            self.model,
            train,
            val=val,
            loss=self.loss,
            optimizer=optimizer or self.optimizer,
            batch_size=self.batch,
            device="cpu",
        )

    def guessing(self) -> float:
        """The validation loss of the best answer that does not look at the input."""
        (_, seen), (_, asked) = self.data
        regression = isinstance(self.loss, nn.MSELoss)
        guess = seen.mean() if regression else (torch.bincount(seen) / len(seen)).log()
        total = 0.0
        for some in asked.split(self.batch):  # as Task does it
            said = guess.expand(some.shape if regression else (len(some), -1))
            total += float(self.loss(said, some)) * len(some)
        return total / len(asked)


@functools.cache
def _trained(steps: int = 400) -> dict[str, Tensor]:
    """LeNet after some training on the digits as they are: where the fine-tuning begins."""
    (inputs, labels), _ = data.mnist()
    with preserve_random_state():
        torch.manual_seed(0)
        model = nets.lenet()
        optimizer = Adam(model.parameters(), lr=2e-3)
        for _ in range(steps):
            rows = torch.randint(len(labels), (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    return model.state_dict()


def fine_tuned() -> nn.Module:
    """LeNet with those weights; the last layer is new, so that seeds differ."""
    model = nets.lenet()
    kept = {name: value for name, value in _trained().items() if not name.startswith("11.")}
    model.load_state_dict(kept, strict=False)
    return model


def raw() -> data.Data:
    (train, labels), (val, targets) = data.mnist(14)
    return (255 * train, labels), (255 * val, targets)


def raw_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(144, 10),
    )  # fmt: skip


def _spec(name: str, *rest: object, **more: object) -> Spec:
    return Spec(name, *rest, **more)


P = functools.partial
_OPEN = (
    _spec("digits CNN", nets.SmallCNN, data.digits, MOMENTUM, 64, 400),
    _spec("digits noisy", nets.normed, lambda: data.noisy(data.digits(), 0.3, 10), Adam, 8, 400,
          about="BatchNorm; 30 % of the training labels are drawn anew"),
    _spec("MNIST LeNet", nets.lenet, data.mnist, SGD, 16, 250,
          about="the best rate lies above the coarse grid"),
    _spec("MNIST ResNet", P(nets.ResNet, 1, 4, 10), P(data.mnist, 14), MOMENTUM, 32, 200,
          about="BatchNorm"),
    _spec("MNIST deep", P(nets.deep, 10, 6, 10), P(data.mnist, 8), Adam, 256, 200,
          about="ten convolutions without any norm or way around"),
    _spec("MNIST fine-tuned", fine_tuned, lambda: data.turned(data.mnist(), 500), AdamW, 16, 200,
          about="starts from weights trained on MNIST; digits turned over, black on white"),
    _spec("MNIST raw", raw_net, raw, MOMENTUM, 32, 300,
          about="pixels from 0 to 255"),
    _spec("patches VGG", P(nets.vgg, 3, 6, 10, 12), P(data.patches, data.COLOURED, 12, 300, 40),
          MOMENTUM, 32, 300, about="no norm"),
    _spec("patches depthwise", P(nets.depthwise, 3, 8, 10),
          P(data.patches, data.COLOURED, 12, 300, 40), AdamW, 32, 250, about="GroupNorm"),
    _spec("denoising plain", P(nets.plain, 8), P(data.denoising, 12, 250, 0.15), SGD, 32, 300,
          nn.MSELoss(), about="regression"),
    _spec("denoising summed", P(nets.plain, 8), P(data.denoising, 12, 256, 0.15), MOMENTUM, 8, 300,
          nn.MSELoss(reduction="sum"), about="summed loss: the best rate lies below the grid"),
    _spec("denoising U-Net", P(nets.UNet, 4), P(data.denoising, 16, 250, 0.15), Adam, 16, 200,
          nn.MSELoss(), about="regression"),
)  # fmt: skip
_HELD_OUT = (
    _spec("digits deep", P(nets.deep, 8, 8, 10), data.digits, MOMENTUM, 128, 250, held_out=True,
          about="eight convolutions without any norm or way around"),
    _spec("patches noisy", P(nets.ResNet, 3, 4, 10),
          lambda: data.noisy(data.patches(data.COLOURED, 12, 300, 40), 0.2, 10), AdamW, 16, 250,
          held_out=True, about="BatchNorm; 20 % of the training labels are drawn anew"),
    _spec("denoising normed", P(nets.UNet, 3, norm=True), P(data.denoising, 12, 250, 0.3),
          MOMENTUM, 8, 250, nn.MSELoss(), held_out=True, about="regression; U-Net, BatchNorm"),
    _spec("textures VGG", P(nets.vgg, 1, 4, 4, 16), P(data.patches, data.TEXTURES, 16, 400, 100),
          Adam, 64, 200, held_out=True, about="no norm"),
)  # fmt: skip
TASKS = {spec.name: spec for spec in (*_OPEN, *_HELD_OUT)}
