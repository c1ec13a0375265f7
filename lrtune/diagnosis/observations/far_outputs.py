"""The loss of a batch with outputs that are far too large, which tells whether it has a minimum."""

import math
from typing import Any

import torch
from torch import Tensor

from lrtune.diagnosis.observations.passes import as_in_training
from lrtune.task.batches import Batch, map_leaves
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import NOISE, derive_seed, seed_everything
from lrtune.task.task import Task

FAR = (1e2, -1e2)
"""By convention: what the outputs are multiplied by."""


def losses_far_out(task: Task, batch: Batch) -> dict[float, float]:
    """Factors to the loss of a batch in train mode, with the outputs of the model multiplied by it.

    All parts of an output are multiplied that are floating-point numbers. Empty where the loss
    cannot be computed so, and where the model is not called as a module.
    """
    found = dict[float, float]()
    with as_in_training(), torch.no_grad():
        state, placed = task.init_state(0, TRIAL_LR), task.to_device(batch)
        for factor in (1.0, *FAR):
            scaling = _Scaling(factor)
            hook = state.model.register_forward_hook(scaling)
            seed_everything(derive_seed(0, NOISE))
            try:
                found[factor] = task.loss(state, placed).item()
            except Exception:  # noqa: BLE001 - of the user's loss, on numbers it never had to take
                return {}
            finally:
                hook.remove()
            if not scaling.called or math.isnan(found[factor]):
                return {}
    return found


class _Scaling:
    """A forward hook that multiplies what a model returns."""

    def __init__(self, factor: float) -> None:
        self._factor, self.called = factor, False

    def __call__(self, _model: object, _given: object, outputs: Any) -> Any:
        self.called = True
        return map_leaves(outputs, self._times)

    def _times(self, leaf: Any) -> Any:
        scales = isinstance(leaf, Tensor) and leaf.is_floating_point()
        return leaf * self._factor if scales else leaf
