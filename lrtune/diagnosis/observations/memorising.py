"""Some hundred samples learned by heart: what becomes of the loss on held-out data meanwhile?"""

import itertools
import math
from dataclasses import dataclass

import torch

from lrtune.diagnosis.observations.one_batch import OneBatch, with_adam
from lrtune.errors import CheckpointError
from lrtune.results.runs import Run, Validation
from lrtune.results.schema import SELECTION
from lrtune.task.batches import Batch
from lrtune.task.part_guess import TRAIN
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.states import TrainState, evaluating
from lrtune.task.task import Task
from lrtune.training import Cohort

SAMPLES, MOST_BATCHES = 128, 8  # by convention: small nets learn so many by heart
LOOKS = (10, 25, 55)  # updates after which held-out data are looked at
VAL_SAMPLES = 200  # by convention: at each look
MEMORISING, HELD_OUT = LOOKS[-1], VAL_SAMPLES * len(LOOKS)  # what it costs: updates, samples


@dataclass(frozen=True)
class Memorised:
    """A training on a few batches, again and again; losses are per sample.

    Attributes:
        samples: How many were learned.
        lr: The rate, of Adam.
        losses: The training losses, one per update, each the mean over a pass of the batches.
        guess: Of the best constant prediction for these batches; NaN where it is unknown.
        in_eval: Their loss at the end in eval mode; NaN where nobody knows.
        held_out: Updates to the held-out loss.
    """

    samples: int
    lr: float
    losses: tuple[float, ...]
    guess: float
    in_eval: float
    held_out: dict[int, Validation]


def memorise(task: Task, tried: OneBatch) -> Memorised:
    """Train on the first batches only; it costs 55 updates and three validations.

    Args:
        task: It has validation data.
        tried: Tells which rate of Adam learned one batch.
    """
    count = max(1, min(MOST_BATCHES, SAMPLES // task.batch_examples))
    with preserve_random_state(), torch.inference_mode(mode=False):
        batches = list(itertools.islice(task.batches(0), count))
    few, lr, size = with_adam(task.trained_on(batches)), tried.adam_lr, task.loss_kind.summed
    run = Run("few", lr)
    cohort = Cohort(few, [run], LOOKS[-1])
    for look in LOOKS:
        if cohort.advance(look).live:
            cohort.validate(VAL_SAMPLES)
    trace, guess = cohort.trace, few.guess(TRAIN)
    losses = [float(one) / size for one in trace.frame["loss"]]
    rows = trace.validations[trace.validations["part"] == SELECTION]
    return Memorised(
        count * task.batch_examples,
        lr,
        tuple(_means(losses, count)),
        math.nan if guess is None else guess.loss,
        _in_eval(few, cohort, run, batches) / size,
        {
            int(row.step): Validation(row.part, row.loss, row.stderr, row.samples)
            for row in rows.itertuples()
        },
    )


def _means(losses: list[float], count: int) -> list[float]:
    """The mean of each `count` successive losses."""
    return [math.fsum(losses[k : k + count]) / count for k in range(len(losses) - count + 1)]


def _in_eval(task: Task, cohort: Cohort, run: Run, batches: list[Batch]) -> float:
    """The mean loss of the batches in eval mode; NaN where it cannot be had."""
    if not cohort.live:
        return math.nan
    try:
        state = cohort.inspect(run.name)
    except CheckpointError:  # of a state that is no plain data
        return math.nan
    with preserve_random_state(), torch.inference_mode(mode=False), evaluating(state):
        losses = [_loss(task, state, batch) for batch in batches]
    return math.fsum(losses) / len(losses)


def _loss(task: Task, state: TrainState, batch: Batch) -> float:
    seed_everything(derive_seed(0, NOISE))
    try:
        return task.loss(state, task.to_device(batch)).item()
    except Exception:  # noqa: BLE001 - the user's model may raise anything in this mode
        return math.nan
