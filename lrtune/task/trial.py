"""One update on a copy, before anything trains: what cannot be trained is reported there."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lrtune.errors import TaskError, quantity
from lrtune.task import checks
from lrtune.task.bad_data import data_error
from lrtune.task.batches import (
    Batch,
    clone_batch,
    count_examples,
    describe_batch,
    tensors_of,
    to_device,
)
from lrtune.task.epochs import Data
from lrtune.task.losses import KnownLoss, LossKind, known_loss, loss_kind
from lrtune.task.optimizers import sets_own_rate
from lrtune.task.random_state import NOISE, derive_seed, seed_everything
from lrtune.task.reduction import Reduction, loss_reduction
from lrtune.task.states import StateMaker, TrainState, evaluating

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
        nbytes: The bytes of the model.
    """

    known_loss: KnownLoss | None
    loss_kind: LossKind
    reduction: Reduction
    adapts_rate: bool
    works_in_place: bool
    described: dict[str, str]
    nbytes: int


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
    with checks.explain_errors("making the model and its optimizer", first):
        model = maker.init(seed=0, lr=checks.TRIAL_LR).model
        optimizer = checks.check_optimizer(maker.make_optimizer, model)
    state = TrainState(model, maker.own_loss(), optimizer)
    adapts_rate = sets_own_rate(optimizer)
    loss, known, in_place = _try_update(maker, state, train, users_model)
    kind = loss_kind(known, loss, floor, has_objective=maker.has_objective)
    _try_smallest_batch(maker, state, train)
    reduction = loss_reduction(known, to_device(first, maker.device), eval_loss(maker, state))
    if reduction == "sum":
        kind = replace(kind, summed=weigh(first))
    described, nbytes = _describe(maker, state)
    return Trial(known, kind, reduction, adapts_rate, in_place, described, nbytes), state


def eval_loss(maker: StateMaker, state: TrainState, noise: int = 0) -> Callable[[Batch], Tensor]:
    """Return a function that computes the loss of batches in eval mode, always with this noise."""

    def loss(batch: Batch) -> Tensor:
        seed_everything(derive_seed(0, NOISE, noise))
        with evaluating(state):
            return maker.loss(state, batch)

    return loss


def draws_in_eval(maker: StateMaker, state: TrainState, batch: Batch) -> bool:
    """Return whether the loss of a batch in eval mode depends on random numbers."""
    placed = to_device(batch, maker.device)
    one, other = (eval_loss(maker, state, noise)(placed).item() for noise in (0, 1))
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
    given, outputs = _loss_and_outputs(maker, state, batch, train)
    loss = checks.check_loss_value(given)
    if not torch.isfinite(loss).all():
        raise data_error(loss, train.find(0, 0), state.model, maker.given_loss)
    known = None if maker.has_objective else known_loss(state.loss, outputs, first[-1])
    checks.check_loss_uses_copy(loss, users_model)  # a closure may hold the original
    with checks.explain_errors("the update", first):
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
    changed = before != [tensor._version for tensor in tensors_of(batch)]  # noqa: SLF001
    return loss, known, changed


def _loss_and_outputs(
    maker: StateMaker, state: TrainState, batch: Batch, train: Data
) -> tuple[Tensor, object]:
    """Return the loss and the outputs of a copy of the first batch; an error names its part."""
    first = maker.first
    if maker.has_objective:
        with checks.explain_errors("the objective", first):
            return state.loss(state.model, batch), None
    with checks.explain_errors("the model", first):
        outputs = state.model(*batch[:-1])
    checks.check_labels(outputs, state.loss, train, batch)
    with checks.explain_errors("the loss", first):
        return state.loss(outputs, batch[-1]), outputs


def _describe(maker: StateMaker, state: TrainState) -> tuple[dict[str, str], int]:
    """Return model, optimizer, loss, batch and device in words, and the bytes of the model."""
    model, loss = state.model, maker.given_loss
    parameters = sum(parameter.numel() for parameter in model.parameters())
    described = {
        "model": f"{type(model).__name__} with {parameters:,} parameters",
        "optimizer": type(state.optimizer).__name__,
        "loss": "a custom objective" if maker.has_objective else checks.name_of(loss),
        "batch": describe_batch(maker.first),
        "device": str(maker.device),
    }
    return described, sum(one.nbytes for one in [*model.parameters(), *model.buffers()])


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
