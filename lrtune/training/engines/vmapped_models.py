"""Several runs as one model: weights and buffers are stacked, with one axis for the runs."""

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lrtune.errors import EngineError
from lrtune.task.batch import Batch
from lrtune.task.cloning import deepcopy_module
from lrtune.task.memory import SavedBytes
from lrtune.task.random_state import seed_everything
from lrtune.task.task import Task, TrainState

Tensors = dict[str, Tensor]

AGREEMENT = 1e-3
"""Gradients may differ from the loop's by this share of the largest: rounding stays far below."""


class BackwardResult(NamedTuple):
    """Losses, gradients and buffers after one forward and backward pass of all runs.

    Attributes:
        losses: Shape [runs].
        grads: Of each weight, stacked; None where the loss does not depend on it.
        buffers: After the pass, stacked; the runs' own have not changed yet.
    """

    losses: Tensor
    grads: list[Tensor | None]
    buffers: Tensors


class _ModelWithLoss(nn.Module):
    """Model and loss of one run as a single module that maps a batch to its loss."""

    def __init__(self, task: Task, state: TrainState) -> None:
        super().__init__()
        self.model = state.model
        if isinstance(state.loss, nn.Module):
            self.loss = state.loss
        self._task, self._state = task, state

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of the batch."""
        return self._task.loss(self._state, batch)


class VmappedModels:
    """The models of some runs of one seed, as one model with stacked weights.

    The weights and buffers of the models become views of the stacked tensors. So each run's own
    optimizer steps in place, each model can be validated as it is, and another engine can take
    over at any time.

    Args:
        task: What is trained.
        states: Of runs with the same seed, hence of the same structure.

    Raises:
        EngineError: `vmap` cannot train the models; the message says why.
    """

    def __init__(self, task: Task, states: Sequence[TrainState]) -> None:
        """Stack the tensors."""
        wholes = [_ModelWithLoss(task, state) for state in states]
        self._whole, self._task, self._states = wholes[0], task, list(states)
        _refuse_hooks(self._whole)
        parameters = _gathered([dict(whole.named_parameters()) for whole in wholes])
        self._buffers = _gathered([dict(whole.named_buffers()) for whole in wholes])
        trained = {name for name, one in wholes[0].named_parameters() if one.requires_grad}
        self._places = _places(self._whole)
        self._weights = {name: one for name, one in parameters.items() if name in trained}
        self._frozen = {name: one for name, one in parameters.items() if name not in trained}
        # The same objects that the optimizers hold, in the order of the stacked weights.
        self._own = [
            [one for name, one in whole.named_parameters() if name in trained] for whole in wholes
        ]
        for weight in self._weights.values():
            weight.requires_grad_()

    def step(self, batch: Batch, noise: int) -> BackwardResult:
        """Return losses and gradients of every run on the batch; no run changes yet."""
        seed_everything(noise)
        before = {name: buffer.clone() for name, buffer in self._buffers.items()}
        of_one = torch.func.vmap(lambda w, f, b: self._loss(w, f, b, batch), randomness="same")
        losses, buffers = of_one(self._weights, self._frozen, before)
        weights = list(self._weights.values())
        grads = torch.autograd.grad(losses.sum(), weights, allow_unused=True)
        return BackwardResult(losses.detach(), list(grads), buffers)

    def apply(self, step: BackwardResult) -> None:
        """Give every run its gradients and buffers."""
        per_weight = [None if grad is None else grad.unbind() for grad in step.grads]
        for place, own in enumerate(self._own):
            for parameter, grads in zip(own, per_weight, strict=True):
                parameter.grad = None if grads is None else grads[place]
        for name, buffer in step.buffers.items():
            self._buffers[name].copy_(buffer.detach())

    def check(self, batch: Batch, noise: int, references: Mapping[int, "Reference"]) -> None:
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
        if _attributes(self._whole) != before:
            raise EngineError("its forward changes attributes that are neither weights nor buffers")
        for place, one in references.items():
            ours = [None if grad is None else grad[place] for grad in step.grads]
            if not _agree([step.losses[place], *ours], [one.loss, *one.grads]):
                raise EngineError(
                    f"the loss of a run is {float(step.losses[place]):.8g} under vmap and "
                    f"{float(one.loss):.8g} in the loop, or its gradients differ"
                )

    def _loss(
        self, weights: Tensors, frozen: Tensors, buffers: Tensors, batch: Batch
    ) -> tuple[Tensor, Tensors]:
        """Return the loss of one run, and its buffers after the pass."""
        tensors = {**weights, **frozen, **buffers}
        placed = {place: tensors[name] for place, name in self._places.items()}
        loss = functional_call(self._whole, placed, (batch,), tie_weights=False)
        return loss.reshape(()), {name: placed[name] for name in buffers}


def _gathered(runs: Sequence[Tensors]) -> Tensors:
    """Stack each tensor of the runs, and turn the runs' own tensors into views of it."""
    stacked = {}
    for name, first in runs[0].items():
        own = [run.get(name, first) for run in runs]
        if len(own) != len(runs) or any(one.shape != first.shape for one in own):
            raise EngineError(f"{name} does not have the same shape in every run")
        stacked[name] = torch.stack([one.detach() for one in own])
        for one, view in zip(own, stacked[name].detach().unbind(), strict=True):
            one.data = view
    return stacked


def _places(whole: nn.Module) -> dict[str, str]:
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
    """Return plain values as they are, and others as their identity and length."""
    plain = isinstance(value, (str, int, float, bool, tuple, type(None)))
    return value if plain else (id(value), len(value) if hasattr(value, "__len__") else None)


class Reference(NamedTuple):
    """Loss and gradients of one run, computed as the loop does.

    Attributes:
        loss: A scalar.
        grads: Of each weight; None where the loss does not depend on it.
        nbytes: What its forward pass saves for the backward pass.
    """

    loss: Tensor
    grads: list[Tensor | None]
    nbytes: int


def loop_reference(task: Task, state: TrainState, batch: Batch, noise: int) -> Reference:
    """Compute loss and gradients on a copy of one run."""
    model, loss_of = deepcopy_module((state.model, state.loss))
    whole = _ModelWithLoss(task, TrainState(model, loss_of, state.optimizer))
    seed_everything(noise)
    with SavedBytes() as saved:
        loss = whole(batch)
    weights = [one for one in whole.parameters() if one.requires_grad]
    grads = torch.autograd.grad(loss, weights, allow_unused=True)
    return Reference(loss.detach(), list(grads), saved.bytes)


def _agree(ours: Sequence[Tensor | None], theirs: Sequence[Tensor | None]) -> bool:
    """Return whether loss and gradients agree up to rounding; both may be non-finite."""
    if any((one is None) != (other is None) for one, other in zip(ours, theirs, strict=True)):
        return False
    pairs = [
        (one.detach().double().nan_to_num(), other.detach().double().nan_to_num())
        for one, other in zip(ours, theirs, strict=True)
        if one is not None and other is not None
    ]
    dtypes = {one.dtype for one in theirs if one is not None}
    tolerance = max(AGREEMENT, *(50 * torch.finfo(dtype).eps for dtype in dtypes))
    scale = max(float(other.abs().max()) for _, other in pairs if other.numel())
    return all(
        float((one.reshape(-1) - other.reshape(-1)).abs().max()) <= tolerance * scale + 1e-12
        for one, other in pairs
        if other.numel()
    )
