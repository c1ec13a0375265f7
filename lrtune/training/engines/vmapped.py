"""The engine `vmapped`: one forward and backward pass for all runs of a seed, by `vmap`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lrtune.errors import EngineError
from lrtune.results.runs import Run
from lrtune.task.batches import Batch
from lrtune.task.memory import is_out_of_memory, max_vmapped_runs
from lrtune.task.states import TrainState
from lrtune.task.task import Task
from lrtune.training.engines import StepSettings
from lrtune.training.engines.loop import Loop, LoopStates, name_run_in_errors
from lrtune.training.engines.stacked import LossAndGrads, VmappedModels, loop_pass


class Vmapped(LoopStates):
    """Trains all runs of a seed in one pass; each keeps its own model and optimizer.

    Their weights are views of stacked tensors. Losses equal those of the loop up to rounding,
    because sums are taken in another order.

    Args:
        task: What is trained.
        chunk: The most runs in one pass; `lrtune.task.memory` decides when None. It is halved
            when the device runs out of memory.
        loop: Holds the states of the runs; a new one when None.

    Raises:
        EngineError: At the first update, when `vmap` cannot train this task; the message says why.
    """

    def __init__(self, task: Task, chunk: int | None = None, loop: Loop | None = None) -> None:
        super().__init__(Loop(task) if loop is None else loop)
        self._task, self._chunk = task, chunk
        self._checked = False
        self._stacks: dict[int, tuple[list[str], list[VmappedModels]]] = {}

    def update(
        self, runs: Sequence[Run], batch: Batch, settings: Sequence[StepSettings], noise: int
    ) -> Tensor:
        """Make one optimizer update of each run; see `Engine`."""
        try:
            return self.try_update(runs, batch, settings, noise)
        except EngineError as error:
            raise EngineError(
                f"the vmapped engine cannot train these runs: {error}. Use engine='loop'."
            ) from error

    def try_update(
        self, runs: Sequence[Run], batch: Batch, settings: Sequence[StepSettings], noise: int
    ) -> Tensor:
        """Update like `update`; an `EngineError` holds the bare reason only."""
        while True:
            try:  # all passes come before any change, so that a failed one can be repeated
                stacks = self._stacks_of(runs, batch, noise)
                steps = [stack.step(batch, noise) for stack in stacks]
                break
            except EngineError:
                raise
            except Exception as error:
                self.unstack(runs)  # frees memory, and no run has been updated yet
                if not is_out_of_memory(error):  # the loop trains this batch, or raises the error
                    return self._loop.update(runs, batch, settings, noise)
                chunk = self._chunk or len(runs)
                if chunk == 1:
                    raise
                self._chunk = -(-chunk // 2)
        for stack, step in zip(stacks, steps, strict=True):
            stack.apply(step)
        losses = torch.cat([step.losses for step in steps])
        for run, setting, loss in zip(runs, settings, losses, strict=True):
            with name_run_in_errors("training", run):
                self._loop.states[run.name].step(setting, loss)
        return losses

    def unstack(self, runs: Sequence[Run]) -> None:
        """Forget the stacked tensors; the runs' own, views of them, go on from where they are."""
        self._stacks.pop(runs[0].seed, None)

    def _stacks_of(self, runs: Sequence[Run], batch: Batch, noise: int) -> list[VmappedModels]:
        """Return the stacked models of these runs, made anew when the runs have changed."""
        names = [run.name for run in runs]
        known, stacks = self._stacks.get(runs[0].seed, ([], []))
        if known != names:
            states = [self._loop.states[name].state for name in names]
            try:
                stacks = self._stacked(states, batch, noise)
            except EngineError:
                raise
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
                raise EngineError(f"{type(error).__name__}: {reason}") from error
            self._stacks[runs[0].seed] = names, stacks
        return stacks

    def _stacked(self, states: list[TrainState], batch: Batch, noise: int) -> list[VmappedModels]:
        """Stack as many states as fit; the first time, compare the result with the loop."""
        references: dict[int, LossAndGrads] = {}
        if not self._checked:
            references[0], saved = loop_pass(self._task, states[0], batch, noise)
            fit = max_vmapped_runs(saved, self._task.device)
            self._chunk = min(self._chunk or len(states), fit)
        size = self._chunk or len(states)
        parts = [states[start : start + size] for start in range(0, len(states), size)]
        stacks = [VmappedModels(self._task, part) for part in parts]
        if references:
            last = len(parts[0]) - 1  # a fault of the stacking would show in the last place
            references[last], _ = loop_pass(self._task, states[last], batch, noise)
            stacks[0].check(batch, noise, references)
            self._checked = True
        return stacks
