"""The best constant prediction: what a model is worth that does not look at its inputs.

A constant is fitted to the held-out targets themselves, with the task's own loss, options and
weights of batches. So no other constant has a lower loss there, and a model that has learned
something lies below it.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lrtune.task.batches import Batch, count_examples
from lrtune.task.losses import ROWS, SURE, TINY, KnownLoss, exact
from lrtune.task.random_state import preserve_random_state

MOST_NUMBERS = 2**23  # by convention: of the targets that are kept; no batch is read beyond
HALVINGS = 30  # by convention: of the range of the targets, to a billionth of it


class Guess(NamedTuple):
    """The loss of the best constant prediction, and its standard error."""

    loss: float
    stderr: float  # from the scatter over the rows; infinite with a single row


def best_guess(
    known: KnownLoss,
    batches: Iterable[Batch],
    weigh: Callable[[Batch], float] = count_examples,
) -> Guess | None:
    """Return the loss of the best constant prediction for these batches.

    Where the loss is a sum, it is that of a sample.

    It is constant over the examples, and over the pixels or words that a class is predicted for.
    Regressions and binary targets have a constant for each output of an example, or one for all
    where examples differ in shape.

    Args:
        known: The task's loss, and the shapes of outputs and targets for the first batch.
        batches: The batches (*inputs, target), once. At most the first 8 million numbers of the
            targets are read.
        weigh: The weight of a batch; as many as it has examples by default.

    Returns:
        The loss and its standard error; None where targets are no tensors, or the loss has no best
        constant that is known here.
    """
    solve = _SOLVERS.get(known.function)
    if solve is None or not known.outputs or known.options.get("reduction") == "none":
        return None
    # Reading the batches draws random numbers.
    with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
        parts = _read(batches, known, weigh)
        if parts is None:
            return None
        try:
            with warnings.catch_warnings(action="ignore"):  # torch warns of [n, 1] for targets [n]
                found = _guess(known, parts, solve)
        except (RuntimeError, ValueError):  # such as weights for rows, and a batch with fewer rows
            return None
    return found if math.isfinite(found.loss) else None


@dataclass(frozen=True)
class _Part:
    """The targets of one batch, the shape of the outputs for them, and the weight of its loss."""

    targets: Tensor
    outputs: tuple[int, ...]
    weight: float


def _read(
    batches: Iterable[Batch], known: KnownLoss, weigh: Callable[[Batch], float]
) -> list[_Part] | None:
    """Return the targets of the batches; None if there are none, or if they are no tensors."""
    read: list[tuple[Tensor, float]] = []
    for batch in batches:
        targets = batch[-1]
        if not isinstance(targets, Tensor) or not targets.ndim or targets.is_complex():
            return None
        weight = weigh(batch)
        if not targets.numel() or not weight:
            continue
        read.append((targets.detach().to("cpu", copy=True), weight))
        if sum(one.numel() for one, _ in read) >= MOST_NUMBERS:
            break
    total = sum(weight for _, weight in read)
    if known.options.get("reduction") == "sum":  # weighed by itself, as it grows with the batch
        read = [(targets, 1) for targets, _ in read]
    shapes = [_outputs_for(targets, known) for targets, _ in read]
    return [
        _Part(targets, shape, weight / total)
        for (targets, weight), shape in zip(read, shapes, strict=True)
    ] or None


def _outputs_for(targets: Tensor, known: KnownLoss) -> tuple[int, ...]:
    """Return the shape of the model's outputs for these targets."""
    if known.outputs == known.targets:
        return tuple(targets.shape)
    # Such as [n, 1] for targets [n], which torch spreads to [n, n].
    per_target, left = divmod(known.outputs[0], known.targets[0])
    return (known.outputs[0] if left else per_target * len(targets), *known.outputs[1:])


# --- classes


