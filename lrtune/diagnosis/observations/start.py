"""The loss before any update."""

import math

import torch

from lrtune.task.batches import Batch
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.states import TrainState, evaluating
from lrtune.task.task import Task


def first_losses(task: Task) -> tuple[float, float]:
    """The loss of the first batch, in train mode and in eval mode, with the same random numbers."""
    with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
        state, batch = task.init_state(0, TRIAL_LR), task.to_device(next(task.batches(0)))
        with evaluating(state):
            in_eval = _loss(task, state, batch)
        return _loss(task, state, batch), in_eval


def _loss(task: Task, state: TrainState, batch: Batch) -> float:
    """The loss of a batch; NaN where there is none in this mode, as of a detection model."""
    seed_everything(derive_seed(0, NOISE))
    try:
        return task.loss(state, batch).item()
    except Exception:  # noqa: BLE001 - the user's model may raise anything
        return math.nan
