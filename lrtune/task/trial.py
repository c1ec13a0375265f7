"""One update on a copy, before anything trains: what cannot be trained is reported there."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrtune.errors import TaskError, quantity
from lrtune.task import checks
from lrtune.task.bad_data import data_error, validation_error
from lrtune.task.batches import (
    Batch,
    clone_batch,
    count_examples,
    describe_batch,
    tensors_of,
    to_device,
)
from lrtune.task.epochs import Data
from lrtune.task.explaining import explain_errors
from lrtune.task.guarding import UsersTensors, check_loss_uses_copy
from lrtune.task.losses import KnownLoss, LossKind, known_loss, loss_kind
from lrtune.task.measuring import no_batch, no_weight
from lrtune.task.memory import RunBytes, run_bytes
from lrtune.task.optimizers import (
    check_optimizer,
    explain_sparse_gradients,
    group_rates,
    sets_own_rate,
    unapplied_multipliers,
)
from lrtune.task.random_state import NOISE, derive_seed, seed_everything
from lrtune.task.rate_checks import (
    refuse_changed_rates,
    refuse_deaf_optimizer,
    refuse_scheduler,
)
from lrtune.task.reduction import DrawnLoss, Reduction, loss_reduction
from lrtune.task.states import StateMaker, TrainState, evaluating
from lrtune.task.validation import ValidationData

LOOK = 100
"""By convention: of so many validation batches, some have labels that are not ignored."""

ROUNDING = 1e-5
"""By convention: losses this close differ by rounding, which some GPUs do differently each time."""


@dataclass(frozen=True)
class Trial:
    """What trying a task shows about it.

    Attributes:
        known_loss: Which of torch's losses it has; None for any other.
        loss_kind: What the loss is, its floor, and what the scores are.
        reduction: Whether the loss is a mean or a sum over its batch.
        adapts_rate: Whether the optimizer sets its own rate.
        works_in_place: Whether the model or the loss changes its batch.
        described: Model, optimizer, loss, batch and device in words.
        unapplied_multipliers: As of `lrtune.task.optimizers.unapplied_multipliers`.
        run_bytes: What a run needs of memory.
    """

    known_loss: KnownLoss | None
    loss_kind: LossKind
    reduction: Reduction
    adapts_rate: bool
    works_in_place: bool
    described: dict[str, str]
    unapplied_multipliers: dict[str, list[float]]
    run_bytes: RunBytes


def try_task(
    maker: StateMaker,
    train: Data,
    *,
    users_model: object,
    floor: float | None,
    weigh: Callable[[Batch], float],
) -> tuple[Trial, TrainState]:
    """Train a state for one update on the first batch, and check each part of it.

    Args:
        maker: Makes the state.
        train: The training data.
        users_model: The user's own model, or a function that makes one.
        floor: The number below which the loss cannot fall, if the user gave one.
        weigh: The weight of a batch.

    Returns:
        What was found, and the trained state.

    Raises:
        TaskError: It cannot be trained; the message names the part that fails.
    """
    first = maker.first
    if not maker.has_objective:
        checks.check_batch(first)
    checks.check_detached(first)
    with explain_errors("making the model and its optimizer", first):
        begun = maker.init(seed=0, lr=checks.TRIAL_LR)
        refuse_scheduler(begun.optimizer)
        model = begun.model
        optimizer = check_optimizer(maker.make_optimizer, model)
    state = TrainState(model, maker.own_loss(), optimizer)
    adapts_rate = sets_own_rate(optimizer)
    loss, known, in_place = _try_update(maker, state, train, users_model)
    refuse_deaf_optimizer(maker.make_optimizer, model)
    kind = loss_kind(known, loss, floor, has_objective=maker.has_objective)
    _try_smallest_batch(maker, state, train)
    reduction = loss_reduction(known, to_device(first, maker.device), eval_loss(maker, state))
    if reduction == "sum":
        kind = replace(kind, summed=weigh(first))
    given = None if maker.has_objective else maker.given_loss
    trial = Trial(
        known,
        kind,
        reduction,
        adapts_rate,
        in_place,
        describe(model, optimizer, given, first, maker.device),
        unapplied_multipliers(optimizer),
        run_bytes([*model.parameters(), *model.buffers()], optimizer),
    )
    return trial, state


def eval_loss(maker: StateMaker, state: TrainState) -> DrawnLoss:
    """Return a function that computes the loss of a batch in eval mode, with a given noise."""

    def loss(batch: Batch, noise: int) -> Tensor:
        seed_everything(derive_seed(0, NOISE, noise))
        with evaluating(state):
            return maker.loss(state, batch)

    return loss


def try_validation(
    maker: StateMaker,
    val: ValidationData,
    state: TrainState,
    measure: Callable[[Batch], object],
    weigh: Callable[[Batch], float],
) -> tuple[bool, list[str]]:
    """Validate the first batch that counts.

    Returns:
        Whether its loss in eval mode draws random numbers, and the names of the parts of the model
        that it puts back into train mode.

    Raises:
        TaskError: Validation fails, has no batch, or does not end.
    """
    first = _first_that_counts(val, weigh)
    if not maker.has_objective:
        checks.check_batch(first, "a validation batch")
    placed = to_device(first, maker.device)
    with explain_validation(first, state.model, lambda: maker.loss(state, placed)):
        measure(first)
        with noting_train_mode(state) as trained:
            draws = draws_in_eval(maker, state, first)
    if count_examples(first) < 2:  # such as mixup, which needs two rows to show
        with suppress(Exception):  # a training batch may be none to validate on
            draws = draws or draws_in_eval(maker, state, maker.first)
    val.check_end()
    place = val.odd_place()
    if place and (error := validation_error(maker, val, place, None)):
        raise error
    return draws, sorted(trained)


@contextmanager
def noting_train_mode(state: TrainState) -> Iterator[set[str]]:
    """Yield a set of the parts that a forward pass puts back into train mode."""
    with evaluating(state):
        names = {
            name or type(part).__name__: part
            for name, part in state.model.named_modules()
            if not part.training
        }
    found: set[str] = set()

    def note(name: str, part: nn.Module) -> None:
        if part.training:
            found.add(name)

    hooks = [
        part.register_forward_pre_hook(lambda module, _, name=name: note(name, module))
        for name, part in names.items()
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _first_that_counts(val: ValidationData, weigh: Callable[[Batch], float]) -> Batch:
    weightless = 0
    for batch in val.first(LOOK):
        if weigh(batch):
            return batch
        weightless += 1
    raise no_weight(weightless) if weightless else no_batch()


def draws_in_eval(maker: StateMaker, state: TrainState, batch: Batch) -> bool:
    """Return whether the loss of a batch in eval mode depends on random numbers."""
    placed = to_device(batch, maker.device)
    one, other = (eval_loss(maker, state)(placed, noise).item() for noise in (0, 1))
    equal = math.isclose(one, other, rel_tol=ROUNDING)
    return not equal and math.isfinite(one - other)


def _try_update(
    maker: StateMaker, state: TrainState, train: Data, users_model: object
) -> tuple[Tensor, KnownLoss | None, bool]:
    """Make an update on the first batch; its loss, which it is, and whether the batch changes."""
    first = maker.first
    # A clone, because a loss or a layer may work in place, and the user's batch is not ours.
    batch = to_device(clone_batch(first), maker.device)
    before = [tensor._version for tensor in tensors_of(batch)]  # noqa: SLF001 - counts changes
    seed_everything(derive_seed(0, NOISE))
    state.optimizer.zero_grad()
    with UsersTensors(users_model) as used:
        given, outputs = _loss_and_outputs(maker, state, batch, train)
    loss = checks.check_loss_value(given)
    checks.check_no_gradients(state.model)
    if not torch.isfinite(loss).all():
        raise data_error(loss, train.find(0, 0), state.model, maker.given_loss)
    known = None if maker.has_objective else known_loss(state.loss, outputs, first[-1])
    check_loss_uses_copy(loss, users_model)  # a closure may hold the original
    used.check()
    rates = group_rates(state.optimizer)
    with explain_errors("the update", first):
        loss.backward()  # type: ignore[no-untyped-call]
        with explain_sparse_gradients(state.model, state.optimizer):
            state.optimizer.step()
    refuse_changed_rates(state.optimizer, rates)
    changed = before != [tensor._version for tensor in tensors_of(batch)]  # noqa: SLF001
    return loss, known, changed


def _loss_and_outputs(
    maker: StateMaker, state: TrainState, batch: Batch, train: Data
) -> tuple[Tensor, object]:
    """Return the loss and the outputs of a copy of the first batch; an error names its part."""
    first = maker.first
    if maker.has_objective:
        with explain_errors("the objective", first):
            return state.loss(state.model, batch), None
    with explain_errors("the model", first):
        outputs = state.model(*batch[:-1])
    checks.check_labels(outputs, state.loss, train, batch)
    checks.check_targets(state.loss, train, batch)
    with explain_errors("the loss", first):
        return state.loss(outputs, batch[-1]), outputs


def _try_smallest_batch(maker: StateMaker, state: TrainState, train: Data) -> None:
    """Make a forward and a backward pass on the smallest batch of an epoch, in train mode.

    Layers such as BatchNorm need two rows at least, and a model may need batches of one size.

    Raises:
        TaskError: It fails, or the loss is not finite.
    """
    smallest = train.smallest_batch()
    rows, usual = count_examples(smallest), count_examples(maker.first)
    if smallest is None or rows >= usual:
        return
    seed_everything(derive_seed(0, NOISE))
    try:
        value = maker.loss(state, to_device(smallest, maker.device))
        value.backward()  # type: ignore[no-untyped-call]
        wrong = "" if torch.isfinite(value).all() else f"its loss is {value.item()}"
    except Exception as error:  # noqa: BLE001 - whatever the user's own code raises
        wrong = f"training on it fails: {type(error).__name__}: {error}"
    if wrong:
        raise TaskError(
            f"the smallest batch of an epoch, {describe_batch(smallest)}, has "
            f"{quantity(rows, 'row')}, the first one {usual}, and {wrong}. Leave short batches "
            "out: DataLoader(..., drop_last=True)."
        )


@contextmanager
def explain_validation(
    batch: Batch, model: nn.Module, train: Callable[[], object]
) -> Iterator[None]:
    """Turn an error into a `TaskError`; say so where a model returns something else in eval mode.

    Args:
        batch: The first one.
        model: Goes back to train mode at the end of the code inside.
        train: Calls it in train mode.
    """
    kinds: list[str] = []
    hook = model.register_forward_hook(lambda *given: kinds.append(type(given[2]).__name__))
    try:
        with explain_errors("validation", batch):
            yield
    except TaskError as error:
        last = kinds[-1:]
        with suppress(Exception):
            train()
        if not last or last == kinds[-1:]:
            raise
        raise TaskError(
            f"validation fails: in eval mode the {type(model).__name__} returns a {last[0]}, in "
            f"train mode a {kinds[-1]}; expected that the loss can be computed in both. Some "
            "models, such as torchvision's for detection, return predictions in eval mode. Leave "
            "val out, and the training loss selects; or wrap the model so that it returns the same "
            "in eval mode."
        ) from error.__cause__
    finally:
        hook.remove()


def describe(
    model: nn.Module, optimizer: Optimizer, loss: object, first: Batch, device: torch.device
) -> dict[str, str]:
    """Return the parts of a task in words; a loss of None is an objective."""
    count = sum(parameter.numel() for parameter in model.parameters())
    return {
        "model": f"{type(model).__name__} with {count:,} parameters",
        "optimizer": type(optimizer).__name__,
        "loss": "a custom objective" if loss is None else checks.name_of(loss),
        "batch": describe_batch(first),
        "device": str(device),
    }
