"""The models of some runs as one model with stacked weights, for the engine `vmapped`."""

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lrtune.errors import EngineError, TaskError
from lrtune.task.batches import Batch
from lrtune.task.cloning import check_ties, deepcopy_module
from lrtune.task.memory import saved_bytes
from lrtune.task.random_state import seed_everything
from lrtune.task.states import TrainState
from lrtune.task.task import Task

Tensors = dict[str, Tensor]
LossAndGrads = tuple[Tensor, list[Tensor | None]]
"""Of one run; the gradient is None where the loss does not depend on the weight."""

AGREEMENT = 1e-3
"""Gradients may differ from the loop's by this share of the largest: rounding stays far below."""


class BackwardResult(NamedTuple):
    """What one pass of all runs gives, before any run has changed; the first axis is the runs."""

    losses: Tensor
    grads: list[Tensor | None]
    buffers: Tensors


class VmappedModels:
    """The models of some runs of one seed, as one model with stacked weights.

    The weights and buffers of the models become views of the stacked tensors. So each run's own
    optimizer steps in place, each model can be validated as it is, and another engine can take
    over at any time. Raises `EngineError` where `vmap` cannot train the models.
    """

    def __init__(self, task: Task, states: Sequence[TrainState]) -> None:
        wholes = [_ModelWithLoss(task, state) for state in states]
        self._whole, self._states = wholes[0], states
        _refuse_hooks(self._whole)
        try:
            check_ties(self._whole)
        except TaskError as error:
            raise EngineError(str(error).partition(";")[0]) from error
        self._names = _names_by_place(self._whole)
        parameters: list[Tensors] = [dict(whole.named_parameters()) for whole in wholes]
        trained = [name for name, one in parameters[0].items() if one.requires_grad]
        # The objects that the optimizers hold: they get the gradients of the stacked weights.
        self._own = [[of_run[name] for name in trained] for of_run in parameters]
        self._parameters = _stack(parameters)
        self._weights = [self._parameters[name].requires_grad_() for name in trained]
        self._buffers = _stack([dict(whole.named_buffers()) for whole in wholes])

    def step(self, batch: Batch, noise: int) -> BackwardResult:
        """Return losses and gradients of every run on the batch; no run changes yet."""
        seed_everything(noise)
        # BatchNorm writes its running statistics in place, so a pass works on copies of them.
        buffers = {name: buffer.clone() for name, buffer in self._buffers.items()}
        # "same": Dropout draws one mask for all runs, the one that each draws in the loop.
        of_one = torch.func.vmap(lambda tensors: self._loss(tensors, batch), randomness="same")
        losses, buffers = of_one(self._parameters | buffers)
        # The runs share no weight, so the gradient of the sum is that of each run's own loss.
        grads = torch.autograd.grad(losses.sum(), self._weights, allow_unused=True)
        return BackwardResult(losses.detach(), list(grads), buffers)

    def apply(self, step: BackwardResult) -> None:
        """Give every run its gradients and buffers."""
        per_weight = [None if grad is None else grad.unbind() for grad in step.grads]
        for place, own in enumerate(self._own):
            for parameter, grads in zip(own, per_weight, strict=True):
                parameter.grad = None if grads is None else grads[place]
        for name, buffer in step.buffers.items():
            self._buffers[name].copy_(buffer.detach())

    def check(self, batch: Batch, noise: int, references: Mapping[int, LossAndGrads]) -> None:
        """Compare losses and gradients with those that the loop gives for some of the runs.

        Raises:
            EngineError: They differ, a layer stores values other than weights and buffers, or an
                operation has no batching rule, so that `vmap` would do it run by run.
        """
        before = _attributes(self._whole)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step = self.step(batch, noise)
        for word in caught:
            if "batching rule" in str(word.message):
                raise EngineError(str(word.message).split(".")[0])
        # Such as a counter: under vmap one module runs for all, so it would count once for all.
        if _attributes(self._whole) != before:
            raise EngineError("its forward changes attributes that are neither weights nor buffers")
        for place, (expected, gradients) in references.items():
            loss = step.losses[place]
            ours = [None if grad is None else grad[place] for grad in step.grads]
            if not _agree([loss, *ours], [expected, *gradients]):
                raise EngineError(
                    f"the loss of a run is {float(loss):.8g} under vmap and "
                    f"{float(expected):.8g} in the loop, or its gradients differ"
                )

    def _loss(self, tensors: Tensors, batch: Batch) -> tuple[Tensor, Tensors]:
        """Return the loss of one run, and its buffers after the pass."""
        placed = {place: tensors[name] for place, name in self._names.items()}
        loss = functional_call(self._whole, placed, (batch,), tie_weights=False)
        return loss.reshape(()), {name: placed[name] for name in self._buffers}


