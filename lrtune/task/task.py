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
from lrtune.task.batch import Batch, cloned, described, length, moved
from lrtune.task.checks import evaluating, trying
from lrtune.task.cloning import MakeModel, model_copy, owning, twin
from lrtune.task.data import Drawn, Tensors, as_data, draw, stream
from lrtune.task.ownership import own_loss, watched
from lrtune.task.random_state import NOISE, WEIGHTS, derive, preserved, seed_all

Loss = Callable[..., Tensor]
MakeOptimizer = Callable[[nn.Module, float], Optimizer]
Objective = Callable[[Any, Batch], Tensor]


@dataclass
class State:
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
        self.device = checks.device(device)
        self._has_objective = objective is not None
        self._loss: Loss = nn.CrossEntropyLoss() if loss is None else loss
        checks.loss(self._loss)
        if objective is not None:
            checks.objective(objective)
            self._loss = objective
        self._make_optimizer = _optimizer_maker(optimizer)
        self._train = as_data(train, batch_size, what="train")
        size = batch_size if isinstance(val, (tuple, Dataset)) else None
        self._val = None if val is None else as_data(val, size, what="val", whole=True)
        self._works_in_place = False
        with preserved(), torch.inference_mode(mode=False), torch.enable_grad():
            self._make_model = _model_maker(model)
            self._first = next(self.batches(seed=0))
            with watched(model):
                self._try(model)

    @property
    def loads(self) -> bool:
        """Whether batches come from a loader, which may take its time; tensors are at hand."""
        return not isinstance(self._train, Tensors)

    @property
    def has_validation(self) -> bool:
        """Whether there are validation data."""
        return self._val is not None

    def on(self, device: str | torch.device) -> "Task":
        """The same task on another device; `auto` as in `Task`."""
        twin = copy.copy(self)
        twin.device = checks.device(device)
        twin._described = {**self._described, "device": str(twin.device)}  # noqa: SLF001
        return twin

    def batches(self, seed: int) -> Iterator[Batch]:
        """The endless stream of training batches of one seed, as the data give them.

        Draw from it inside `randomness.preserved()`: it seeds the global generators.
        """
        return stream(self._train, seed)

    def drawn(self, seed: int) -> Iterator[Drawn]:
        """The same batches on the task's device, each with its digest."""
        return draw(self._train, seed, self.device)

    def begin(self, seed: int, lr: float) -> State:
        """A fresh model with the seed's weights, its loss, and its optimizer with peak rate `lr`.

        Call it inside `randomness.preserved()`.
        """
        seed_all(derive(seed, WEIGHTS))
        model = self._make_model().to(self.device)
        if any(map(is_lazy, [*model.parameters(), *model.buffers()])):
            with torch.no_grad(), evaluating(model):  # in eval mode no statistics move
                self._forward(model, self._own_loss(), self.place(cloned(self._first)))
        if not model.training:
            model.train()
        return State(model, self._own_loss(), self._make_optimizer(model, lr))

    def copy_of(self, state: State, lr: float) -> State:
        """The same weights, buffers and optimizer state, with peak rate `lr`, as a twin."""
        model, loss = twin((state.model, state.loss))
        optimizer = self._make_optimizer(model, lr)
        rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(copy.deepcopy(state.optimizer.state_dict()))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        return State(model, loss, optimizer)

    def place(self, batch: Batch) -> Batch:
        """The batch on the task's device, once for all runs."""
        return moved(batch, self.device)

    def loss(self, state: State, batch: Batch) -> Tensor:
        """The loss of a placed batch, which stays as it is even where the model works in place."""
        if self._works_in_place:
            batch = cloned(batch)
        return self._forward(state.model, state.loss, batch)

    def validate(self, states: Mapping[str, State]) -> dict[str, float]:
        """Mean loss over the validation data, in eval mode, each batch weighted by its size.

        The data are gone through once for all states; an error tells the name of the one it ended.
        """
        if self._val is None:
            raise TaskError("this task has no validation data. Pass val=... to Task.")
        totals, count = {name: torch.zeros((), dtype=torch.float64) for name in states}, 0
        with torch.no_grad(), evaluating(*(state.model for state in states.values())):
            for batch in self._val.epoch(0, 0):
                placed = self.place(batch)
                for name, state in states.items():
                    seed_all(derive(0, NOISE, count))
                    try:
                        loss = self.loss(state, placed)
                    except Exception as error:
                        error.add_note(f"while validating {name}")
                        raise
                    totals[name] += loss.double().cpu() * length(batch)
                count += length(batch)
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
        return twin(self._loss).to(self.device)

    def _try(self, brought: object) -> None:
        """Make one update on a copy of what was brought, and see whether it works in place."""
        if not self._has_objective:
            checks.batch(self._first)
        batch = moved(cloned(self._first), self.device)
        with trying("making the model and its optimizer", self._first):
            model = self.begin(seed=0, lr=checks.TRIAL_RATE).model
        with trying("making the optimizer", self._first):
            optimizer = checks.optimizer(self._make_optimizer, model)
        state = State(model, self._own_loss(), optimizer)
        before = checks.versions(batch)
        seed_all(derive(0, NOISE))
        if not self._has_objective:
            with trying("the model", self._first):
                outputs = model(*batch[:-1])
            checks.all_labels(outputs, self._loss, self._train, batch)
            with trying("the loss", self._first):
                loss = state.loss(outputs, batch[-1])
        else:
            with trying("the objective", self._first):
                loss = state.loss(model, batch)
        own_loss(checks.value(loss), brought)
        with trying("the update", self._first):
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        self._works_in_place = checks.versions(batch) != before
        if self._val is not None:
            with trying("validation", next(self._val.epoch(0, 0), None)):
                self.validate({"the model": state})
        parameters = sum(parameter.numel() for parameter in model.parameters())
        self.nbytes = sum(one.nbytes for one in [*model.parameters(), *model.buffers()])
        self._described = {
            "model": f"{type(model).__name__} with {parameters:,} parameters",
            "optimizer": type(optimizer).__name__,
            "loss": "an objective of its own" if self._has_objective else _name(self._loss),
            "batch": described(self._first),
            "device": str(self.device),
        }


def _model_maker(model: object) -> MakeModel:
    if isinstance(model, nn.Module):
        pristine = model_copy(model)
        checks.trainable(pristine)
        return lambda: twin(pristine)
    if not callable(model):
        raise TaskError(
            f"model is a {type(model).__name__}; expected an nn.Module, or a function without "
            "arguments that makes one."
        )
    return owning(model, *checks.fresh_models(model))


def _optimizer_maker(given: Callable[..., Optimizer] | None) -> MakeOptimizer:
    make = functools.partial(SGD, momentum=0.9) if given is None else given
    checks.optimizer_factory(make)
    kind = make.func if isinstance(make, functools.partial) else make
    if not isinstance(kind, type):
        return make
    return lambda model, lr: make([p for p in model.parameters() if p.requires_grad], lr=lr)


def _name(loss: Loss) -> str:
    return getattr(loss, "__name__", type(loss).__name__)
