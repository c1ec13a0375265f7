"""Losses that are not finite before any update: which batch it is, and what is wrong with it."""

import functools
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lrtune.errors import DataError
from lrtune.task.batches import Batch, count_examples, named_tensors, tensors_of, to_device
from lrtune.task.checks import TRIAL_LR
from lrtune.task.epochs import Data, FoundBatch
from lrtune.task.random_state import NOISE, derive_seed, seed_everything
from lrtune.task.states import Loss, StateMaker, TrainState, evaluating
from lrtune.task.validation import ValidationData

MOST = 64
"""By convention: so many batches are looked at for what broke the weights of runs."""

FEW = 5
"""By convention: a message names so many rows."""


def training_error(maker: StateMaker, train: Data, seed: int, step: int) -> DataError | None:
    """Return why no rate trains on a batch; None where the untrained model has a finite loss on it.

    The gradient of the batch before it is looked at, too: where it is not finite, any rate destroys
    the weights. Call it inside `preserve_random_state()`.

    Args:
        maker: Makes the untrained state.
        train: The training data, which are read again up to that batch.
        seed: The seed of the runs.
        step: The step at which the batch is drawn.
    """
    found = train.find(seed, step)
    state = maker.init(seed, TRIAL_LR)
    value = _value(maker, state, found.batch, derive_seed(seed, NOISE, step))
    if value is not None and not _is_finite(value):
        return data_error(value, found, state.model, maker.given_loss)
    if value is None or not step:
        return None
    before, state = train.find(seed, step - 1), maker.init(seed, TRIAL_LR)
    seed_everything(derive_seed(seed, NOISE, step - 1))
    maker.loss(state, to_device(before.batch, maker.device)).backward()  # type: ignore[no-untyped-call]
    if all(_is_finite(one.grad) for one in state.model.parameters() if one.grad is not None):
        return None
    return _gradient_error(before, maker.given_loss)


def hidden_error(maker: StateMaker, train: Data, seed: int, steps: int) -> DataError | None:
    """Return the first batch whose gradient is not finite with the untrained model, else None.

    Of the batches of the first so many steps, at most `MOST`. Its loss may be finite, where a
    function such as `nan_to_num` hides the others. Call it inside `preserve_random_state()`.
    """
    for step, batch in enumerate(itertools.islice(train.batches(seed), min(steps, MOST))):
        state = maker.init(seed, TRIAL_LR)
        seed_everything(derive_seed(seed, NOISE, step))
        value = maker.loss(state, to_device(batch, maker.device))
        value.backward()  # type: ignore[no-untyped-call]
        gradients = [one.grad for one in state.model.parameters() if one.grad is not None]
        if not all(map(_is_finite, gradients)):
            return _gradient_error(train.find(seed, step), maker.given_loss)
    return None


def _gradient_error(found: FoundBatch, loss: Loss) -> DataError:
    """Return the error for a gradient that is not finite with the untrained model."""
    cause = (
        "Look for the root of 0, a norm of 0 or a power of 0 in the loss, and add a small number "
        "to it; or for what hides numbers that are not finite, such as nan_to_num."
    )
    if not all(map(_is_finite, tensors_of(found.batch))):
        cause = (
            "The loss hides numbers that are not finite, such as by nan_to_num: leave it out. "
            f"{_cause(found, loss)}"
        )
    return DataError(
        f"the gradient of the loss on {found.where} is not finite with the untrained model, though "
        f"its loss is, so an update at any rate destroys the weights. {cause}"
    )


def validation_error(
    maker: StateMaker, val: ValidationData | None, place: int, samples: int | None
) -> DataError | None:
    """Return why the loss of a validation batch is not finite at any rate; None where it is finite.

    Call it inside `preserve_random_state()`.

    Args:
        maker: Makes the untrained state.
        val: The validation data, which are read again up to that batch.
        place: The number of the batch in `val.batches(samples)`.
        samples: See `ValidationData.batches`.
    """
    assert val is not None, "there was a validation batch"
    found = val.find(place, samples)
    state = maker.init(0, TRIAL_LR)
    with evaluating(state):
        value = _value(maker, state, found.batch, derive_seed(0, NOISE))
    if value is None or _is_finite(value):
        return None
    return data_error(value, found, state.model, maker.given_loss)


