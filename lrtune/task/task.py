"""`Task`: the model, data, loss and optimizer of the user, copied and tried once."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lrtune.errors import ArgumentError, TaskError, whole_number
from lrtune.results.runs import Validation
from lrtune.results.schema import SELECTION
from lrtune.task import checks
from lrtune.task.cloning import MakeModel, deepcopy_module, model_maker
from lrtune.task.data import (
    Batch,
    DigestedBatch,
    TensorData,
    as_data,
    clone_batch,
    count_examples,
    describe_batch,
    to_device,
)
from lrtune.task.drift import TRIAL, Drift, measure_drift
from lrtune.task.guess import Guess, part_guess
from lrtune.task.optimizers import optimizer_maker
from lrtune.task.random_state import WEIGHTS, derive_seed, preserve_random_state, seed_everything
from lrtune.task.states import Loss, TrainState, copy_state
from lrtune.task.trial import try_update
from lrtune.task.validation import eval_mode, measure, no_batch, with_validation


class Task:
    """A model, its data, a loss and an optimizer: everything that an experiment needs.

    None of the user's objects is ever changed, and training the model elsewhere later does not
    change the task, because the model is copied here. One update on the first batch is tried at
    once, so that whatever cannot be trained is reported here.

    Args:
        model: An `nn.Module`, whose copies are trained from its weights, or a function without
            arguments that makes one, so that each seed has initial weights of its own. A model in
            eval mode is trained in train mode; in a model in train mode all parts keep their
            modes, so frozen BatchNorm layers stay frozen. Hooks are copied; a hook whose closure
            holds the model needs the function instead.
        train: A DataLoader, a Dataset, a tuple of tensors (inputs, targets), or any iterable of
            batches that can be iterated again. It is repeated for as many steps as needed.
        loss: `loss(model(*inputs), target)` for batches `(*inputs, target)`: a module such as
            `nn.MSELoss()` or a function that returns one number. Cross-entropy when None.
        optimizer: A class, a `functools.partial` of one, or a function `(model, lr)` that returns
            an optimizer, whose parameter groups may have any ratio to lr. SGD with momentum 0.9
            when None.
        val: Validation data in any of these forms, or a share of the training data, such as 0.1.
            They are split in halves, the same in every process: `selection` and `test`. A share is
            split off by rows, stratified by class, or as every k-th batch of a list.
        device: `auto` (CUDA, else MPS, else CPU), or a torch device.
        objective: Instead of `loss`, for batches of any other form: a function `(model, batch)`
            that returns the loss, such as `lambda model, batch: model(**batch).loss`.
        batch_size: Batch size for a Dataset or tensors; 64 when None.
        floor: A number below which the loss cannot fall, such as 0.0; most of torch's losses need
            none. Where it is known, scores are logs of the loss above it, else shares of the fall.

    Attributes:
        loss_kind: What the loss is, its floor, and what the scores are (`lrtune.task.losses`).
        adapts_rate: Whether the optimizer sets its own rate, as Prodigy and D-Adaptation do.

    Raises:
        TaskError: The task cannot be trained; the message says why, and what to do.

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
        objective: Callable[[Any, Batch], Tensor] | None = None,
        batch_size: int | None = None,
        floor: float | None = None,
    ) -> None:
        if loss is not None and objective is not None:
            raise TaskError("got loss and objective; an objective computes the loss. Pass one.")
        self.device = checks.resolve_device(device)
        self._has_objective = objective is not None
        if objective is None:
            self._loss: Loss = nn.CrossEntropyLoss() if loss is None else loss
            checks.check_loss(self._loss)
        else:
            self._loss = objective
            checks.check_objective(objective)
        self._make_optimizer = optimizer_maker(optimizer)
        data = as_data(train, batch_size, what="train")
        self._train, self._val = with_validation(data, val, batch_size)
        self._guesses: dict[str, Guess | None] = {}
        self._drift: tuple[int, Drift | None] = (0, None)
        # Who owns what: the task has a copy of the model, and each run a copy of that copy, its
        # own loss and optimizer. The data are shared, as nothing writes into them.
        with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
            self._make_model = model_maker(model)
            self._first = next(self.batches(seed=0))
            with checks.guard_model(model):
                self._try_one_update(model, floor)

    @property
    def uses_loader(self) -> bool:
        """Whether batches come from a loader, which may be slow, and not from tensors."""
        return not isinstance(self._train, TensorData)

    @property
    def batch_examples(self) -> int:
        """The number of examples of a training batch: of the first one, where they differ."""
        return count_examples(self._first)

    @property
    def epoch_steps(self) -> int | None:
        """The updates before any training example comes again; None where that is not known."""
        return self._train.epoch_steps

    @property
    def has_validation(self) -> bool:
        """Whether the task has validation data."""
        return self._val is not None

    @property
    def val_counts(self) -> dict[str, int]:
        """The validation samples of each part, `selection` and `test`.

        Empty without validation data. Those of an iterable are counted by reading it once.
        """
        return {} if self._val is None else self._val.counts

    def on(self, device: str | torch.device) -> "Task":
        """Return the same task on another device; `auto` as in `Task`."""
        moved = copy.copy(self)
        moved._drift = (0, None)  # noqa: SLF001
        moved.device = checks.resolve_device(device)
        moved._description = {**self._description, "device": str(moved.device)}  # noqa: SLF001
        return moved

    def batches(self, seed: int) -> Iterator[Batch]:
        """Yield training batches without end; call it inside `preserve_random_state()`."""
        return self._train.batches(seed)

    def device_batches(self, seed: int) -> Iterator[DigestedBatch]:
        """Yield the same batches on the task's device, each with its digest."""
        return self._train.device_batches(seed, self.device)

    @property
    def drift(self) -> Drift | None:
        """How the loss changes by itself, while nothing is trained; None where it does not."""
        return self.drift_within(TRIAL)

    def drift_within(self, steps: int) -> Drift | None:
        """The same, where it may begin as late as in so many steps; it is measured once."""
        tried, found = self._drift
        if found is None and steps > tried:
            with torch.inference_mode(mode=False):
                batch = self.to_device(clone_batch(self._first))
            found = measure_drift(
                lambda: self.init_state(0, checks.TRIAL_LR),
                lambda state: self.loss(state, batch),
                self.loss_kind.resolution,
                steps,
            )
            self._drift = steps, found
        return found

    def new_model(self) -> nn.Module:
        """Return a new model as the user made it, to load weights into; its own are of seed 0."""
        with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
            seed_everything(derive_seed(0, WEIGHTS))
            return self._make_model()

    def init_state(self, seed: int, lr: float) -> TrainState:
        """Return a new model, its loss and optimizer; call it inside `preserve_random_state()`."""
        seed_everything(derive_seed(seed, WEIGHTS))
        model = self._make_model().to(self.device)
        if any(map(is_lazy, [*model.parameters(), *model.buffers()])):
            # A forward pass gives lazy parameters their shapes; eval mode keeps the statistics.
            with torch.no_grad(), eval_mode(model):
                self._forward(model, self._own_loss(), self.to_device(clone_batch(self._first)))
        if not model.training:  # else all parts keep their modes, such as a frozen BatchNorm
            model.train()
        return TrainState(model, self._own_loss(), self._make_optimizer(model, lr))

    def copy_state(self, state: TrainState, lr: float) -> TrainState:
        """Return a copy of a state, with the same optimizer state but the peak rate `lr`."""
        return copy_state(state, self._make_optimizer, lr)

    def to_device(self, batch: Batch) -> Batch:
        """Return the batch on the task's device."""
        return to_device(batch, self.device)

    def loss(self, state: TrainState, batch: Batch) -> Tensor:
        """Return the loss of a batch on the task's device; the batch is never changed."""
        if self._works_in_place:  # found out by the first update
            batch = clone_batch(batch)
        return self._forward(state.model, state.loss, batch)

    def validate(
        self, states: Mapping[str, TrainState], samples: int | None = None
    ) -> dict[str, list[Validation]]:
        """Return the losses of each state on the parts of the validation data, in eval mode.

        Call it inside `preserve_random_state()`. An exception carries the name of its state.

        Args:
            states: Names to states; all of them see each batch in turn.
            samples: So many samples of the selection part, always the same; both parts when None.
                There is no test part where the data are a single batch that cannot be cut.

        Raises:
            TaskError: The task has no validation data, or they gave no batch.
        """
        if self._val is None:
            raise TaskError("this task has no validation data. Pass val=... to Task.")
        if samples is not None:
            whole_number("samples", samples, least=1)
        return self._measure(self._val.batches(samples), states)

    def _measure(
        self, batches: Iterable[tuple[str, Batch]], states: Mapping[str, TrainState]
    ) -> dict[str, list[Validation]]:
        with torch.no_grad(), eval_mode(*(state.model for state in states.values())):
            return measure(batches, states, self.loss, self.to_device)

    def guess(self, part: str = SELECTION) -> Guess | None:
        """Return the loss of the best prediction without any input, and its standard error.

        It is fitted once to the targets of a part of the validation data, or of the first training
        batches (`lrtune.task.guess`). None without such data, with an objective, or with a loss
        that is none of torch's.

        Args:
            part: `selection`, `test` or `train`.

        Raises:
            ArgumentError: There is no such part.
        """
        if part not in self._guesses:
            self._guesses[part] = part_guess(self._known_loss, part, self._train, self._val)
        return self._guesses[part]

    def describe(self) -> dict[str, str]:
        """Return model, optimizer, loss, batch, device, and what its scores are, in words."""
        return {**self._description, "scores": self.loss_kind.scores}

    def __repr__(self) -> str:
        return f"Task({', '.join(self._description.values())})"

    def _forward(self, model: nn.Module, loss: Loss, batch: Batch) -> Tensor:
        if self._has_objective:
            return loss(model, batch)
        return loss(model(*batch[:-1]), batch[-1])

    def _own_loss(self) -> Loss:
        """Return a copy of the loss for one run, because a loss module may have buffers."""
        if not isinstance(self._loss, nn.Module):
            return self._loss
        return deepcopy_module(self._loss).to(self.device)

    def _try_one_update(self, users_model: object, floor: float | None) -> None:
        """Make one update and one validation on a copy, and describe the task."""
        first = self._first
        if not self._has_objective:
            checks.check_batch(first)
        with checks.explain_errors("making the model and its optimizer", first):
            model = self.init_state(seed=0, lr=checks.TRIAL_LR).model
            optimizer = checks.check_optimizer(self._make_optimizer, model)
        state = TrainState(model, self._own_loss(), optimizer)
        trial = try_update(
            state,
            first,
            self._train,
            users_model=users_model,
            device=self.device,
            floor=floor,
            has_objective=self._has_objective,
        )
        self._known_loss, self.loss_kind = trial.known_loss, trial.loss_kind
        self.adapts_rate, self._works_in_place = trial.adapts_rate, trial.works_in_place
        self._try_validation(state)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        self.nbytes = sum(one.nbytes for one in [*model.parameters(), *model.buffers()])
        self._description = {
            "model": f"{type(model).__name__} with {parameters:,} parameters",
            "optimizer": type(optimizer).__name__,
            "loss": "a custom objective" if self._has_objective else checks.name_of(self._loss),
            "batch": describe_batch(first),
            "device": str(self.device),
        }

    def _try_validation(self, state: TrainState) -> None:
        """Validate on one batch."""
        if self._val is not None:
            first = next(self._val.first(1), None)
            if first is None:
                raise no_batch()
            with checks.explain_errors("validation", first):
                self._measure([(SELECTION, first)], {"the model": state})


def checked_task(task: Task) -> Task:
    """Return the task, or raise an `ArgumentError` if it is something else, such as a model."""
    if not isinstance(task, Task):
        raise ArgumentError(
            f"task is a {type(task).__name__}, expected an lrtune.Task. Write "
            "lrtune.Task(model, train)."
        )
    return task
