"""`Task`: the model, data, loss and optimizer of the user, copied and tried once."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrtune.errors import ArgumentError, DataError, LrtuneError, TaskError, whole_number
from lrtune.results.runs import Validation
from lrtune.results.schema import SELECTION
from lrtune.task import checks
from lrtune.task.bad_data import hidden_error, training_error, validation_error
from lrtune.task.batches import Batch, DigestedBatch, count_examples, row_counts, to_device
from lrtune.task.cloning import MakeModel, model_maker
from lrtune.task.data import TensorData, as_data
from lrtune.task.drift import TRIAL, Drift, DriftTrial
from lrtune.task.epochs import Data
from lrtune.task.guarding import guard_model
from lrtune.task.guess import Guess
from lrtune.task.losses import KnownLoss, below_floor
from lrtune.task.measuring import measure
from lrtune.task.optimizers import GroupRates, optimizer_maker, swept_rates
from lrtune.task.part_guess import part_guess
from lrtune.task.raised import explain_raised
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state
from lrtune.task.reduction import BatchWeight, batch_weigher, weighs_targets
from lrtune.task.repeats import repeatable
from lrtune.task.states import Loss, StateMaker, TrainState, evaluating
from lrtune.task.trained_model import first_loss, trained_model, warn_of_missing_state
from lrtune.task.trial import try_task, try_validation
from lrtune.task.validation import ValidationData, with_validation


class Task:
    """A model, its data, a loss and an optimizer: everything that an experiment needs.

    None of the user's objects is ever changed, and training the model elsewhere later does not
    change the task, because the model is copied here. One update on the first batch is tried at
    once, so that whatever cannot be trained is reported here.

    Args:
        model: An `nn.Module`, whose copies are trained from its weights, or a function without
            arguments that makes one, so that each seed has initial weights of its own. A model in
            eval mode is trained in train mode; in a model in train mode all parts keep their
            modes, so frozen BatchNorm layers stay frozen; a method `train()` of its own is called
            before training and after each validation. Hooks are copied; a hook whose closure
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
        batch_weight: A function of a batch that returns its weight in a validation loss, such as
            its number of words. When None, what the mean of one of torch's losses is divided by:
            the targets that are not ignored, or their class weights; else the number of rows that
            most of its tensors have.
        val_batches: Limits validation data to the first so many batches; of data that can be read
            by rows, to a fair sample of as many rows. Needed where a validation stream has no end.

    Attributes:
        loss_kind: What the loss is, its floor, and what the scores are (`lrtune.task.losses`).
        loss_reduction: `mean`, `sum` or `neither` of the losses of the rows of a batch, in eval
            mode; `unknown` where the first batch cannot be cut, or both parts have the same loss. A
            sum is divided by the weights of the batches, in validation and by a search; anything
            else is taken for a mean.
        batch_weight: As it was given, like `val_batches` and `floor`.
        draws_in_eval: Whether the loss of the first validation batch depends on random numbers in
            eval mode, as with mixup in an objective. Always False without validation data.
        trained_in_eval: The parts of the model that the loss of the first validation batch puts
            back into train mode.
        adapts_rate: Whether the optimizer sets its own rate, as Prodigy and D-Adaptation do.
        unapplied_multipliers: Those of parameter groups (`lr_scale`) that change no rate.
        run_bytes: What a run holds between two updates: `weights`, `gradients`, `optimizer`.
        factory: The function that makes the model; None where a model was given.
        given: `train`, `val` and `optimizer`, as they were given.

    Raises:
        TaskError: The task cannot be trained; the message says why, and what to do. A `DataError`
            where the loss is not finite before any update.

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
        batch_weight: BatchWeight | None = None,
        val_batches: int | None = None,
    ) -> None:
        if loss is not None and objective is not None:
            raise TaskError(
                "got loss and objective; expected one, as an objective computes the loss. Pass one."
            )
        self.device = checks.resolve_device(device)
        if objective is None:
            self._loss: Loss = nn.CrossEntropyLoss() if loss is None else loss
            checks.check_loss(self._loss)
        else:
            self._loss = objective
            checks.check_objective(objective)
        make_optimizer = optimizer_maker(optimizer)
        self.batch_weight, self._weigh = batch_weight, batch_weigher(batch_weight)
        data = repeatable(as_data(train, batch_size, what="train"))
        self._train, self._val = with_validation(data, val, batch_size, val_batches)
        self.val_batches, self.draws_in_eval, self.floor = val_batches, False, floor
        self.given: dict[str, object] = {"train": train, "val": val, "optimizer": optimizer}
        self.trained_in_eval: list[str] = []
        self._guesses: dict[str, Guess | None] = {}
        # Who owns what: the task has a copy of the model, and each run a copy of that copy, its
        # own loss and optimizer. The data are shared, as nothing writes into them.
        with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
            make_model, first = model_maker(model), next(self.batches(seed=0))
            self.factory = None if isinstance(model, nn.Module) else model
            by_objective = objective is not None
            self._maker = StateMaker(
                make_model, make_optimizer, self._loss, by_objective, first, self.device
            )
            with guard_model(model):
                self._try(model, floor)
        self._drift = DriftTrial(self._maker, self.loss_kind.resolution)

    @property
    def uses_loader(self) -> bool:
        """Whether batches come from a loader, which may be slow, and not from tensors."""
        return not isinstance(self._train, TensorData)

    @property
    def batch_examples(self) -> int:
        """The number of examples of a training batch: of the first one, where they differ."""
        return count_examples(self._maker.first)

    @property
    def weighs_targets(self) -> bool:
        """Whether a batch weighs what the mean of one of torch's losses is divided by."""
        return self.batch_weight is None and weighs_targets(self._known_loss)

    @property
    def batch_rows(self) -> list[int]:
        """The rows of each tensor of the first training batch; where they differ, most count."""
        return row_counts(self._maker.first)

    @property
    def makes_model(self) -> bool:
        """Whether the model was given as a function that makes it."""
        return self.factory is not None

    @property
    def train_data(self) -> Data:
        """The training data, as batches that a seed determines."""
        return self._train

    @property
    def known_loss(self) -> KnownLoss | None:
        """Which of torch's losses the task has; None for any other, and for an objective."""
        return self._known_loss

    @property
    def epoch_steps(self) -> int | None:
        """The updates before any training example comes again; None where that is not known."""
        return self._train.epoch_steps

    @property
    def batches_in_epoch(self) -> int | None:
        """The batches of an epoch, as many as the loader says; None where it does not."""
        return self._train.batches_in_epoch

    @property
    def has_validation(self) -> bool:
        """Whether the task has validation data."""
        return self._val is not None

    @property
    def val_data(self) -> ValidationData | None:
        """The validation data in two parts; None without them."""
        return self._val

    @property
    def val_counts(self) -> dict[str, int]:
        """The validation samples of each part, `selection` and `test`.

        Empty without validation data. Those of an iterable are counted by reading it once.
        """
        return {} if self._val is None else self._val.counts

    def on(self, device: str | torch.device) -> "Task":
        """Return the same task on another device; `auto` as in `Task`."""
        moved = copy.copy(self)
        moved.device = checks.resolve_device(device)
        moved._maker = maker = replace(self._maker, device=moved.device)  # noqa: SLF001
        moved._drift = DriftTrial(maker, self.loss_kind.resolution)  # noqa: SLF001
        moved._description = {**self._description, "device": str(moved.device)}  # noqa: SLF001
        return moved

    def trained_on(self, batches: Sequence[Batch]) -> "Task":
        """Return the same task, whose training data are these batches, in this order."""
        return self.changed(data=lambda _: as_data(list(batches), None, what="train"))

    def changed(
        self,
        *,
        data: Callable[[Data], Data] | None = None,
        factory: MakeModel | None = None,
        optimizer: Callable[[Optimizer], Optimizer] | None = None,
    ) -> "Task":
        """Return the same task with other training data, model or optimizer; a model is tried.

        Args:
            data: Takes the training data, and returns the others.
            factory: Makes the other model.
            optimizer: Takes the optimizer of a run, and returns the other one.
        """
        other = copy.copy(self)
        other._change(data, factory, optimizer)  # noqa: SLF001
        return other

    def _change(
        self,
        data: Callable[[Data], Data] | None,
        factory: MakeModel | None,
        optimizer: Callable[[Optimizer], Optimizer] | None,
    ) -> None:
        self._guesses = {}
        if data is not None:
            self._train = data(self._train)
        if optimizer is not None:
            make, change = self._maker.make_optimizer, optimizer
            self._maker = replace(
                self._maker, make_optimizer=lambda model, lr: change(make(model, lr))
            )
        if factory is not None:
            self.factory = factory
            with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
                made = model_maker(factory)
                self._maker = replace(self._maker, make_model=made, works_in_place=True)
                self._try(factory, self.floor)
            self._drift = DriftTrial(self._maker, self.loss_kind.resolution)

    def batches(self, seed: int) -> Iterator[Batch]:
        """Yield training batches without end; call it inside `preserve_random_state()`."""
        return self._train.batches(seed)

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the training batches of one epoch; call it inside `preserve_random_state()`."""
        return self._train.epoch(seed, epoch)

    def device_batches(self, seed: int) -> Iterator[DigestedBatch]:
        """Yield the same batches on the task's device, each with its digest."""
        return self._train.device_batches(seed, self.device)

    @property
    def drift(self) -> Drift | None:
        """How the loss changes by itself, while nothing is trained; None where it does not."""
        return self.drift_within(TRIAL)

    def drift_within(self, steps: int) -> Drift | None:
        """The same, where it may begin as late as in so many steps; it is measured once."""
        return self._drift.within(steps)

    def new_model(self) -> nn.Module:
        """Return a new model as the user made it, to load weights into; its own are of seed 0."""
        return self._maker.new_model()

    def trained_model(self, checkpoint: Mapping[str, Any]) -> nn.Module:
        """Return the model of a checkpoint; a warning says where it is not the trained one."""
        return trained_model(self._maker, checkpoint)

    def warn_of_missing_state(self, checkpoint: Mapping[str, Any]) -> None:
        """Warn where the weights of a checkpoint alone are not the trained model."""
        warn_of_missing_state(self._maker, checkpoint)

    def first_loss(self, state: TrainState) -> float:
        """Return the loss of the first batch in eval mode; NaN where a model has none there."""
        return first_loss(self._maker, state)

    def init_state(self, seed: int, lr: float) -> TrainState:
        """Return a new model, its loss and optimizer; call it inside `preserve_random_state()`."""
        return self._maker.init(seed, lr)

    def copy_state(self, state: TrainState, lr: float) -> TrainState:
        """Return a copy of a state, with the same optimizer state but the peak rate `lr`."""
        return self._maker.copy(state, lr)

    def swept_rates(self, seed: int, lr: float) -> GroupRates:
        """Return the rate of each parameter group at any multiple of `lr`; see `optimizers`."""
        return swept_rates(self.optimizer_maker(seed), lr)

    def optimizer_maker(self, seed: int) -> Callable[[float], Optimizer]:
        """Return a function of a rate that makes the optimizer, always for the same new model."""
        model = self.init_state(seed, checks.TRIAL_LR).model
        return lambda rate: self._maker.make_optimizer(model, rate)

    def to_device(self, batch: Batch) -> Batch:
        """Return the batch on the task's device."""
        return to_device(batch, self.device)

    def loss(self, state: TrainState, batch: Batch) -> Tensor:
        """Return the loss of a batch on the task's device; the batch is never changed."""
        return self._maker.loss(state, batch)

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
        return self._measure(self._val.batches(samples), states, samples)

    def check_floor(self, loss: float, whose: str) -> None:
        """Raise a TaskError where a loss lies below the floor that the user gave, if any."""
        kind = self.loss_kind
        if self.floor is not None and below_floor(loss, self.floor, kind.resolution):
            raise TaskError(
                f"floor={self.floor:g}, but {whose} is {loss:.6g}; expected a number below which "
                "the loss cannot fall. Give a lower one, or leave it out."
            )

    def batch_error(self, seed: int, step: int) -> DataError | None:
        """Return why no rate trains on the batch of a step (`lrtune.task.bad_data`), else None."""
        return training_error(self._maker, self._train, seed, step)

    def raised_error(self, seed: int, step: int, error: Exception) -> LrtuneError | None:
        """Return an error that explains what a step has raised, else None; see `raised`."""
        find, noise = partial(self._train.find, seed, step), derive_seed(seed, NOISE, step)
        return explain_raised(self._maker, error, find, noise, train=True)

    def gradient_error(self, seed: int, steps: int) -> DataError | None:
        """Return why updates break any run within so many steps, though its losses are finite."""
        return hidden_error(self._maker, self._train, seed, steps)

    def _measure(
        self,
        batches: Iterable[tuple[str, Batch]],
        states: Mapping[str, TrainState],
        samples: int | None = None,
        *,
        tried: bool = True,
    ) -> dict[str, list[Validation]]:
        def explain(place: int, error: Exception | None) -> LrtuneError | None:
            bad = validation_error(self._maker, self._val, place, samples)
            if bad is not None or error is None or self._val is None or not tried:
                return bad
            find, noise = partial(self._val.find, place, samples), derive_seed(0, NOISE)
            return explain_raised(self._maker, error, find, noise, train=False)

        with evaluating(*states.values()):
            about: Any = {"weigh": self._weigh, "summed": self.loss_reduction == "sum"}
            return measure(batches, states, self.loss, self.to_device, explain=explain, **about)

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
            data = self._train, self._val
            self._guesses[part] = part_guess(self._known_loss, part, *data, self._weigh)
        return self._guesses[part]

    def describe(self) -> dict[str, str]:
        """Return model, optimizer, loss, batch, device, and what its scores are, in words."""
        return {**self._description, "scores": self.loss_kind.scores}

    def __repr__(self) -> str:
        return f"Task({', '.join(self._description.values())})"

    def _try(self, users_model: object, floor: float | None) -> None:
        """Make one update and one validation on a copy, and note what they show."""
        trial, state = try_task(
            self._maker, self._train, users_model=users_model, floor=floor, weigh=self._weigh
        )
        self._maker = replace(self._maker, works_in_place=trial.works_in_place)
        self._known_loss, self.loss_kind = trial.known_loss, trial.loss_kind
        self._weigh = batch_weigher(self.batch_weight, trial.known_loss)
        self.loss_reduction, self.adapts_rate = trial.reduction, trial.adapts_rate
        self.unapplied_multipliers = trial.unapplied_multipliers
        self._description, self.run_bytes = trial.described, trial.run_bytes
        if (step := self._train.odd_step()) and (error := self.batch_error(0, step)):
            raise error
        if self._val is not None:
            self.draws_in_eval, self.trained_in_eval = try_validation(
                self._maker,
                self._val,
                state,
                lambda first: self._measure(
                    [(SELECTION, first)], {"the model": state}, tried=False
                ),
                self._weigh,
            )


def checked_task(task: Task) -> Task:
    """Return the task, or raise an `ArgumentError` if it is something else, such as a model."""
    if not isinstance(task, Task):
        raise ArgumentError(
            f"task is a {type(task).__name__}, expected an lrtune.Task. Write "
            "lrtune.Task(model, train)."
        )
    return task
