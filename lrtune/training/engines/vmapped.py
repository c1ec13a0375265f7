"""The fast twin: one forward and backward for all runs of a seed, by `torch.func.vmap`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lrtune.errors import EngineError
from lrtune.results.runs import Run
from lrtune.task.batch import Batch
from lrtune.task.task import Task, TrainState
from lrtune.training.engines import Pace
from lrtune.training.engines.loop import Loop, note
from lrtune.training.engines.stack import Alone, Stack, alone
from lrtune.training.memory import room

BYTES = 2
"""A backward pass needs what the forward pass kept, and as much again for its gradients."""


class Stacked(Loop):
    """Every run has a model and an optimizer of its own, whose tensors are views of a stack.

    The losses equal those of the loop but for rounding (the sums are taken in another order).

    Args:
        task: What is trained.
        chunk: How many runs are stacked at most; as many as fit into the device's memory when
            None. Where that was too many, it is halved.

    Raises:
        EngineError: At the first update, when this task cannot be stacked; the message says why.
    """

    def __init__(self, task: Task, chunk: int | None = None) -> None:
        """Hold no run yet."""
        super().__init__(task)
        self._chunk = chunk
        self._checked = False
        self._stacks: dict[int, tuple[list[str], list[Stack]]] = {}

    def update(
        self, runs: Sequence[Run], batch: Batch, paces: Sequence[Pace], noise: int
    ) -> Tensor:
        """One optimizer update of each run on the placed batch; losses before the update."""
        try:
            return self.together(runs, batch, paces, noise)
        except EngineError as error:
            raise EngineError(
                f"these runs cannot be stacked: {error}. Train them one after the other, with "
                "engine='loop'."
            ) from error

    def together(
        self, runs: Sequence[Run], batch: Batch, paces: Sequence[Pace], noise: int
    ) -> Tensor:
        """The same; an `EngineError` gives the bare reason."""
        while True:
            try:  # all forward and backward passes first: nothing has changed where one fails
                stacks = self._stacks_of(runs, batch, noise)
                steps = [stack.step(batch, noise) for stack in stacks]
            except torch.OutOfMemoryError:
                chunk = self._chunk or len(runs)
                if chunk == 1:
                    raise
                self.part(runs)
                self._chunk = -(-chunk // 2)
            except EngineError:
                raise
            except Exception:  # noqa: BLE001 - the loop does this batch, or says what is wrong
                self.part(runs)
                return Loop.update(self, runs, batch, paces, noise)
            else:
                break
        for stack, step in zip(stacks, steps, strict=True):
            stack.apply(step)
        losses = torch.cat([step.losses for step in steps])
        for run, pace, loss in zip(runs, paces, losses, strict=True):
            held = self._held[run.name]
            try:
                held.set(pace, loss)
                held.state.optimizer.step()
            except Exception as error:
                note(error, "training", run)
                raise
        return losses

    def part(self, runs: Sequence[Run]) -> None:
        """Forget the stack of these runs; each goes on from where it is."""
        self._stacks.pop(runs[0].seed, None)

    def _stacks_of(self, runs: Sequence[Run], batch: Batch, noise: int) -> list[Stack]:
        """The stacks of these runs, made anew where other runs were in them."""
        names = [run.name for run in runs]
        known, stacks = self._stacks.get(runs[0].seed, ([], []))
        if known != names:
            states = [self._held[name].state for name in names]
            try:
                stacks = self._made(states, batch, noise)
            except (EngineError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                reason = str(error).partition("\n")[0]
                raise EngineError(f"{type(error).__name__}: {reason}") from error
            self._stacks[runs[0].seed] = names, stacks
        return stacks

    def _made(self, states: list[TrainState], batch: Batch, noise: int) -> list[Stack]:
        """Stacks of as many states as fit; the first time, checked against a run alone."""
        checked: dict[int, Alone] = {}
        if not self._checked:
            checked[0] = alone(self._task, states[0], batch, noise)
            fit = max(1, int(room(self._task.device) / (BYTES * max(1, checked[0].nbytes))))
            self._chunk = min(self._chunk or len(states), fit)
        size = self._chunk or len(states)
        parts = [states[start : start + size] for start in range(0, len(states), size)]
        stacks = [Stack(self._task, part) for part in parts]
        if checked:
            last = len(parts[0]) - 1
            checked[last] = alone(self._task, states[last], batch, noise)
            stacks[0].check(batch, noise, checked)
            self._checked = True
        return stacks
