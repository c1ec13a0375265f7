"""The reference engine: one run after the other on each batch. Works with every model."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lrtune.errors import quantity
from lrtune.results.runs import Run, Validation
from lrtune.schedules import Schedule
from lrtune.schedules.torch_schedulers import set_momentum
from lrtune.task.batches import Batch, count_examples, tensors_of
from lrtune.task.memory import is_out_of_memory
from lrtune.task.optimizers import GroupRates, group_rates, multiples
from lrtune.task.random_state import seed_everything
from lrtune.task.rate_checks import refuse_changed_rates
from lrtune.task.saved_state import Fresh, fresh_attributes, restore_state, save_state
from lrtune.task.states import TrainState
from lrtune.task.task import Task
from lrtune.training.checkpoints import Checkpoint, add_peaks
from lrtune.training.engines import StepSettings


@dataclass
class RunState:
    """Model and optimizer of one run, the rates of its groups, and how it began."""

    state: TrainState
    peaks: list[float]  # of each group
    rates: GroupRates  # of each group, by the multiplier of the peak rate
    fresh: Fresh  # its attributes before the first update
    given: list[float] | None = None  # the rates of the last update; None before the first

    def set_rates(self, settings: StepSettings, loss: Tensor) -> None:
        """Give each group of the optimizer its rate at this step, and the schedule's momentum."""
        rate = settings.rate
        if not isinstance(rate, float):
            rate = rate(float(loss))  # a feedback schedule waits for the device here
        groups, rates = self.state.optimizer.param_groups, self.rates(rate)
        if self.given is not None and not any(isinstance(one["lr"], Tensor) for one in groups):
            refuse_changed_rates(self.state.optimizer, self.given)
        self.given = rates
        for group, lr in zip(groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):  # capturable optimizers keep it on the device
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        if settings.momentum is not None:
            set_momentum(self.state.optimizer, settings.momentum)

    def step(self, settings: StepSettings, loss: Tensor) -> None:
        """Step the optimizer with the rates of this step."""
        self.set_rates(settings, loss)
        self.state.optimizer.step()


class Loop:
    """Updates the runs one after the other on each batch, as an ordinary training loop does."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.states: dict[str, RunState] = {}

    def begin(
        self, run: Run, like: str | None = None, checkpoint: Checkpoint | None = None
    ) -> None:
        """Create a fresh state for the run, copy that of run `like`, or restore a checkpoint."""
        with name_run_in_errors("starting", run):
            if like is None:
                state = self._task.init_state(run.seed, run.lr)
                fresh = fresh_attributes(state)
            else:
                parent = self.states[like]
                state, fresh = self._task.copy_state(parent.state, run.lr), parent.fresh
            peaks = group_rates(state.optimizer)
            rates = self._task.swept_rates(run.seed, run.lr) if swept(run) else multiples(peaks)
            if checkpoint is not None:
                restore_state(state, checkpoint)
        self.states[run.name] = RunState(state, peaks, rates, fresh)

    def update(
        self, runs: Sequence[Run], batch: Batch, settings: Sequence[StepSettings], noise: int
    ) -> Tensor:
        """Make one optimizer update of each run; see `Engine`."""
        losses = []
        for run, setting in zip(runs, settings, strict=True):
            with name_run_in_errors("training", run):
                # Seeded again for each run, so that its random layers draw what those of its
                # neighbours draw, however many there are.
                seed_everything(noise)
                losses.append(self.update_run(run, batch, setting))
        return losses[0] if len(losses) == 1 else torch.cat(losses)

    def update_run(self, run: Run, batch: Batch, settings: StepSettings) -> Tensor:
        """Make one update of a run, and return its loss before it, shape [1]."""
        held = self.states[run.name]
        held.state.optimizer.zero_grad()
        loss = self.loss(held.state, batch, backward=settings.learns)
        if settings.learns:
            held.step(settings, loss)
        return loss

    def loss(
        self, state: TrainState, batch: Batch, *, backward: bool, share: float = 1.0
    ) -> Tensor:
        """Return the loss, shape [1]; NaN where it raised because a layer overflowed.

        Its gradient is added to those of the parameters, multiplied by `share`.
        """
        try:
            loss = self._task.loss(state, batch)
        except Exception as error:
            if is_out_of_memory(error) or not _overflows(self._task, state, batch):
                _note_short_batch(error, batch, self._task.batch_examples)
                raise
            return torch.full((1,), torch.nan, device=self._task.device)
        if backward:
            part = loss if share == 1.0 else share * loss
            part.backward()  # type: ignore[no-untyped-call]
        return loss.detach().reshape(1)

    def validate(self, runs: Sequence[Run], samples: int | None = None) -> list[list[Validation]]:
        """Return the validation losses of each run; see `Task.validate`."""
        states = {describe_run(run): self.states[run.name].state for run in runs}
        return list(self._task.validate(states, samples).values())

    def finite(self, run: Run) -> bool:
        """Return whether the weights of the run are finite; see `Engine`."""
        model = self.states[run.name].state.model
        weights = [one.detach() for one in model.parameters() if one.requires_grad]
        dense = [one.coalesce().values() if one.is_sparse else one for one in weights]
        return bool(torch.stack([torch.isfinite(one).all() for one in dense]).all())

    def checkpoint(self, run: Run, *, ended: bool) -> Checkpoint:
        """Return the run's model, optimizer and loss; see `Engine`."""
        held = self.states[run.name]
        with name_run_in_errors("saving", run):
            saved = save_state(held.state, held.fresh)
            add_peaks(saved["optimizer"], held.peaks)
            # Only at the end: whatever counts its calls would go on otherwise.
            saved["first_loss"] = self._task.first_loss(held.state) if ended else math.nan
        return saved

    def drop(self, run: Run) -> None:
        """Delete the run's state."""
        del self.states[run.name]


