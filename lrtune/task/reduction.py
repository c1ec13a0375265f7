"""Whether a loss is a mean or a sum over the rows of its batch, and how batches are weighed."""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from lrtune.errors import TaskError, printable
from lrtune.task.batches import (
    Batch,
    count_examples,
    describe_batch,
    leaves,
    map_leaves,
    row_counts,
    tensors_of,
)
from lrtune.task.losses import KnownLoss

Reduction = Literal["mean", "sum", "neither", "unknown"]
"""How the loss of a batch comes from those of its rows; unknown where the batch cannot be cut."""

BatchWeight = Callable[[Batch], Any]
"""Returns the weight of a batch in a mean over batches, such as its number of words."""

DrawnLoss = Callable[[Batch, int], Tensor]
"""Returns the loss of a batch; the number decides what it draws."""

DRAWS, ERRORS, NOISY = 16, 3.0, 0.35
"""By convention: of a loss that draws, means over so many draws are compared, within so many
standard errors, if these are smaller than such a share of it."""

CLOSE = 0.01
"""By convention: losses this close, as a share of the largest, may be equal."""

SHARE = 0.02
"""By convention: a half that weighs so much more or less than its share of the rows has weights."""

ROUNDING, CLEAR = 1e-5, 50
"""By convention: such shares are rounding, and losses further apart by so many times tell."""


def loss_reduction(known: KnownLoss | None, batch: Batch, loss: DrawnLoss) -> Reduction:
    """Return whether the loss of a batch is the mean or the sum of those of its parts.

    It is cut into halves; where these do not tell, into every other row.

    Args:
        known: The loss, if it is one of torch's: its options tell.
        batch: The first batch, on the device.
        loss: The loss of a batch in eval mode, and a number that decides what it draws.
    """
    told = None if known is None else known.options.get("reduction", "mean")
    if told in ("mean", "sum"):
        return told  # type: ignore[no-any-return]
    if not can_be_cut(batch):
        return "unknown"
    found: Reduction = "unknown"
    with suppress(Exception):  # such as a model that gives something else in eval mode
        whole = loss(batch, 0)
        found = _by_cutting(batch, whole, loss, alternating=False)
        if found == "unknown":
            return _by_cutting(batch, whole, loss, alternating=True)
        # A mean with weights may look like a sum where half of the rows weigh next to nothing.
        if found == "sum" and _by_cutting(batch, whole, loss, alternating=True) != "sum":
            found = "neither"
        if found == "neither" and _is_noisy_sum(batch, loss):
            return "sum"
    return found


