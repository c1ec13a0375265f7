"""Whether the loss of a task reads targets."""

from contextlib import suppress

import torch
from torch import Tensor

from lrtune.diagnosis.observations.passes import as_in_training
from lrtune.diagnosis.observations.samples import target_of
from lrtune.task.batches import Batch, map_leaves
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import NOISE, derive_seed, seed_everything
from lrtune.task.states import evaluating
from lrtune.task.task import Task


def uses_targets(task: Task, batch: Batch) -> bool:
    """Whether the loss of a batch in eval mode changes when its targets change places.

    True of a classifier, also with mixup; False of a VAE or of contrasts, whose batches have labels
    that nobody reads, or none. True where the loss cannot be computed so.
    """
    target = target_of(batch)
    if target is None or not target.ndim or len(target) < 2:
        return False

    def turned(leaf: object) -> object:
        return leaf.roll(1, 0) if isinstance(leaf, Tensor) and leaf is target else leaf

    losses = []
    with as_in_training(), suppress(Exception):  # of the user's loss
        state = task.init_state(0, TRIAL_LR)
        with evaluating(state):
            for one in (batch, map_leaves(batch, turned)):
                seed_everything(derive_seed(0, NOISE))
                losses.append(task.loss(state, task.to_device(one)))
    return len(losses) < 2 or not torch.equal(losses[0], losses[1])