def _of_labels(known: KnownLoss, parts: Sequence[_Part]) -> Guess:
    """The frequencies of the classes, as log-probabilities."""
    # Counts are enough, and outputs for each word of a large vocabulary would not fit into memory.
    classes, options = known.outputs[1], known.options
    given = options.get("weight")
    weight = torch.ones(classes, dtype=torch.float64) if given is None else given
    smoothing, ignored = options.get("label_smoothing", 0.0), options.get("ignore_index", -100)
    averaged = options.get("reduction", "mean") == "mean"
    pull = torch.zeros(classes, dtype=torch.float64)  # loss = -(pull * log-probabilities).sum()
    for part in parts:
        labels = part.targets.long().flatten()
        counts = torch.bincount(labels[labels != ignored], minlength=classes).double()
        share = part.weight / ((weight * counts).sum() if averaged else counts.new_ones(()))
        pull += share * weight * ((1 - smoothing) * counts + smoothing / classes * counts.sum())
    logs = (pull / pull.sum()).clamp(min=TINY).log()
    # The loss of an example of each class; one more for what is ignored.
    costs = -(1 - smoothing) * weight * logs - smoothing / classes * (weight * logs).sum()
    costs, sizes = torch.cat([costs, costs.new_zeros(1)]), torch.cat([weight, weight.new_zeros(1)])
    rows = []
    for part in parts:
        labels = part.targets.long().reshape(len(part.targets), -1)
        labels = torch.where(labels == ignored, classes, labels)
        rows.append(costs[labels].sum(dim=1) / (sizes[labels].sum(dim=1) if averaged else 1))
    return _with_error(0.0 - float((pull * logs).sum()), torch.cat(rows))


# --- numbers and probabilities


