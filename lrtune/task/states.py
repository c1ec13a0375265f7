"""`TrainState`: everything that training changes in one run, and how a task makes its states."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lrtune.task.batches import Batch, clone_batch, to_device
from lrtune.task.cloning import MakeModel, deepcopy_module
from lrtune.task.measuring import call_own_train, eval_mode
from lrtune.task.optimizers import MakeOptimizer, eval_weights
from lrtune.task.random_state import WEIGHTS, derive_seed, preserve_random_state, seed_everything

Loss = Callable[..., Tensor]


@dataclass
class TrainState:
    """Everything that training changes in one run: model, optimizer, and the loss module."""

    model: nn.Module
    loss: Loss
    optimizer: Optimizer


@contextmanager
def evaluating(*states: TrainState) -> Iterator[None]:
    """Put states into eval mode, with the weights to validate with; on exit they can train on."""
    with (
        torch.no_grad(),
        eval_mode(*(state.model for state in states)),
        eval_weights(*(state.optimizer for state in states)),
    ):
        yield


@dataclass(frozen=True)
class StateMaker:
    """Makes the states of a task's runs, and computes their losses.

    Attributes:
        make_model: Makes a model with the random numbers that were seeded last.
        make_optimizer: Makes an optimizer for a model and a rate.
        given_loss: The user's loss, or the objective.
        has_objective: Whether it takes a model and a batch.
        first: The first training batch.
        device: Where the states are.
        works_in_place: Whether model or loss change their batch, or nobody knows yet.
    """

    make_model: MakeModel
    make_optimizer: MakeOptimizer
    given_loss: Loss
    has_objective: bool
    first: Batch
    device: torch.device
    works_in_place: bool = True

    def new_model(self) -> nn.Module:
        """Return a new model as the user made it, with the weights of seed 0."""
        with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
            seed_everything(derive_seed(0, WEIGHTS))
            return self.make_model()

    def init(self, seed: int, lr: float) -> TrainState:
        """Return a new model, its loss and optimizer; call it inside `preserve_random_state()`."""
        seed_everything(derive_seed(seed, WEIGHTS))
        model = self.make_model().to(self.device)
        if any(map(is_lazy, [*model.parameters(), *model.buffers()])):
            # A forward pass gives lazy parameters their shapes; eval mode keeps the statistics.
            batch = to_device(clone_batch(self.first), self.device)
            with torch.no_grad(), eval_mode(model):
                self._forward(model, self.own_loss(), batch)
        if not model.training:  # else all parts keep their modes, such as a frozen BatchNorm
            model.train()
        else:
            call_own_train(model, {id(part) for part in model.modules() if part.training})
        return TrainState(model, self.own_loss(), self.make_optimizer(model, lr))

    def copy(self, state: TrainState, lr: float) -> TrainState:
        """Return a copy of a state: with its optimizer's state, but rate and momentum as new."""
        model, loss = deepcopy_module((state.model, state.loss))
        optimizer = self.make_optimizer(model, lr)
        keys = {"lr", "momentum", "betas"}
        # load_state_dict also overwrites these, and takes over the tensors that it is given.
        own = [{key: group[key] for key in keys & group.keys()} for group in optimizer.param_groups]
        optimizer.load_state_dict(copy.deepcopy(state.optimizer.state_dict()))
        for group, values in zip(optimizer.param_groups, own, strict=True):
            group.update(values)
        return TrainState(model, loss, optimizer)

    def own_loss(self) -> Loss:
        """Return a copy of the loss for one run, because a loss module may have buffers."""
        if not isinstance(self.given_loss, nn.Module):
            return self.given_loss
        return deepcopy_module(self.given_loss).to(self.device)

    def loss(self, state: TrainState, batch: Batch) -> Tensor:
        """Return the loss of a batch on the device; the batch is never changed."""
        if self.works_in_place:
            batch = clone_batch(batch)
        return self._forward(state.model, state.loss, batch)

    def _forward(self, model: nn.Module, loss: Loss, batch: Batch) -> Tensor:
        if self.has_objective:
            return loss(model, batch)
        return loss(model(*batch[:-1]), batch[-1])
