"""One update on a copy, before anything trains: what cannot be trained is reported there."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lrtune.task import checks
from lrtune.task.data import Batch, Data, clone_batch, tensors_of, to_device
from lrtune.task.losses import KnownLoss, LossKind, known_loss, loss_kind
from lrtune.task.optimizers import sets_own_rate
from lrtune.task.random_state import NOISE, derive_seed, seed_everything
from lrtune.task.states import TrainState


@dataclass(frozen=True)
class Trial:
    """What the first update shows about a task.

    Attributes:
        known_loss: Which of torch's losses it has; None for any other.
        loss_kind: What the loss is, its floor, and what the scores are.
        adapts_rate: Whether the optimizer sets its own rate.
        works_in_place: Whether the model or the loss changes its batch.
    """

    known_loss: KnownLoss | None
    loss_kind: LossKind
    adapts_rate: bool
    works_in_place: bool


def try_update(
    state: TrainState,
    first: Batch,
    train: Data,
    *,
    users_model: object,
    device: torch.device,
    floor: float | None,
    has_objective: bool,
) -> Trial:
    """Train a state for one update on the first batch, and check each part of it.

    Args:
        state: A new state; it is changed.
        first: The first batch of the training data.
        train: All of them, for their labels.
        users_model: The user's own model, or a function that makes one.
        device: Where the state is.
        floor: The number below which the loss cannot fall, if the user gave one.
        has_objective: Whether the loss is a function of model and batch.

    Raises:
        TaskError: It cannot be trained; the message names the part that fails.
    """
    # A clone, because a loss or a layer may work in place, and the user's batch is not ours.
    batch = to_device(clone_batch(first), device)
    before = [tensor._version for tensor in tensors_of(batch)]  # noqa: SLF001 - counts changes
    adapts_rate = sets_own_rate(state.optimizer)
    seed_everything(derive_seed(0, NOISE))
    given, outputs = _loss_and_outputs(state, first, batch, train, has_objective=has_objective)
    loss = checks.check_loss_value(given)
    known = None if has_objective else known_loss(state.loss, outputs, first[-1])
    kind = loss_kind(known, loss, floor, has_objective=has_objective)
    checks.check_loss_uses_copy(loss, users_model)  # a closure may hold the original
    with checks.explain_errors("the update", first):
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
    works_in_place = before != [tensor._version for tensor in tensors_of(batch)]  # noqa: SLF001
    return Trial(known, kind, adapts_rate, works_in_place)


def _loss_and_outputs(
    state: TrainState, first: Batch, batch: Batch, train: Data, *, has_objective: bool
) -> tuple[Tensor, object]:
    """Return the loss and the outputs of `batch`, a copy of `first`; an error names its part."""
    if has_objective:
        with checks.explain_errors("the objective", first):
            return state.loss(state.model, batch), None
    with checks.explain_errors("the model", first):
        outputs = state.model(*batch[:-1])
    checks.check_labels(outputs, state.loss, train, batch)
    with checks.explain_errors("the loss", first):
        return state.loss(outputs, batch[-1]), outputs


def describe_model(model: nn.Module) -> str:
    """Return the class of a model and its number of parameters, in words."""
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{type(model).__name__} with {count:,} parameters"