def data_error(value: Tensor, found: FoundBatch, model: nn.Module, loss: Loss) -> DataError:
    """Return the error for a loss that is not finite with the untrained model.

    Args:
        value: The loss.
        found: The batch.
        model: The untrained model.
        loss: The user's loss, which may ignore labels.
    """
    for name, weight in model.named_parameters():
        if not _is_finite(weight):
            return DataError(
                f"the initial weights of the {type(model).__name__} are not finite ({name} holds "
                f"{_odd_number(weight)}), so its loss is {value.item()} at any rate. Look at how "
                "they are made, or what was loaded into them."
            )
    return DataError(
        f"the loss of the untrained model on {found.where} is {value.item()}, so the rate is not "
        f"to blame; expected a finite number. {_cause(found, loss)}"
    )


def _value(maker: StateMaker, state: TrainState, batch: Batch, noise: int) -> Tensor | None:
    """Return the loss of a batch; NaN where it raises on numbers that are not finite, else None."""
    seed_everything(noise)
    with torch.no_grad():
        try:
            return maker.loss(state, to_device(batch, maker.device))
        except Exception:  # noqa: BLE001 - losses such as BCELoss raise on NaN
            odd = any(not _is_finite(tensor) for tensor in tensors_of(batch))
            return torch.tensor(torch.nan) if odd else None


def _cause(found: FoundBatch, loss: Loss) -> str:
    """Return what is wrong with a batch, and the way out."""
    if odd := odd_numbers_text(found):
        return f"{odd}: mend the data."
    for _, tensor in named_tensors(found.batch):
        ignored = _ignored_label(loss)
        whole = tensor.numel() and not tensor.is_floating_point() and not tensor.is_complex()
        if whole and bool((tensor == ignored).all()):
            return (
                f"All of its labels are {ignored}, which the loss ignores, so their mean is 0 / 0: "
                "leave such batches out, or make larger ones."
            )
    return (
        "The numbers of the batch are finite: look for a log of 0, a division by 0 or an overflow "
        "in the model and the loss."
    )


def odd_numbers_text(found: FoundBatch) -> str:
    """Return which samples of a batch hold numbers that are not finite, and where; else nothing."""
    for name, tensor in named_tensors(found.batch):
        if not _is_finite(tensor):
            return f"{_whose(found, tensor)} {_odd_number(tensor)} in the {name}"
    return ""


def _whose(found: FoundBatch, tensor: Tensor) -> str:
    """Return which rows hold numbers that are not finite, as the begin of a sentence."""
    if not tensor.ndim or len(tensor) != count_examples(found.batch):
        return "The batch holds"
    rows = (~torch.isfinite(tensor)).reshape(len(tensor), -1).any(1).nonzero().flatten().tolist()
    hold = "holds" if len(rows) == 1 else "hold"
    within = f"{listed('row', rows)} of the batch"
    if found.rows is None:
        return f"{within[0].upper()}{within[1:]} {hold}"
    return f"{listed('Sample', [found.rows[row] for row in rows])} ({within}) {hold}"


def listed(noun: str, numbers: Sequence[object]) -> str:
    """Return a noun with the first of some numbers.

    >>> listed("row", [3]), listed("row", range(9))
    ('row 3', 'rows 0, 1, 2, 3, 4 and 4 more')
    """
    plural = noun if len(numbers) == 1 else f"{noun}s"
    more = f" and {len(numbers) - FEW} more" if len(numbers) > FEW else ""
    return f"{plural} {', '.join(map(str, numbers[:FEW]))}{more}"


def _ignored_label(loss: object) -> int:
    """Return the label that a loss ignores, which torch's cross-entropy does with -100."""
    options = loss.keywords if isinstance(loss, functools.partial) else {}
    ignored: int = options.get("ignore_index", getattr(loss, "ignore_index", -100))
    return ignored


def _odd_number(tensor: Tensor) -> str:
    return "NaN" if bool(torch.isnan(tensor).any()) else "inf"


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(_numbers(tensor.detach())).all())


def _numbers(tensor: Tensor) -> Tensor:
    return tensor.coalesce().values() if tensor.layout is torch.sparse_coo else tensor
