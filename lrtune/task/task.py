"""Task: what the user brings. It is copied, checked before anything trains, and never touched."""

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import SGD, Optimizer
from torch.utils.data import Dataset

from lrtune.errors import TaskError
from lrtune.task import checks
from lrtune.task.batch import Batch, clone_batch, count_examples, describe_batch, to_device
from lrtune.task.checks import eval_mode, explain_errors
from lrtune.task.cloning import MakeModel, copy_model, deepcopy_module, unshare
from lrtune.task.data import (
    DigestedBatch,
    TensorData,
    as_data,
    endless_batches,
    endless_device_batches,
)
from lrtune.task.ownership import check_loss_uses_copy, guard_model
from lrtune.task.random_state import (
    NOISE,
    WEIGHTS,
    derive_seed,
    preserve_random_state,
    seed_everything,
)

Loss = Callable[..., Tensor]
MakeOptimizer = Callable[[nn.Module, float], Optimizer]
Objective = Callable[[Any, Batch], Tensor]


@dataclass
class TrainState:
    """What training changes: one run's model, its loss (which may have buffers), its optimizer."""

    model: nn.Module
    loss: Loss
    optimizer: Optimizer


class Task:
    """A model, its data, a loss and an optimizer: everything that an experiment needs.

    Nothing that is passed in is changed, now or later: the model is copied here, so training it
    afterwards does not change the task either. Everything is tried on the first batch, once, so
    that what cannot be trained is said here.

    Args:
        model: An `nn.Module`, of which every run gets a copy with the same weights, or a function
            without arguments that makes one, so that every seed gets weights of its own. A model
            that comes in eval mode is trained in train mode; one in train mode keeps the modes of
            its parts, so frozen BatchNorm layers stay frozen. Hooks come along; those that hold
            the model itself, as closures do, need the function.
        train: A DataLoader, a Dataset, a tuple of tensors (inputs, targets), or any re-iterable
            of batches. It is gone through again and again, as often as the steps need.
        loss: `loss(model(*inputs), target)` for batches `(*inputs, target)`: `nn.MSELoss()` or
            any function that gives one number per batch; cross-entropy when None.
        optimizer: A class, a `functools.partial` of one, or a function `(model, lr)` that returns
            an optimizer, with parameter groups in any ratio to lr. SGD with momentum 0.9 when
            None.
        val: Validation data, of the same kinds; it is gone through whole at each evaluation.
        device: `auto` (CUDA, else MPS, else CPU), or a torch device.
        objective: Instead of `loss`, for batches of any other form: a function
            `(model, batch)` that returns the loss, as `lambda model, batch: model(**batch).loss`.
        batch_size: For a Dataset or tensors; 64 when None.

    Raises:
        TaskError: Something here cannot be trained; the message says what, and what to do.

    >>> data = torch.randn(99, 3), torch.randn(99, 1)
    >>> Task(nn.Linear(3, 1), data, loss=nn.MSELoss(), device="cpu")
    Task(Linear with 4 parameters, SGD, MSELoss, (float32[64, 3], float32[64, 1]), cpu)
    """

    def __init__(
        self,
        model: nn.Module | MakeModel,
        train: object,
        *,
        loss: Loss | None = None,
        optimizer: Callable[..., Optimizer] | None = None,
        val: object = None,
        device: str | torch.device = "auto",
        objective: Objective | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Copy what the user brings, and try it on the first batch."""
        if loss is not None and objective is not None:
            raise TaskError("got loss and objective; an objective contains the loss. Pass one.")
        self.device = checks.resolve_device(device)
        self._has_objective = objective is not None
        self._loss: Loss = nn.CrossEntropyLoss() if loss is None else loss
        checks.check_loss(self._loss)
        if objective is not None:
            checks.check_objective(objective)
            self._loss = objective
        self._make_optimizer = _optimizer_maker(optimizer)
        self._train = as_data(train, batch_size, what="train")
        size = batch_size if isinstance(val, (tuple, Dataset)) else None
        self._val = None if val is None else as_data(val, size, what="val", whole=True)
        self._works_in_place = False
        with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
            self._make_model = _model_maker(model)
            self._first = next(self.batches(seed=0))
            with guard_model(model):
                self._try(model)

    @property
    def uses_loader(self) -> bool:
        """Whether batches come from a loader, which may take its time; tensors are at hand."""
        return not isinstance(self._train, TensorData)

    @property
    def has_validation(self) -> bool:
        """Whether there are validation data."""
        return self._val is not None

    def on(self, device: str | torch.device) -> "Task":
        """The same task on another device; `auto` as in `Task`."""
        twin = copy.copy(self)
        twin.device = checks.resolve_device(device)
        twin._described = {**self._described, "device": str(twin.device)}  # noqa: SLF001
        return twin

    def batches(self, seed: int) -> Iterator[Batch]:
        """The endless stream of training batches of one seed, as the data give them.

        Draw from it inside `randomness.preserved()`: it seeds the global generators.
        """
        return endless_batches(self._train, seed)

    def device_batches(self, seed: int) -> Iterator[DigestedBatch]:
        """The same batches on the task's device, each with its digest."""
        return endless_device_batches(self._train, seed, self.device)

    def init_state(self, seed: int, lr: float) -> TrainState:
        """A fresh model with the seed's weights, its loss, and its optimizer with peak rate `lr`.

        Call it inside `randomness.preserved()`.
        """
        seed_everything(derive_seed(seed, WEIGHTS))
        model = self._make_model().to(self.device)
        if any(map(is_lazy, [*model.parameters(), *model.buffers()])):
            with torch.no_grad(), eval_mode(model):  # in eval mode no statistics move
                self._forward(model, self._own_loss(), self.to_device(clone_batch(self._first)))
        if not model.training:
            model.train()
        return TrainState(model, self._own_loss(), self._make_optimizer(model, lr))

    def copy_state(self, state: TrainState, lr: float) -> TrainState:
        """The same weights, buffers and optimizer state, with peak rate `lr`, as a twin."""
        model, loss = deepcopy_module((state.model, state.loss))
        optimizer = self._make_optimizer(model, lr)
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(copy.deepcopy(state.optimizer.state_dict()))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        return TrainState(model, loss, optimizer)

    def to_device(self, batch: Batch) -> Batch:
        """The batch on the task's device, once for all runs."""
        return to_device(batch, self.device)

    def loss(self, state: TrainState, batch: Batch) -> Tensor:
        """The loss of a placed batch, which stays as it is even where the model works in place."""
        if self._works_in_place:
            batch = clone_batch(batch)
        return self._forward(state.model, state.loss, batch)

    def validate(self, states: Mapping[str, TrainState]) -> dict[str, float]:
        """Mean loss over the validation data, in eval mode, each batch weighted by its size.

        The data are gone through once for all states; an error tells the name of the one it ended.
        """
        if self._val is None:
            raise TaskError("this task has no validation data. Pass val=... to Task.")
        totals, count = {name: torch.zeros((), dtype=torch.float64) for name in states}, 0
        with torch.no_grad(), eval_mode(*(state.model for state in states.values())):
            for batch in self._val.epoch(0, 0):
                placed = self.to_device(batch)
                for name, state in states.items():
                    seed_everything(derive_seed(0, NOISE, count))
                    try:
                        loss = self.loss(state, placed)
                    except Exception as error:
                        error.add_note(f"while validating {name}")
                        raise
                    totals[name] += loss.double().cpu() * count_examples(batch)
                count += count_examples(batch)
        if not count:
            raise TaskError("the validation data gave no batch. Pass data, or leave val out.")
        return {name: float(total / count) for name, total in totals.items()}

    def describe(self) -> dict[str, str]:
        """What the task consists of, in words, for reports and manifests."""
        return dict(self._described)

    def __repr__(self) -> str:
        """Everything in one line."""
        return f"Task({', '.join(self._described.values())})"

    def _forward(self, model: nn.Module, loss: Loss, batch: Batch) -> Tensor:
        if self._has_objective:
            return loss(model, batch)
        return loss(model(*batch[:-1]), batch[-1])

    def _own_loss(self) -> Loss:
        if not isinstance(self._loss, nn.Module):
            return self._loss
        return deepcopy_module(self._loss).to(self.device)

    def _try(self, brought: object) -> None:
        """Make one update on a copy of what was brought, and see whether it works in place."""
        if not self._has_objective:
            checks.check_batch(self._first)
        batch = to_device(clone_batch(self._first), self.device)
        with explain_errors("making the model and its optimizer", self._first):
            model = self.init_state(seed=0, lr=checks.TRIAL_LR).model
        with explain_errors("making the optimizer", self._first):
            optimizer = checks.check_optimizer(self._make_optimizer, model)
        state = TrainState(model, self._own_loss(), optimizer)
        before = checks.tensor_versions(batch)
        seed_everything(derive_seed(0, NOISE))
        if not self._has_objective:
            with explain_errors("the model", self._first):
                outputs = model(*batch[:-1])
            checks.check_all_labels(outputs, self._loss, self._train, batch)
            with explain_errors("the loss", self._first):
                loss = state.loss(outputs, batch[-1])
        else:
            with explain_errors("the objective", self._first):
                loss = state.loss(model, batch)
        check_loss_uses_copy(checks.check_loss_value(loss), brought)
        with explain_errors("the update", self._first):
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        self._works_in_place = checks.tensor_versions(batch) != before
        if self._val is not None:
            with explain_errors("validation", next(self._val.epoch(0, 0), None)):
                self.validate({"the model": state})
        parameters = sum(parameter.numel() for parameter in model.parameters())
        self.nbytes = sum(one.nbytes for one in [*model.parameters(), *model.buffers()])
        self._described = {
            "model": f"{type(model).__name__} with {parameters:,} parameters",
            "optimizer": type(optimizer).__name__,
            "loss": "an objective of its own" if self._has_objective else _name(self._loss),
            "batch": describe_batch(self._first),
            "device": str(self.device),
        }


def _model_maker(model: object) -> MakeModel:
    if isinstance(model, nn.Module):
        pristine = copy_model(model)
        checks.check_trainable(pristine)
        return lambda: deepcopy_module(pristine)
    if not callable(model):
        raise TaskError(
            f"model is a {type(model).__name__}; expected an nn.Module, or a function without "
            "arguments that makes one."
        )
    return unshare(model, *checks.make_two_models(model))


def _optimizer_maker(given: Callable[..., Optimizer] | None) -> MakeOptimizer:
    make = functools.partial(SGD, momentum=0.9) if given is None else given
    checks.check_optimizer_factory(make)
    kind = make.func if isinstance(make, functools.partial) else make
    if not isinstance(kind, type):
        return make
    return lambda model, lr: make([p for p in model.parameters() if p.requires_grad], lr=lr)


def _name(loss: Loss) -> str:
    return getattr(loss, "__name__", type(loss).__name__)
