"""Numbers in the data that are not finite: where they are, and what they do to the loss."""

import math
from dataclasses import dataclass

import torch

from lrtune.diagnosis.observations.samples import Samples
from lrtune.task.bad_data import odd_numbers_text
from lrtune.task.batches import count_examples, tensors_of
from lrtune.task.checks import TRIAL_LR
from lrtune.task.epochs import FoundBatch
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.states import evaluating
from lrtune.task.task import Task

TRAINING, VALIDATION = "training", "validation"  # the parts of the data


@dataclass(frozen=True)
class OddNumbers:
    """NaN or infinite numbers in one part of the data.

    Attributes:
        part: `training` or `validation`.
        text: Which samples of the first batch with such numbers hold them, and where.
        where: The place of that batch.
        share: Of the samples that were read, those with such numbers.
        loss: The loss of that batch before training; NaN where it raises.
        finite_gradient: Whether its gradient is finite, too.
    """

    part: str
    text: str
    where: str
    share: float
    loss: float
    finite_gradient: bool


def odd_numbers(task: Task, part: str, samples: Samples) -> OddNumbers | None:
    """What is not finite in a part of the data; None where everything that was looked at is.

    Of tensors that are in memory, all rows are looked at.

    Args:
        task: What is looked at.
        part: `training` or `validation`.
        samples: Those of this part.
    """
    with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
        places = [k for k, one in enumerate(samples.found) if odd_numbers_text(one)]
        found = _first(task, part, samples, places)
        if found is None:
            return None
        loss, finite = _loss_of(task, found, training=part == TRAINING)
    share = sum(_odd_rows(samples.found[place]) for place in places) / max(1, samples.count)
    return OddNumbers(part, odd_numbers_text(found), found.where, share, loss, finite)


def _first(task: Task, part: str, samples: Samples, places: list[int]) -> FoundBatch | None:
    """The first batch with such numbers: of those that were read, or of tensors in memory."""
    if part == TRAINING:
        step = None if places else task.train_data.odd_step()
        if step is not None:
            return task.train_data.find(0, step)
        return samples.found[places[0]] if places else None
    val = task.val_data
    place = None if val is None else places[0] if places else val.odd_place()
    return None if val is None or place is None else val.find(place)  # which knows the samples


def _odd_rows(found: FoundBatch) -> int:
    """How many rows of a batch hold such numbers."""
    odd = torch.zeros(count_examples(found.batch), dtype=torch.bool)
    for one in tensors_of(found.batch):
        if one.is_floating_point() and one.layout is torch.strided and one.shape[:1] == odd.shape:
            odd |= (~torch.isfinite(one)).reshape(len(odd), -1).any(1)
    return int(odd.sum())


def _loss_of(task: Task, found: FoundBatch, *, training: bool) -> tuple[float, bool]:
    """The loss of a batch before training, and whether its gradient is finite."""
    state, batch = task.init_state(0, TRIAL_LR), task.to_device(found.batch)
    seed_everything(derive_seed(0, NOISE))
    try:
        if not training:
            with evaluating(state):
                return task.loss(state, batch).item(), True
        loss = task.loss(state, batch)
        loss.backward()  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 - losses such as BCELoss raise on NaN
        return math.nan, False
    gradients = [one.grad for one in state.model.parameters() if one.grad is not None]
    return loss.item(), all(bool(torch.isfinite(one).all()) for one in gradients)
