"""`TrainState`: everything that training changes in one run."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from lrtune.task.cloning import deepcopy_module
from lrtune.task.optimizers import MakeOptimizer

Loss = Callable[..., Tensor]


@dataclass
class TrainState:
    """Everything that training changes in one run: model, optimizer, and the loss module."""

    model: nn.Module
    loss: Loss
    optimizer: Optimizer


def copy_state(state: TrainState, make: MakeOptimizer, lr: float) -> TrainState:
    """Return a copy of a state: with its optimizer's state, but rate and momentum as new.

    Args:
        state: What is copied.
        make: Makes an optimizer of this kind for a model and a rate.
        lr: The peak rate of the copy.
    """
    model, loss = deepcopy_module((state.model, state.loss))
    optimizer = make(model, lr)
    keys = {"lr", "momentum", "betas"}
    # load_state_dict also overwrites these, and takes over the tensors that it is given.
    own = [{key: group[key] for key in keys & group.keys()} for group in optimizer.param_groups]
    optimizer.load_state_dict(copy.deepcopy(state.optimizer.state_dict()))
    for group, values in zip(optimizer.param_groups, own, strict=True):
        group.update(values)
    return TrainState(model, loss, optimizer)
