"""Tasks whose best learning rates are known, for tests."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lrtune.task.batches import Batch
from lrtune.task.task import Task

__all__ = ["Bowl", "bowl"]


class Bowl(nn.Module):
    """A model with one weight w, whose output is the loss curvature / 2 * w**2 (in float64).

    Each step of gradient descent multiplies w by 1 - lr * curvature. So it diverges exactly above
    lr = 2 / curvature, and is fastest at lr = 1 / curvature.

    Args:
        curvature: h > 0.
        start: The initial weight.

    >>> Bowl(4.0)().item()
    2.0
    """

    def __init__(self, curvature: float, start: float = 1.0) -> None:
        super().__init__()
        self.curvature = curvature
        self.w = nn.Parameter(torch.tensor([start], dtype=torch.float64))

    def forward(self) -> Tensor:
        """Return the loss."""
        loss: Tensor = (self.curvature / 2 * self.w**2).sum()
        return loss


def bowl(
    curvature: float = 1.0,
    noise: float = 0.0,
    *,
    optimizer: Callable[..., Optimizer] = SGD,
    examples: int = 1000,
) -> Task:
    """Return a task with a known largest stable rate: plain SGD diverges above 2 / curvature.

    Args:
        curvature: h > 0 in the loss h / 2 w**2; w starts at 1, and the minimum is 0 at w = 0.
        noise: Standard deviation of the gradient's noise, relative to the gradient at the start.
        optimizer: An optimizer class or factory; plain SGD by default.
        examples: Number of examples, each with a noise of its own; a batch is one example.

    >>> bowl(curvature=4.0)
    Task(Bowl with 1 parameters, SGD, a custom objective, (float64[1, 1]), cpu)
    """
    generator = torch.Generator().manual_seed(0)
    # Tilting the parabola by a random slope is adding noise to its gradient, without changing it on
    # average.
    tilts = torch.randn(examples, 1, generator=generator, dtype=torch.float64)
    tilts = (tilts - tilts.mean()) * noise * curvature

    def tilted_loss(model: Bowl, batch: Batch) -> Tensor:
        (tilt,) = batch
        loss: Tensor = model() + (tilt.mean() * model.w).sum()
        return loss

    return Task(
        Bowl(curvature),
        (tilts,),
        objective=tilted_loss,
        optimizer=optimizer,
        device="cpu",
        batch_size=1,
    )
