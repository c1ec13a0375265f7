"""One update on a copy, before anything trains: what cannot be trained is reported there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrtune.errors import TaskError
from lrtune.task import checks
from lrtune.task.data import (
    Batch,
    Data,
    clone_batch,
    describe_batch,
    tensors_of,
    to_device,
)
from lrtune.task.losses import KnownLoss, LossKind, known_loss, loss_kind
from lrtune.task.optimizers import explain_sparse_gradients, sets_own_rate
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
        with explain_sparse_gradients(state.model, state.optimizer):
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
        with checks.explain_errors("validation", batch):
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
