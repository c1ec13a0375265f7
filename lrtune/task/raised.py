"""Errors of the user's code while it trains: which batch raises them, and what to do."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch

from lrtune.errors import DataError, LrtuneError, TaskError, first_line
from lrtune.task.bad_data import listed
from lrtune.task.batches import Batch, count_examples, named_tensors, to_device
from lrtune.task.checks import TRIAL_LR
from lrtune.task.epochs import FoundBatch
from lrtune.task.memory import is_out_of_memory
from lrtune.task.random_state import seed_everything
from lrtune.task.reduction import can_be_cut, cut
from lrtune.task.states import StateMaker, evaluating

FEW = 8
"""By convention: a message shows the numbers of a row that has no more than so many."""

OUT_OF_RANGE = "out of bounds", "out of range", "device-side assert"
EXPECTED = (
    " Expected labels from 0 to the number of outputs less one, and tokens below the size of their "
    "nn.Embedding. Mend the data, or enlarge the model."
)

WHILE_TRAINING = {
    "between 0 and 1": "an update has moved the outputs of the model out of 0 ... 1; expected "
    "probabilities, whatever the weights are. Put a sigmoid at the end of the model, or take "
    "nn.BCEWithLogitsLoss, which has one inside.",
    "backward through the graph a second time": "the loss uses what an earlier update computed, "
    "and its graph is gone; expected that each update computes its own. Look for tensors that are "
    "kept from one batch to the next, such as a list that a hook fills: empty it at each batch, or "
    "keep tensor.detach().",
}
"""A part of an error's message to what it means where the untrained model does not raise it."""


def explain_raised(
    maker: StateMaker, error: Exception, find: Callable[[], FoundBatch], noise: int, *, train: bool
) -> LrtuneError | None:
    """Return what to say of an error that a batch has raised; None where nobody knows.

    Call it inside `preserve_random_state()`.

    Args:
        maker: Makes the untrained state.
        error: What was raised.
        find: Returns the batch, after reading all before it again.
        noise: The seed of its random layers.
        train: Whether it is trained on, or validated.
    """
    if isinstance(error, LrtuneError) or is_out_of_memory(error):
        return None
    if "device-side assert" in str(error):  # nothing can be computed there any more
        maker = replace(maker, device=torch.device("cpu"))
    with suppress(Exception):  # such as one of the loader, which is not our matter
        found = find()
        again = _raises(maker, found.batch, noise, train=train)
        # Where the first batch does so, too, it is not the batch, but what has happened since.
        if again is not None and _raises(maker, maker.first, noise, train=train) is None:
            return _bad_batch(maker, found, again, noise)
    told = next((text for part, text in WHILE_TRAINING.items() if part in str(error)), None)
    if told is None:
        return None
    return TaskError(f"{told} ({type(error).__name__}: {first_line(error, 80)})")


def _raises(maker: StateMaker, batch: Batch, noise: int, *, train: bool) -> Exception | None:
    """Return what the untrained model raises on a batch."""
    state = maker.init(0, TRIAL_LR)
    seed_everything(noise)
    try:
        if train:
            maker.loss(state, to_device(batch, maker.device))
        else:
            with evaluating(state):
                maker.loss(state, to_device(batch, maker.device))
    except Exception as error:  # noqa: BLE001 - whatever the user's own code raises
        return error
    return None


def _bad_batch(maker: StateMaker, found: FoundBatch, error: Exception, noise: int) -> DataError:
    text = (
        f"{found.where} fails with the untrained model, too, so the rate is not to blame: "
        f"{type(error).__name__}: {first_line(error)}."
    )
    rows: list[int] = []
    if can_be_cut(found.batch):
        rows = _bad_rows(maker, found.batch, noise, 0, count_examples(found.batch))
    if rows:
        within = f"{listed('row', rows)} of the batch"
        whose = f"{within[0].upper()}{within[1:]}"
        if found.rows is not None:
            whose = f"{listed('Sample', [found.rows[row] for row in rows])} ({within})"
        text += f" {whose} {'is' if len(rows) == 1 else 'are'} to blame{_numbers(found, rows)}."
    out = any(part in str(error) for part in OUT_OF_RANGE)
    return DataError(text + (EXPECTED if out else " Mend the data, or leave such samples out."))


def _bad_rows(maker: StateMaker, batch: Batch, noise: int, first: int, end: int) -> list[int]:
    """Return the rows from `first` to `end` that raise by themselves, in eval mode."""
    if _raises(maker, cut(batch, slice(first, end)), noise, train=False) is None:
        return []
    if end - first == 1:
        return [first]
    middle = (first + end) // 2
    parts = (first, middle), (middle, end)
    return [row for part in parts for row in _bad_rows(maker, batch, noise, *part)]


def _numbers(found: FoundBatch, rows: list[int]) -> str:
    """Return the whole numbers of the first of these rows, as a part of a sentence."""
    shown = [
        f"{name} {', '.join(map(str, tensor[rows[0]].flatten().tolist()))}"
        for name, tensor in named_tensors(found.batch)
        if tensor.ndim and len(tensor) == count_examples(found.batch)
        and not tensor.is_floating_point() and tensor[rows[0]].numel() <= FEW
    ]  # fmt: skip
    return f", with {' and '.join(shown)}" if shown else ""
