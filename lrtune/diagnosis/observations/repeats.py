"""Whether the loss of a batch is the same the next time, and whatever batch came before."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lrtune.diagnosis.observations.passes import as_in_training
from lrtune.task.batches import Batch
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import NOISE, derive_seed, seed_everything
from lrtune.task.states import TrainState
from lrtune.task.task import Task

BATCHES = 4
"""The first one, two that come second, and the one whose loss is looked at."""

ROUNDS = 2  # more, where something differs

RESOLUTION = 2e-6
"""By convention: a share of the loss, some sixteen times what float32 resolves. The state that an
LSTM keeps moves the loss of the next batch by a share of 4e-5."""


@dataclass(frozen=True)
class Repeats:
    """Losses of two batches in train mode, of new states without an update; always the same noise.

    Attributes:
        first: The losses of the first batch, of as many new states.
        same_weights: Whether new states have the same weights.
        after_one: The losses of the last batch after the first batch and one other.
        after_other: The same after the first batch and another one.
        exchanged: The same as `after_one`, with the buffers that the other batch left; NaN where
            nothing differs.
    """

    first: tuple[float, ...]
    same_weights: bool
    after_one: tuple[float, ...]
    after_other: tuple[float, ...]
    exchanged: float = math.nan


def repeat(task: Task, batches: Sequence[Batch]) -> Repeats | None:
    """See the same batches again; None where a pass fails.

    Args:
        task: Makes the states.
        batches: As many as `BATCHES`.
    """
    with as_in_training():
        first, one, other, last = (task.to_device(batch) for batch in batches)
        ways = [[first, one], [first, other]]
        states = _new_states(task)
        same = all(map(torch.equal, *(list(state.model.parameters()) for state in states)))
        try:
            firsts, lasts = _losses(task, states, ways, last)
            if math.isclose(*lasts, rel_tol=RESOLUTION) or any(map(math.isnan, lasts)):
                return Repeats(firsts, same, lasts[:1], lasts[1:])
            # Once more, as a loss may also count its passes, or draw random numbers of its own.
            rounds = [_losses(task, _new_states(task), ways, last) for _ in range(ROUNDS)]
            states = _new_states(task)
            for state, way in zip(states[::-1], ways[::-1], strict=True):
                _pass_through(task, state, way)  # the taker comes last: an objective may keep it
            _hand_over_buffers(states[1], states[0])
            exchanged = _loss(task, states[0], last)
        except Exception:  # noqa: BLE001 - the user's model may raise anything
            return None
    firsts += tuple(loss for some, _ in rounds for loss in some)
    after_one, after_other = zip(*(lasts for _, lasts in rounds), strict=True)
    return Repeats(firsts, same, after_one, after_other, exchanged)


def _new_states(task: Task) -> list[TrainState]:
    return [task.init_state(0, TRIAL_LR) for _ in range(2)]


def _losses(
    task: Task, states: Sequence[TrainState], ways: Sequence[Sequence[Batch]], last: Batch
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The losses of the first batch and of the last one, for each state after its own batches."""
    firsts, lasts = [], []
    for state, way in zip(states, ways, strict=True):
        firsts.append(_pass_through(task, state, way))
        lasts.append(_loss(task, state, last))
    return tuple(firsts), tuple(lasts)


def _pass_through(task: Task, state: TrainState, batches: Sequence[Batch]) -> float:
    """Let batches through; returns the loss of the first one."""
    first, *_others = [_loss(task, state, batch) for batch in batches]
    return first


def _loss(task: Task, state: TrainState, batch: Batch) -> float:
    seed_everything(derive_seed(0, NOISE))
    return task.loss(state, batch).item()


def _hand_over_buffers(giver: TrainState, taker: TrainState) -> None:
    modules = [
        (getattr(giver, part), getattr(taker, part))
        for part in ("model", "loss")
        if isinstance(getattr(giver, part), torch.nn.Module)
    ]
    for theirs, own in modules:
        given = dict(theirs.named_buffers())
        for name, buffer in own.named_buffers():
            if name in given and given[name].shape == buffer.shape:
                buffer.copy_(given[name])
