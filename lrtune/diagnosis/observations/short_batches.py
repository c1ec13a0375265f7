"""Short batches, and the layers that take their statistics from them."""

import torch
from torch import nn

from lrtune.diagnosis.observations.samples import Samples
from lrtune.task.batches import count_examples
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import preserve_random_state
from lrtune.task.task import Task


def least_rows(task: Task, samples: Samples) -> int:
    """The samples of the smallest batch of an epoch, as far as that is known."""
    with preserve_random_state(), torch.inference_mode(mode=False):
        smallest = task.train_data.smallest_batch()
    counts = [count_examples(one.batch) for one in samples.found]
    known = [] if smallest is None else [count_examples(smallest)]
    return min([task.batch_examples, *counts, *known])


def batch_norms(task: Task) -> list[str]:
    """The names of the BatchNorm layers that take mean and variance from their batch."""
    with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
        model = task.init_state(0, TRIAL_LR).model
    return [
        name
        for name, part in model.named_modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001 - the base of them all
        and (part.training or part.running_mean is None)
    ]
