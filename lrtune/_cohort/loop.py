"""The reference engine: on each batch one run after the other. Works with every model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from lrtune._cohort.engine import Pace
from lrtune.data import Batch, leaves
from lrtune.export import set_momentum
from lrtune.randomness import seed_all
from lrtune.runs import Run
from lrtune.task import State, Task


class Loop:
    """Every run has a model and an optimizer of its own."""

    def __init__(self, task: Task) -> None:
        """Hold no run yet."""
        self._task = task
        self._states: dict[str, State] = {}
        self._peaks: dict[str, list[float]] = {}

    def begin(self, run: Run, like: str | None = None) -> None:
        """Hold a fresh state for the run, or one that goes on from the state of run `like`."""
        task = self._task
        with _noted("starting", run):
            state = (
                task.begin(run.seed, run.lr)
                if like is None
                else task.copy_of(self._states[like], run.lr)
            )
        self._states[run.name] = state
        self._peaks[run.name] = [float(group["lr"]) for group in state.optimizer.param_groups]

    def update(
        self, runs: Sequence[Run], batch: Batch, paces: Sequence[Pace], noise: int
    ) -> Sequence[Tensor]:
        """One optimizer update of each run on the placed batch; losses before the update."""
        losses = []
        for run, pace in zip(runs, paces, strict=True):
            state = self._states[run.name]
            with _noted("training", run):
                seed_all(noise)
                state.optimizer.zero_grad()
                losses.append(self._backward(state, batch))
                rate = pace.rate if isinstance(pace.rate, float) else pace.rate(float(losses[-1]))
                self._set(run, rate, pace.momentum)
                state.optimizer.step()
        return losses

    def _backward(self, state: State, batch: Batch) -> Tensor:
        """The loss, once its gradients are there; NaN where overflowing layers made it raise."""
        try:
            loss = self._task.loss(state, batch)
        except Exception:
            if not _overflows(self._task, state, batch):
                raise
            return torch.tensor(torch.nan, device=self._task.device)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach().reshape(())

    def _set(self, run: Run, rate: float, momentum: float | None) -> None:
        """Every parameter group keeps its ratio to the peak rate."""
        optimizer = self._states[run.name].optimizer
        for group, peak in zip(optimizer.param_groups, self._peaks[run.name], strict=True):
            if isinstance(group["lr"], Tensor):  # capturable optimizers keep it on the device
                group["lr"].fill_(peak * rate)
            else:
                group["lr"] = peak * rate
        if momentum is not None:
            set_momentum(optimizer, momentum)

    def validate(self, run: Run) -> float:
        """Mean validation loss of the run."""
        with _noted("validating", run):
            return self._task.validate(self._states[run.name])

    def drop(self, run: Run) -> None:
        """Forget the run's state."""
        del self._states[run.name], self._peaks[run.name]


def _overflows(task: Task, state: State, batch: Batch) -> bool:
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


@contextmanager
def _noted(doing: str, run: Run) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"while {doing} run {run.name!r} (peak rate {run.lr:g}, seed {run.seed})")
        raise
