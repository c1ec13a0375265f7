"""Tasks with known answers, for our tests and for yours."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lrtune.task.batch import Batch
from lrtune.task.task import Task


class Bowl(nn.Module):
    """One weight w on the parabola curvature / 2 * w**2, in double precision.

    Gradient descent multiplies w by 1 - lr * curvature at each step: it diverges exactly where
    lr > 2 / curvature, and is fastest at 1 / curvature. This is the oracle for every rule.
    """

    def __init__(self, curvature: float, start: float = 1.0) -> None:
        """Begin at w = `start`."""
        super().__init__()
        self.curvature = curvature
        self.w = nn.Parameter(torch.tensor([start], dtype=torch.float64))

    def forward(self) -> Tensor:
        """The height."""
        height: Tensor = (self.curvature / 2 * self.w**2).sum()
        return height


def bowl(
    curvature: float = 1.0,
    noise: float = 0.0,
    *,
    optimizer: Callable[..., Optimizer] = SGD,
    examples: int = 1000,
) -> Task:
    """A task whose largest stable rate is known: plain SGD diverges above 2 / curvature.

    Args:
        curvature: h > 0 in the loss h / 2 w**2, whose minimum is 0 at w = 0; w starts at 1.
        noise: Standard deviation of the noise of the gradient, in units of its size at the start.
        optimizer: Plain SGD, or what you want to look at.
        examples: How many different gradients there are (one per batch).

    >>> bowl(curvature=4.0)
    Task(Bowl with 1 parameters, SGD, a custom objective, (float64[1, 1]), cpu)
    """
    generator = torch.Generator().manual_seed(0)
    tilts = torch.randn(examples, 1, generator=generator, dtype=torch.float64)
    tilts = (tilts - tilts.mean()) * noise * curvature

    def height(model: Bowl, batch: Batch) -> Tensor:
        (tilt,) = batch
        tilted: Tensor = model() + (tilt.mean() * model.w).sum()
        return tilted

    return Task(
        Bowl(curvature),
        (tilts,),
        objective=height,
        optimizer=optimizer,
        device="cpu",
        batch_size=1,
    )
