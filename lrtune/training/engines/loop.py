"""The reference engine: on each batch one run after the other. Works with every model."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lrtune.results.runs import Run
from lrtune.schedules.torch_schedulers import set_momentum
from lrtune.task.batch import Batch, leaves
from lrtune.task.random_state import seed_everything
from lrtune.task.task import Task, TrainState
from lrtune.training.engines import Pace


@dataclass
class Held:
    """What training one run changes, and the peak rate of each of its parameter groups."""

    state: TrainState
    peaks: list[float]

    def set(self, pace: Pace, loss: Tensor) -> None:
        """Set the optimizer to a pace; every parameter group keeps its ratio to the peak rate."""
        rate = pace.rate if isinstance(pace.rate, float) else pace.rate(float(loss))
        for group, peak in zip(self.state.optimizer.param_groups, self.peaks, strict=True):
            if isinstance(group["lr"], Tensor):  # capturable optimizers keep it on the device
                group["lr"].fill_(peak * rate)
            else:
                group["lr"] = peak * rate
        if pace.momentum is not None:
            set_momentum(self.state.optimizer, pace.momentum)


class Loop:
    """Every run has a model and an optimizer of its own."""

    def __init__(self, task: Task) -> None:
        """Hold no run yet."""
        self._task = task
        self._held: dict[str, Held] = {}

    def begin(self, run: Run, like: str | None = None) -> None:
        """Hold a fresh state for the run, or one that goes on from the state of run `like`."""
        try:
            if like is None:
                state = self._task.init_state(run.seed, run.lr)
            else:
                state = self._task.copy_state(self._held[like].state, run.lr)
        except Exception as error:
            note(error, "starting", run)
            raise
        peaks = [float(group["lr"]) for group in state.optimizer.param_groups]
        self._held[run.name] = Held(state, peaks)

    def update(
        self, runs: Sequence[Run], batch: Batch, paces: Sequence[Pace], noise: int
    ) -> Tensor:
        """One optimizer update of each run on the placed batch; losses before the update."""
        losses = []
        for run, pace in zip(runs, paces, strict=True):
            held = self._held[run.name]
            try:
                seed_everything(noise)
                held.state.optimizer.zero_grad()
                loss = self._loss(held.state, batch, backward=pace.learns)
                if pace.learns:
                    held.set(pace, loss)
                    held.state.optimizer.step()
            except Exception as error:
                note(error, "training", run)
                raise
            losses.append(loss)
        return losses[0] if len(losses) == 1 else torch.cat(losses)

    def _loss(self, state: TrainState, batch: Batch, *, backward: bool) -> Tensor:
        """The loss, shape [1]; NaN where overflowing layers made it raise."""
        try:
            loss = self._task.loss(state, batch)
        except Exception:
            if not _overflows(self._task, state, batch):
                raise
            return torch.full((1,), torch.nan, device=self._task.device)
        if backward:
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach().reshape(1)

    def validate(self, runs: Sequence[Run]) -> list[float]:
        """Mean validation loss of each run."""
        states = {named(run): self._held[run.name].state for run in runs}
        return list(self._task.validate(states).values())

    def drop(self, run: Run) -> None:
        """Forget the run's state."""
        del self._held[run.name]


def note(error: Exception, doing: str, run: Run) -> None:
    """Say in the error which run it ended."""
    error.add_note(f"while {doing} {named(run)}")


def named(run: Run) -> str:
    """A run, in words that no other of its cohort has."""
    return f"run {run.name!r} (peak rate {run.lr:g}, seed {run.seed})"


def _overflows(task: Task, state: TrainState, batch: Batch) -> bool:
    """Whether a layer gives numbers that are not finite.

    Some losses, such as BCELoss, refuse them with an error: the end of one run, not of all.
    """
    finite: list[bool] = []

    def look(_part: nn.Module, _inputs: object, outputs: object) -> None:
        tensors = (leaf for leaf in leaves(outputs) if isinstance(leaf, Tensor))
        finite.extend(bool(torch.isfinite(tensor).all()) for tensor in tensors)

    hooks = [part.register_forward_hook(look) for part in state.model.modules()]
    with suppress(Exception):
        task.loss(state, batch)
    for hook in hooks:
        hook.remove()
    return not all(finite)
