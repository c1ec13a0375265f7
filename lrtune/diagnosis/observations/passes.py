"""A forward and a backward pass of a new state: what it calls, and which weights it reaches."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lrtune.diagnosis.observations.calls import Calls, Watch
from lrtune.diagnosis.observations.origins import graph_leaves
from lrtune.task.batches import Batch, count_examples, map_leaves, tensors_of
from lrtune.task.checks import TRIAL_LR
from lrtune.task.measuring import eval_mode
from lrtune.task.optimizers import trained_weights
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.states import TrainState
from lrtune.task.task import Task


@dataclass(frozen=True)
class Weight:
    """A parameter of the model.

    Attributes:
        name: Its name in the model.
        shape: Its shape.
        trained: Whether it requires a gradient.
        held: Whether the optimizer holds it.
        used: Whether a function of torch was called with it.
        size: Its norm.
        gradient: The norm of its gradient; None where none reaches it.
    """

    name: str
    shape: tuple[int, ...]
    trained: bool
    held: bool
    used: bool
    size: float
    gradient: float | None

    @property
    def reached(self) -> bool:
        """Whether a gradient reaches it."""
        return self.gradient is not None

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Pass:
    """A forward pass in train mode and the backward pass after it.

    Attributes:
        loss: Of the batch.
        calls: What was called.
        weights: The parameters of the model.
        others: Shapes of tensors that got a gradient and are no parameters of the model; by where
            they are: `loss`, `model` (in a list, say) or `objective`.
    """

    loss: float
    calls: Calls
    weights: tuple[Weight, ...]
    others: dict[str, tuple[tuple[int, ...], ...]]


@contextmanager
def as_in_training() -> Iterator[None]:
    """What every forward pass here needs; the user's random states come back."""
    with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
        yield


def first_batches(task: Task, count: int) -> list[Batch]:
    """The first training batches of seed 0."""
    with preserve_random_state():
        stream = task.batches(0)
        return [next(stream) for _ in range(count)]


def watched_passes(task: Task, batches: Sequence[Batch], *, fill: bool = False) -> list[Pass]:
    """A pass for each batch, of one new state without an update; empty where one fails.

    Args:
        task: Makes the state.
        batches: Of the task.
        fill: Whether weights that are zero get random numbers before, so that gradients come
            through them as they will after some updates.
    """
    with as_in_training():
        state = task.init_state(0, TRIAL_LR)
        if fill:
            fill_zeros(state.model)
        return passes_of(task, state, batches)


def passes_of(task: Task, state: TrainState, batches: Sequence[Batch]) -> list[Pass]:
    """A pass of a state for each batch, without an update; empty where one fails."""
    with as_in_training():
        placed = map(task.to_device, batches)
        passes = [_watched_pass(task, state, one, place) for place, one in enumerate(placed)]
    return [] if None in passes else [one for one in passes if one is not None]


def calls_with_fewer_rows(task: Task, batch: Batch) -> Calls | None:
    """What a forward pass of a batch without its last row calls; None where it fails."""
    rows = count_examples(batch)

    def cut(leaf: object) -> object:
        fits = isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == rows
        return leaf[:-1] if fits else leaf  # type: ignore[index]

    with as_in_training():
        state = task.init_state(0, TRIAL_LR)
        loss, calls = _forward(task, state, task.to_device(map_leaves(batch, cut)))
    return None if loss is None else calls


def calls_in_eval(task: Task, batch: Batch) -> Calls:
    """What a forward pass in eval mode calls; nothing where it fails."""
    with as_in_training():
        state, batch = task.init_state(0, TRIAL_LR), task.to_device(batch)
        with eval_mode(state.model):
            return _forward(task, state, batch)[1]


def fill_zeros(model: nn.Module) -> None:
    """Give weights that are zero, as of a last layer, the numbers that they have elsewhere."""
    with torch.no_grad():
        for one in model.parameters():
            if one.ndim > 1 and not one.any():
                one.normal_(std=math.prod(one.shape[1:]) ** -0.5)


def _watched_pass(task: Task, state: TrainState, batch: Batch, place: int) -> Pass | None:
    for one in state.model.parameters():
        one.grad = None
    loss, calls = _forward(task, state, batch, place)
    if loss is None or not loss.requires_grad:
        return None
    others = _others(task, state, batch, loss)
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 - the user's model may raise anything
        return None
    held = {id(one) for one in trained_weights(state.optimizer)}
    weights = tuple(
        Weight(
            name,
            tuple(one.shape),
            one.requires_grad,
            id(one) in held,
            id(one) in calls.used,
            _norm(one.detach()),
            None if one.grad is None else _norm(one.grad),
        )
        for name, one in state.model.named_parameters()
    )
    return Pass(float(loss.detach()), calls, weights, others)


def _forward(
    task: Task, state: TrainState, batch: Batch, place: int = 0
) -> tuple[Tensor | None, Calls]:
    """The loss of a batch, with noise of its place, and the calls; None where the model raises."""
    names = {id(one): name for name, one in state.model.named_parameters()}
    seed_everything(derive_seed(0, NOISE, place))
    try:
        # What torch.compile has made runs as it was written, so that its calls are seen.
        with torch.compiler.set_stance("force_eager"), Watch(names, count_examples(batch)) as watch:
            return task.loss(state, batch), watch.calls
    except Exception:  # noqa: BLE001 - the user's model may raise anything
        return None, Calls()


def _norm(tensor: Tensor) -> float:
    numbers = tensor.coalesce().values() if tensor.is_sparse else tensor
    return float(numbers.double().norm())


# --- what a loss depends on


def _others(
    task: Task, state: TrainState, batch: Batch, loss: Tensor
) -> dict[str, tuple[tuple[int, ...], ...]]:
    """The shapes of leaf tensors that are no parameters of the model, by where they are."""
    known = {*map(id, state.model.parameters()), *graph_leaves(*tensors_of(batch))}
    left = {key: leaf for key, leaf in graph_leaves(loss).items() if key not in known}
    of_loss = list(state.loss.parameters()) if isinstance(state.loss, nn.Module) else []
    places = {"loss": {*map(id, of_loss)}, "model": {*map(id, _unregistered(state.model))}}
    if left.keys() - places["loss"] - places["model"]:
        # Leaves that a pass makes for itself, such as inputs of a gradient penalty, are others in
        # the next one.
        again, _ = _forward(task, state, batch)
        stay = set() if again is None else set(graph_leaves(again))
        places["objective"] = (left.keys() - places["loss"] - places["model"]) & stay
    return {
        place: tuple(tuple(leaf.shape) for key, leaf in left.items() if key in ids)
        for place, ids in places.items()
        if ids & left.keys()
    }


def _unregistered(model: nn.Module) -> Iterator[Tensor]:
    """Tensors in lists and dicts of a model, where `parameters()` does not find them."""
    waiting = [value for part in model.modules() for value in vars(part).values()]
    seen = set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, nn.Module):
            yield from value.parameters()
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