@dataclass(frozen=True)
class _Objective:
    """The loss of constant outputs, as a function of the constant."""

    known: KnownLoss
    parts: Sequence[_Part]  # with targets in float64

    @property
    def count(self) -> int:
        """The number of rows."""
        return sum(len(one.targets) for one in self.parts)

    def value(self, constant: Tensor) -> Tensor:
        """The loss, a mean over the batches."""
        losses = [one.weight * self._loss(one, constant) for one in self.parts]
        return torch.stack(losses).sum()

    def gradient(self, constant: Tensor) -> Tensor:
        """Its derivative by each number of the constant, batch by batch to save memory."""
        leaf = constant.clone().requires_grad_()
        for one in self.parts:
            (one.weight * self._loss(one, leaf)).backward()  # type: ignore[no-untyped-call]
        return torch.zeros_like(constant) if leaf.grad is None else leaf.grad

    def rows(self, constant: Tensor) -> Tensor:
        """The losses of up to `ROWS` single rows, evenly spread."""
        losses, before, every = [], 0, -(-self.count // ROWS)
        for one in self.parts:
            chosen = range(-before % every, len(one.targets), every)
            losses += [self._loss(_row(one, row), constant) for row in chosen]
            before += len(one.targets)
        return torch.stack(losses)

    def _loss(self, part: _Part, constant: Tensor) -> Tensor:
        return self.known(constant.expand(part.outputs), part.targets)


def _row(part: _Part, row: int) -> _Part:
    rows = max(1, part.outputs[0] // len(part.targets))
    return _Part(part.targets[row : row + 1], (rows, *part.outputs[1:]), 1.0)


Solver = Callable[[_Objective, Tensor], Tensor]
"""Returns the best constant, given the loss and a constant of the right shape."""


def _guess(known: KnownLoss, parts: Sequence[_Part], solve: Solver) -> Guess:
    if known.takes_labels:
        return _of_labels(known, parts)
    parts = [_Part(exact(one.targets).double(), one.outputs, one.weight) for one in parts]
    shapes = {one.outputs[1:] for one in parts}
    shape: tuple[int, ...] = shapes.pop() if len(shapes) == 1 else ()
    if known.function is functional.cross_entropy:  # not one for each pixel
        shape = (known.outputs[1], *[1] * (len(known.outputs) - 2))
    objective = _Objective(known, parts)
    constant = solve(objective, torch.zeros(shape, dtype=torch.float64))
    with torch.no_grad():
        loss, rows = float(objective.value(constant)), objective.rows(constant)
    return _with_error(loss, rows, of=objective.count)


def _of_distributions(objective: _Objective, zeros: Tensor) -> Tensor:
    """Cross-entropy: the logs of the mean probabilities."""
    classes = len(zeros)
    if classes < 2:
        return zeros
    # With the pull of a class as above and p its probability, the derivative is
    # p * sum(pull) - pull; all p are 1 / classes here, and the loss is sum(pull) * log(classes).
    total = objective.value(zeros) / math.log(classes)
    pull = total / classes - objective.gradient(zeros)
    return pull.clamp(min=TINY).log()


def _of_logits(objective: _Objective, zeros: Tensor) -> Tensor:
    """Binary cross-entropy: the logits of the rates."""
    # Far out only one side pulls: the zeros for a large logit, the ones for a small one.
    ones, nones = -objective.gradient(zeros - SURE), objective.gradient(zeros + SURE)
    return (ones.clamp(min=TINY).log() - nones.clamp(min=TINY).log()).clamp(-SURE, SURE)


def _of_rates(objective: _Objective, zeros: Tensor) -> Tensor:
    """Binary cross-entropy of probabilities: the rates."""
    # The derivative at p is nones / (1 - p) - ones / p, here for p = 1/2 and p = 1/4.
    half, quarter = objective.gradient(zeros + 1 / 2), objective.gradient(zeros + 1 / 4)
    nones = 3 / 8 * (2 * half - quarter)
    ones = nones - half / 2
    return (ones / (ones + nones)).nan_to_num(0.5).clamp(0, 1)


def _of_means(objective: _Objective, zeros: Tensor) -> Tensor:
    """Squared error: the means, where its derivative, a straight line, is zero."""
    low, high = _bounds(objective, zeros)
    left, right = objective.gradient(low), objective.gradient(high)
    return (low - left * (high - low) / (right - left)).nan_to_num(float(low.flatten()[0]))


def _of_middles(objective: _Objective, zeros: Tensor) -> Tensor:
    """Absolute error and its relatives: where the derivative, which grows, changes its sign."""
    low, high = _bounds(objective, zeros)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rises = objective.gradient(middle) > 0
        low, high = torch.where(rises, low, middle), torch.where(rises, middle, high)
    return (low + high) / 2


def _bounds(objective: _Objective, zeros: Tensor) -> tuple[Tensor, Tensor]:
    low = min(float(one.targets.min()) for one in objective.parts)
    high = max(float(one.targets.max()) for one in objective.parts)
    return zeros + low, zeros + high


_SOLVERS: dict[Callable[..., Tensor], Solver] = {
    functional.cross_entropy: _of_distributions,
    functional.nll_loss: _of_distributions,  # whose targets are labels only
    functional.binary_cross_entropy_with_logits: _of_logits,
    functional.binary_cross_entropy: _of_rates,
    functional.mse_loss: _of_means,
    functional.l1_loss: _of_middles,
    functional.huber_loss: _of_middles,
    functional.smooth_l1_loss: _of_middles,
}


def _with_error(loss: float, rows: Tensor, of: int | None = None) -> Guess:
    """The loss with its standard error, from the losses of `rows`, a sample of `of` rows."""
    known = rows[torch.isfinite(rows)]  # where all targets of a row are ignored, it has no loss
    if len(known) < 2:
        return Guess(loss, math.inf)
    # A share of the mean, as a batch may be a sum over its rows.
    spread, mean = float(known.std()), float(known.mean())
    count = len(known) if of is None else of
    return Guess(loss, abs(loss) * spread / mean / math.sqrt(count) if mean else 0.0)
