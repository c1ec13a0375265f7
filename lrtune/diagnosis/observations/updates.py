"""Whether the optimizer's own first update lowers the loss of the batch that it was made for."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lrtune.diagnosis.observations.passes import as_in_training
from lrtune.task.batches import Batch
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import NOISE, derive_seed, seed_everything
from lrtune.task.states import TrainState
from lrtune.task.task import Task

SIZES = (1e-3, 1e-4, 1e-2)
"""By convention: how far the weights move, as shares of their norm; the first one decides where it
shows that the loss falls."""


@dataclass(frozen=True)
class Moved:
    """The loss of a batch before and behind its first update, with the same random numbers.

    Attributes:
        size: How far the weights moved each way, as a share of their norm.
        ahead: The loss where the update leads.
        behind: The loss where its opposite leads.
        resolution: Losses closer than this differ by rounding.
    """

    size: float
    ahead: float
    behind: float
    resolution: float

    @property
    def sign(self) -> int:
        """1 where the update raises the loss, -1 where it lowers it, 0 where nobody knows."""
        change = self.ahead - self.behind
        return 0 if not abs(change) > self.resolution else int(math.copysign(1, change))


def first_update(task: Task, batch: Batch) -> list[Moved]:
    """Move along the first update and against it, by several sizes until the loss falls.

    Weight decay is left out, as it lowers something else than the loss.
    """
    with as_in_training():
        batch, start = task.to_device(batch), task.init_state(0, TRIAL_LR)
        moves = _update(task, task.copy_state(start, TRIAL_LR), batch)
        size = math.sqrt(sum(float(one.double().square().sum()) for one in moves))
        weights = sum(float(p.detach().double().square().sum()) for p in start.model.parameters())
        if not (size > 0 and math.isfinite(size)):
            return []
        found: list[Moved] = []
        for share in SIZES:
            scale = share * math.sqrt(weights or 1.0) / size
            ahead, behind = (_moved(task, start, batch, moves, by) for by in (scale, -scale))
            eps = torch.finfo(next(start.model.parameters()).dtype).eps
            found.append(Moved(share, ahead, behind, 16 * eps * abs(ahead)))
            if found[-1].sign < 0:
                break
    return found


def _update(task: Task, state: TrainState, batch: Batch) -> list[Tensor]:
    """What the optimizer's first update adds to each parameter; nothing where it fails."""
    before = [one.detach().clone() for one in state.model.parameters()]
    for group in state.optimizer.param_groups:
        if "weight_decay" in group:
            group["weight_decay"] = 0.0
    seed_everything(derive_seed(0, NOISE))
    try:
        task.loss(state, batch).backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
    except Exception:  # noqa: BLE001 - the user's model may raise anything
        return []
    after = [one.detach() for one in state.model.parameters()]
    return [now - then for now, then in zip(after, before, strict=True)]


def _moved(task: Task, start: TrainState, batch: Batch, moves: list[Tensor], scale: float) -> float:
    """The loss of the batch with weights that are moved."""
    state = task.copy_state(start, TRIAL_LR)
    with torch.no_grad():
        for one, move in zip(state.model.parameters(), moves, strict=True):
            one.add_(move, alpha=scale)
    seed_everything(derive_seed(0, NOISE))
    try:
        return task.loss(state, batch).item()
    except Exception:  # noqa: BLE001 - the user's model may raise anything
        return math.nan
