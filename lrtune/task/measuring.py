"""The losses of models on validation data: per sample, with standard errors, in eval mode."""

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lrtune.errors import TaskError
from lrtune.results.runs import Validation
from lrtune.results.schema import PARTS
from lrtune.task.batches import Batch, count_examples
from lrtune.task.random_state import NOISE, derive_seed, seed_everything

State = TypeVar("State")
Explain = Callable[[int, Exception | None], Exception | None]


@dataclass
class _PartLosses:
    """The losses on the batches of one part."""

    places: list[int] = field(default_factory=list)  # among the batches of all parts
    weights: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    losses: dict[str, list[Tensor]] = field(default_factory=dict)  # of each state

    def add(self, place: int, weight: float, count: int, losses: Mapping[str, Tensor]) -> None:
        self.places.append(place)
        self.weights.append(weight)
        self.counts.append(count)
        for name, loss in losses.items():
            self.losses.setdefault(name, []).append(loss)

    def numbers(self) -> dict[str, NDArray[np.float64]]:
        """The losses of each state as numbers; this waits for the device."""
        stacked = {
            name: torch.stack([one.reshape(()) for one in some])
            for name, some in self.losses.items()
        }
        return {name: some.cpu().double().numpy() for name, some in stacked.items()}

    def validation(self, part: str, each: NDArray[np.float64], *, summed: bool) -> Validation:
        """Return what these losses say together."""
        weights = np.asarray(self.weights)
        mean = mean_and_stderr(each / weights if summed else each, weights)
        return Validation(part, *mean, sum(self.counts))


def measure(
    batches: Iterable[tuple[str, Batch]],
    states: Mapping[str, State],
    loss: Callable[[State, Batch], Tensor],
    place: Callable[[Batch], Batch],
    *,
    weigh: Callable[[Batch], float] = count_examples,
    summed: bool = False,
    explain: Explain = lambda _place, _error: None,
) -> dict[str, list[Validation]]:
    """Return the losses of each state, one for each part, on batches with names of parts.

    All states see each batch in turn. An exception carries a note with the name of its state.

    Args:
        batches: See `ValidationData.batches`.
        states: Names to whatever `loss` takes.
        loss: The loss of a state on a placed batch.
        place: Moves a batch to the device.
        weigh: The weight of a batch.
        summed: Whether the loss is a sum over the batch: then it is divided by the weight.
        explain: Returns what to raise, given the number of a batch on which no state has a finite
            loss, and what one has raised there; None where the states may be to blame.

    Raises:
        TaskError: There is no batch, or none with a weight.
    """
    parts: dict[str, _PartLosses] = {}
    number = -1
    for number, (part, batch) in enumerate(batches):
        if not (weight := weigh(batch)):
            continue
        known, placed = parts.setdefault(part, _PartLosses()), place(batch)
        losses = {}
        for name, state in states.items():
            # A random layer that stays on in eval mode draws the same for every state.
            seed_everything(derive_seed(0, NOISE, sum(known.counts)))
            try:
                losses[name] = loss(state, placed).detach()
            except Exception as error:
                error.add_note(f"while validating {name}")
                if (bad := explain(number, error)) is not None:
                    raise bad from error
                raise
        known.add(number, weight, count_examples(batch), losses)
    if not parts:
        raise no_batch() if number < 0 else no_weight(number + 1)
    found = {part: known.numbers() for part, known in parts.items()}
    for part, numbers in found.items():
        failed = ~np.isfinite(list(numbers.values())).any(axis=0)
        if failed.any() and (bad := explain(parts[part].places[int(failed.argmax())], None)):
            raise bad
    return {
        name: [
            parts[part].validation(part, found[part][name], summed=summed)
            for part in PARTS
            if part in parts
        ]
        for name in states
    }


@contextmanager
def eval_mode(*models: nn.Module) -> Iterator[None]:
    """Put models into eval mode; on exit each of their parts gets its own mode back.

    A method `train()` of the user's own is called then, as a training loop does after validation.
    """
    modes = [(part, part.training) for model in models for part in model.modules()]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        trained = {id(part) for part, mode in modes if mode}
        for model in models:
            call_own_train(model, trained)
        for part, mode in modes:
            part.training = mode


def call_own_train(model: nn.Module, trained: Container[int]) -> None:
    """Call the method `train()` of each part that has one of its own, such as to freeze BatchNorm.

    Args:
        model: A part within another one that has its own `train()` is left to that one.
        trained: The ids of the parts that are in train mode; the others keep theirs.
    """
    own = type(model).train is not nn.Module.train or "train" in vars(model)
    if own and id(model) in trained:
        model.train()
    elif not own:
        for part in model.children():
            call_own_train(part, trained)


def no_batch() -> TaskError:
    """Return the error for validation data without a batch."""
    return TaskError("the validation data gave no batch. Pass data, or leave val out.")


def mean_and_stderr(losses: Any, weights: Any) -> tuple[float, float]:
    """Return the mean loss per example of batches, and its standard error.

    The error comes from the spread of the batches, weighted by their numbers of samples, or by
    `Task(batch_weight=...)`; it is NaN with fewer than two batches.

    >>> mean_and_stderr([1.0, 2.0, 3.0], [10, 10, 10])
    (2.0, 0.5773502691896257)
    >>> mean_and_stderr([1.0, 4.0], [20, 10])[0], mean_and_stderr([1.0], [10])
    (2.0, (1.0, nan))
    """
    each, weights = np.asarray(losses, dtype=float), np.asarray(weights) / sum(weights)
    with np.errstate(invalid="ignore"):  # losses may be infinite
        mean = float(weights @ each)
        squares = float(weights**2 @ (each - mean) ** 2)
    count = len(each)
    return mean, math.sqrt(squares * count / (count - 1)) if count > 1 else math.nan


def no_weight(count: int) -> TaskError:
    """Return the error for validation batches that all have the weight 0."""
    return TaskError(
        f"the validation batches ({count}) all have a weight of 0, so no loss of them counts; "
        "expected some above 0. Look at batch_weight, which gets one batch and returns its weight, "
        "such as lambda batch: len(batch[0]); or at labels that the loss ignores."
    )
