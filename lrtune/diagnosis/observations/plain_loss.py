"""The loss of outputs that say nothing: zeros, or equal probabilities."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lrtune.task.batches import map_leaves
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.task import Task

UNIT = ("binary cross-entropy", "an objective")
CLOSE = 1e-3  # by convention: sums of probabilities that differ by less from 1 differ by rounding


def plain_loss(task: Task) -> float:
    """The loss of the first batch where the model's outputs say nothing; NaN where nobody knows.

    It is ln C for a cross-entropy of C classes, ln 2 for a binary one, the mean square of the
    targets for a squared error.
    """
    with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
        state, batch = task.init_state(0, TRIAL_LR), task.to_device(next(task.batches(0)))
        called, unit = list[bool](), task.loss_kind.name in UNIT

        def silence(_model: object, _inputs: object, outputs: Any) -> Any:
            called.append(True)
            return map_leaves(outputs, partial(_silent, unit=unit))

        state.model.register_forward_hook(silence)
        seed_everything(derive_seed(0, NOISE))
        try:
            loss = task.loss(state, batch).item()
        except Exception:  # noqa: BLE001 - the user's loss may want something else
            return math.nan
    return loss if called else math.nan


def _silent(output: Any, *, unit: bool) -> Any:
    """What an output is replaced by: probabilities by equal ones, other numbers by zeros.

    Numbers in [0, 1] are probabilities where the loss is for such ones, which `unit` tells. One
    number without a row stays as it is: it is a loss.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return output
    if not output.numel() or not output.ndim:
        return output
    several = output.ndim > 1 and output.shape[1] > 1
    values = output.detach().cpu().double()
    in_unit = bool(((values >= 0) & (values <= 1)).all())
    if several and in_unit and _is_one(values.sum(1)):
        return output * 0 + 1 / output.shape[1]
    if several and _is_one(values.exp().sum(1)):
        return output * 0 - math.log(output.shape[1])
    return output * 0 + 0.5 * (in_unit and unit)


def _is_one(sums: Tensor) -> bool:
    return bool(((sums - 1).abs() < CLOSE).all())
