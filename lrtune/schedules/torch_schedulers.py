"""`to_torch`: a torch scheduler of a schedule."""

from collections.abc import Callable
from typing import Any, overload

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from lrtune.errors import ScheduleError
from lrtune.schedules.plateaus import ReduceOnPlateau
from lrtune.schedules.schedule import (
    Curve,
    as_schedule,
    check_steps,
    momenta,
    multipliers,
)


class MomentumLR(LambdaLR):
    """A LambdaLR that sets the momentum together with the rate, as torch's OneCycleLR does."""

    def __init__(
        self,
        optimizer: Optimizer,
        multiplier: Callable[[int], float],
        momentum_at: Callable[[int], float],
    ) -> None:
        self.momentum_at = momentum_at  # the constructor of LambdaLR calls `get_lr`
        super().__init__(optimizer, multiplier)

    def get_lr(self) -> list[Any]:
        """Return the rates of the current step, and set its momentum."""
        set_momentum(self.optimizer, self.momentum_at(self.last_epoch))
        return super().get_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return plain data, without functions: `torch.load(weights_only=True)` can read it."""
        return {key: value for key, value in super().state_dict().items() if key != "momentum_at"}


@overload
def to_torch(schedule: ReduceOnPlateau, optimizer: Optimizer, steps: int) -> ReduceLROnPlateau: ...
@overload
def to_torch(schedule: Curve, optimizer: Optimizer, steps: int) -> LambdaLR: ...
def to_torch(
    schedule: Curve | ReduceOnPlateau, optimizer: Optimizer, steps: int
) -> LambdaLR | ReduceLROnPlateau:
    """Return a torch scheduler with this schedule; call its `step()` after each update.

    After the last step the rate stays. A schedule with a momentum curve also sets SGD's momentum or
    Adam's beta1. `ReduceOnPlateau(on="val")` becomes torch's ReduceLROnPlateau, whose
    `step(val_loss)` is called after every `schedule.validate_every(steps)` updates instead.

    Args:
        schedule: A schedule, any function of progress, or `ReduceOnPlateau(on="val")`.
        optimizer: Any torch optimizer. The current rate of each parameter group becomes its peak.
        steps: Length of the run in optimizer updates, >= 1.

    Raises:
        ScheduleError: The schedule raises, returns something that is no multiplier, sets the
            momentum of an optimizer that has none, or reacts to the losses of batches.
        ArgumentError: `steps` is less than 1.

    >>> import torch
    >>> from lrtune.schedules import cosine
    >>> sgd = torch.optim.SGD([torch.zeros(1)], lr=0.2)
    >>> scheduler = to_torch(cosine(), sgd, steps=4)
    >>> rates = []
    >>> for _ in range(6):
    ...     rates.append(round(sgd.param_groups[0]["lr"], 4))
    ...     sgd.step()
    ...     scheduler.step()
    >>> rates
    [0.2, 0.1707, 0.1, 0.0293, 0.0293, 0.0293]
    """
    if isinstance(schedule, ReduceOnPlateau):
        settings: dict[str, Any] = schedule.torch_settings(check_steps(steps))
        return ReduceLROnPlateau(optimizer, **settings)
    known = as_schedule(schedule)
    rates, moments = multipliers(known, steps), momenta(known, steps)
    if moments:
        set_momentum(optimizer, moments[0])  # an optimizer without momentum fails before any change
    for group in optimizer.param_groups:
        group.pop("initial_lr", None)  # an earlier scheduler's peak, which torch would reuse
    last = steps - 1  # afterwards the last value is held: torch counts on without an end
    if moments:
        return MomentumLR(
            optimizer, lambda step: rates[min(step, last)], lambda step: moments[min(step, last)]
        )
    return LambdaLR(optimizer, lambda step: rates[min(step, last)])


def set_momentum(optimizer: Optimizer, value: float) -> None:
    """Set SGD's momentum, or Adam's beta1, of every parameter group.

    Raises:
        ScheduleError: A group has neither; then no group is changed.
    """
    for group in optimizer.param_groups:
        if "betas" not in group and "momentum" not in group:
            raise ScheduleError(
                f"{type(optimizer).__name__} has neither momentum nor betas, and the schedule "
                "sets the momentum. Make the schedule without it: one_cycle(momentum=None)."
            )
    for group in optimizer.param_groups:
        set_group_momentum(group, value)


def set_group_momentum(group: dict[str, Any], value: float) -> None:
    """Set the momentum, or Adam's beta1, of one parameter group that has one of them."""
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value