def _is_noisy_sum(batch: Batch, loss: DrawnLoss) -> bool:
    """Return whether a loss that draws is a sum, as far as its means over several draws tell."""
    first, again, other = (loss(batch, k).item() for k in (0, 0, 1))
    if first != again or first == other:  # it counts its calls, or does not draw
        return False
    count = count_examples(batch)
    parts = [slice(count), slice(count // 2), slice(count // 2, None)]
    parts += [slice(0, None, 2), slice(1, None, 2)]
    drawn = torch.tensor(
        [[loss(cut(batch, rows), k).item() for k in range(DRAWS)] for rows in parts]
    )
    (whole, *halves), spread = drawn.double().mean(1).tolist(), drawn.double().var(1) / DRAWS
    reach = ERRORS * math.sqrt(float(spread[:3].sum()))
    if not 0 < reach < NOISY * abs(whole):  # one that does not draw is what its halves say
        return False
    sums = (sum(halves[:2]), sum(halves[2:]))
    return all(abs(one - whole) <= max(reach, CLOSE * abs(whole)) for one in sums)


def _by_cutting(batch: Batch, whole: Tensor, loss: DrawnLoss, *, alternating: bool) -> Reduction:
    """Hold the loss of a batch against those of its halves, or of every other row."""
    count = count_examples(batch)
    both = [slice(count // 2), slice(count // 2, None)]
    if alternating:
        both = [slice(0, None, 2), slice(1, None, 2)]
    first, second = (loss(cut(batch, rows), 0).item() for rows in both)
    share, rounding = len(range(count)[both[0]]) / count, 8 * torch.finfo(whole.dtype).eps
    return compare_halves(whole.item(), first, second, share, max(ROUNDING, rounding))


def compare_halves(
    whole: float, first: float, second: float, share: float = 0.5, rounding: float = ROUNDING
) -> Reduction:
    """Return how the loss of a batch comes from those of its halves.

    Args:
        whole: The loss of the batch.
        first: That of its first half.
        second: That of its second half.
        share: The share of the rows in the first half.
        rounding: Of a loss, as a share.

    >>> compare_halves(2.0, 1.0, 3.0), compare_halves(4.0, 1.0, 3.0), compare_halves(3.0, 1.0, 3.0)
    ('mean', 'sum', 'neither')
    >>> compare_halves(2.002, 1.99, 2.01), compare_halves(2.0, 2.0, 2.0)  # a mean with weights
    ('neither', 'unknown')
    """
    if not all(map(math.isfinite, (whole, first, second))):
        return "unknown"
    largest, apart = max(map(abs, (whole, first, second))), abs(first - second)
    off = abs(share * first + (1 - share) * second - whole)
    if off > CLOSE * largest:
        return "sum" if abs(first + second - whole) <= CLOSE * largest else "neither"
    # Where the halves have nearly the same loss, a mean with any weights has it, too.
    if apart <= CLEAR * rounding * largest:
        return "unknown"
    return "mean" if off <= SHARE * apart + rounding * largest else "neither"


def can_be_cut(batch: Batch) -> bool:
    """Return whether some rows of a batch are a batch, too.

    Tensors with other numbers of rows, such as weights of classes, stay whole; they must not hold
    whole numbers, which may be those of rows.
    """
    count, tensors = count_examples(batch), tensors_of(batch)
    others = [leaf for leaf in leaves(batch) if not isinstance(leaf, Tensor) and leaf is not None]
    odd = [one for one in tensors if one.ndim and len(one) != count]
    return (
        count >= 2
        and count in row_counts(batch)
        and not others
        and all(one.layout is torch.strided for one in tensors)
        and all(one.is_floating_point() for one in odd)
    )


def cut(batch: Batch, rows: slice) -> Batch:
    """Return these rows of a batch that `can_be_cut`."""
    count = count_examples(batch)

    def part(leaf: Tensor | None) -> Tensor | None:
        whole = leaf is None or not leaf.ndim or len(leaf) != count
        return leaf if whole else leaf[rows]  # type: ignore[index]

    return map_leaves(batch, part)


def weighs_targets(known: KnownLoss | None) -> bool:
    """Return whether the task's loss is a mean over targets, which are what counts then."""
    return known is not None and known.options.get("reduction", "mean") == "mean"


def divisor(known: KnownLoss, batch: Batch) -> float:
    """Return what the mean of one of torch's losses over a batch (*inputs, target) is divided by.

    The number of its targets that are not ignored, or the sum of the weights of their classes.
    """
    targets = batch[-1]
    if not isinstance(targets, Tensor) or not targets.ndim:
        return count_examples(batch)
    if not known.takes_labels:
        shared = known.function is functional.cross_entropy and targets.ndim > 1
        return targets.numel() // (targets.shape[1] if shared else 1)  # probabilities share one
    weight, ignored = known.options.get("weight"), known.options.get("ignore_index", -100)
    counted = targets[targets != ignored].flatten()
    if weight is None:
        return len(counted)
    labels = counted.cpu().long().clamp(0, len(weight) - 1)  # the loss refuses what is no class
    return float(weight[labels].sum())


def batch_weigher(
    given: BatchWeight | None, known: KnownLoss | None = None
) -> Callable[[Batch], float]:
    """Return a function that weighs batches: by a function of the user's own, or by what counts.

    A mean of one of torch's losses is one over the targets, so a batch weighs as many as it has;
    with class weights, the sum of theirs; ignored ones weigh nothing. Otherwise rows count.

    Args:
        given: The function of the user's own.
        known: The task's loss, if it is one of torch's.

    Raises:
        TaskError: It is no function; or, when it is called, it returned no finite number >= 0.
    """
    if given is None:
        return partial(divisor, known) if known and weighs_targets(known) else count_examples
    if not callable(given):
        raise TaskError(
            f"batch_weight={printable(repr(given))}; expected a function of a batch that returns "
            "its weight, such as lambda batch: len(batch['labels'])."
        )

    def weigh(batch: Batch) -> float:
        weight = given(batch)
        try:
            number = math.nan if isinstance(weight, bool | str) else float(weight)
        except (TypeError, ValueError, RuntimeError):
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            raise TaskError(
                f"batch_weight returned {printable(repr(weight))} for {describe_batch(batch)}; "
                "expected a finite number >= 0, such as its number of samples."
            )
        return number

    return weigh