class _ModelWithLoss(nn.Module):
    """Model and loss of one run as a single module that maps a batch to its loss."""

    def __init__(self, task: Task, state: TrainState) -> None:
        super().__init__()
        self.model = state.model
        if isinstance(state.loss, nn.Module):
            self.loss = state.loss
        self._task, self._state = task, state

    def forward(self, batch: Batch) -> Tensor:
        return self._task.loss(self._state, batch)


def loop_pass(task: Task, state: TrainState, batch: Batch, noise: int) -> tuple[LossAndGrads, int]:
    """Return loss and gradients of a copy of one run, and the bytes that its forward pass saves."""
    model, loss_of = deepcopy_module((state.model, state.loss))
    whole = _ModelWithLoss(task, TrainState(model, loss_of, state.optimizer))
    seed_everything(noise)
    loss, saved = saved_bytes(lambda: whole(batch))
    weights = [one for one in whole.parameters() if one.requires_grad]
    grads = torch.autograd.grad(loss, weights, allow_unused=True)
    return (loss.detach(), list(grads)), saved


def _stack(runs: Sequence[Tensors]) -> Tensors:
    """Stack each tensor of the runs, and turn the runs' own tensors into views of it."""
    stacked = {}
    for name, first in runs[0].items():
        own = [run[name] for run in runs]
        if any(one.shape != first.shape for one in own):
            raise EngineError(f"{name} does not have the same shape in every run")
        stacked[name] = torch.stack([one.detach() for one in own])
        for one, view in zip(own, stacked[name].detach().unbind(), strict=True):
            one.data = view  # keeps the parameter itself, which the optimizer holds
    return stacked


def _names_by_place(whole: nn.Module) -> dict[str, str]:
    """Return each place of a tensor in the modules, and the tensor's name; ties share a name.

    A module with two names counts once: `functional_call` would swap its tensors twice, and then
    restore the swapped ones instead of the originals.
    """
    tensors = (*whole.named_parameters(), *whole.named_buffers())
    names = {id(tensor): name for name, tensor in tensors}
    return {
        ".".join(filter(None, (name, key))): names[id(tensor)]
        for name, part in whole.named_modules()
        for key, tensor in (*part._parameters.items(), *part._buffers.items())  # noqa: SLF001
        if tensor is not None
    }


def _refuse_hooks(whole: nn.Module) -> None:
    """Refuse models with backward hooks, which a pass of stacked weights would not call."""
    for name, part in whole.named_modules():
        if part._backward_hooks or part._backward_pre_hooks:  # noqa: SLF001
            raise EngineError(f"{name.removeprefix('model.')} has a backward hook")
    for name, parameter in whole.named_parameters():
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:  # noqa: SLF001
            raise EngineError(f"{name.removeprefix('model.')} has a gradient hook")


def _attributes(whole: nn.Module) -> list[dict[str, object]]:
    """Return the public attributes of each module; weights, buffers and children are private."""
    return [
        {key: _comparable(value) for key, value in vars(part).items() if not key.startswith("_")}
        for part in whole.modules()
    ]


def _comparable(value: object) -> object:
    if isinstance(value, (str, int, float, bool, tuple, type(None))):
        return value
    return id(value), len(value) if hasattr(value, "__len__") else None


def _agree(ours: Sequence[Tensor | None], theirs: Sequence[Tensor | None]) -> bool:
    """Return whether loss and gradients agree up to rounding; both may be non-finite."""
    if [one is None for one in ours] != [one is None for one in theirs]:
        return False
    one, other = (
        torch.cat([each.detach().double().reshape(-1) for each in some if each is not None])
        for some in (ours, theirs)
    )
    precisions = (torch.finfo(each.dtype).eps for each in theirs if each is not None)
    tolerance = max(AGREEMENT, *(50 * eps for eps in precisions))
    one, other = one.nan_to_num(), other.nan_to_num()
    return float((one - other).abs().max()) <= tolerance * float(other.abs().max()) + 1e-12