class LoopStates:
    """Base of engines that update the states which a `Loop` creates, validates and deletes."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.begin, self.validate, self.drop = loop.begin, loop.validate, loop.drop
        self.checkpoint, self.finite = loop.checkpoint, loop.finite


def swept(run: Run) -> bool:
    """Return whether the schedule of a run varies the rate itself, as a range test does."""
    return isinstance(run.schedule, Schedule) and run.schedule.sweeps


@contextmanager
def name_run_in_errors(doing: str, run: Run) -> Iterator[None]:
    """Note in an error which run it stopped."""
    try:
        yield
    except Exception as error:
        error.add_note(f"while {doing} {describe_run(run)}")
        raise


def describe_run(run: Run) -> str:
    """Return name, rate and seed of a run, for messages."""
    return f"run {run.name!r} (lr {run.lr:g}, seed {run.seed})"


def describe_runs(runs: Sequence[Run]) -> str:
    """Describe the first of some runs, and count the others."""
    first, more = runs[0], len(runs) - 1
    return f"{describe_run(first)} and {more} more" if more else describe_run(first)


def _overflows(task: Task, state: TrainState, batch: Batch) -> bool:
    """Return whether a layer outputs numbers that are not finite.

    Losses such as BCELoss raise on them. That should end one run, not all of them.
    """
    finite: list[bool] = []

    def look(_part: nn.Module, _inputs: object, outputs: object) -> None:
        finite.extend(bool(torch.isfinite(tensor).all()) for tensor in tensors_of(outputs))

    hooks = [part.register_forward_hook(look) for part in state.model.modules()]
    with suppress(Exception):
        task.loss(state, batch)
    for hook in hooks:
        hook.remove()
    return not all(finite)


def _note_short_batch(error: Exception, batch: Batch, usual: int) -> None:
    """Note in an error that its batch has fewer rows than the first one, which has `usual`."""
    rows = count_examples(batch)
    if tensors_of(batch) and rows < usual:
        error.add_note(
            f"this batch has {quantity(rows, 'row')}, the first one {usual}: leave short batches "
            "out (drop_last=True)"
        )
