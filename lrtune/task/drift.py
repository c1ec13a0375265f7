"""Losses that change by themselves: how the loss of one batch goes while nothing is trained.

The weight of a term may grow with the step (KL annealing), or a model may count its forward passes.
"""

from collections.abc import Callable

import numpy as np
from scipy.signal import savgol_filter
from torch import Tensor, enable_grad, inference_mode, nn

from lrtune.analysis.curves import Floats, drifts, leading, least_trend
from lrtune.errors import add_location
from lrtune.task.batches import clone_batch, to_device
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.states import StateMaker, TrainState
from lrtune.task.value_texts import PLAIN, text_digest, value_texts

TRIAL = 16  # by convention: forward passes that show whether a loss changes by itself
WIDTH = 5  # by convention: steps of an untrained run that are smoothed together


class Untrained:
    """The losses of a state on one batch, step after step, while nothing is trained.

    Args:
        make: Makes the state.
        loss: Returns its loss on the batch.
    """

    def __init__(
        self, make: Callable[[], TrainState], loss: Callable[[TrainState], Tensor]
    ) -> None:
        self._loss, self._losses = loss, list[float]()
        with preserve_random_state(), inference_mode(mode=False), enable_grad():
            self._state = make()

    def memory(self) -> str:
        """Return a text that differs where a step may change the next one.

        It covers buffers and numbers of the modules, and what the loss function captures.
        """
        state = self._state
        modules = [
            part
            for one in (state.model, state.loss)
            if isinstance(one, nn.Module)
            for part in one.modules()
        ]
        numbers = [
            {name: one for name, one in vars(part).items() if isinstance(one, (*PLAIN, Tensor))}
            for part in modules
        ]
        buffers = [dict(part.named_buffers(recurse=False)) for part in modules]
        captured = None if isinstance(state.loss, nn.Module) else state.loss
        return text_digest(value_texts((numbers, buffers, captured)))

    def losses(self, steps: int) -> Floats:
        """Return the losses of the first so many steps, with the same random numbers at each."""
        with preserve_random_state(), inference_mode(mode=False), enable_grad():
            while len(self._losses) < steps:
                seed_everything(derive_seed(0, NOISE))
                try:
                    self._losses.append(float(self._loss(self._state).detach()))
                except Exception as error:
                    passes = f"pass {len(self._losses) + 1} of the first batch"
                    add_location(error, f"in {passes} through a model that is not trained")
                    raise
        return np.array(self._losses[:steps])


class Drift:
    """How a loss changes by itself.

    Attributes:
        shared: Whether the change hangs on something that all runs share, such as a counter in the
            objective; else on model and loss module, of which each run has a copy.
        tried: The change over the steps that showed it, from 0 on.
    """

    def __init__(self, untrained: Untrained, steps: int, *, shared: bool) -> None:
        self.shared, self._untrained = shared, untrained
        self.tried = self._changes(steps)

    def _changes(self, steps: int) -> Floats:
        losses = self._untrained.losses(steps)
        return losses - losses[:1]

    def within(self, steps: int) -> float:
        """Return the largest change within so many steps, with its sign.

        Where it is shared, within the steps that showed it: computing more of them would change the
        losses of the runs.
        """
        changes = self.tried if self.shared else self._changes(steps)
        return float(changes[np.abs(changes).argmax()]) if len(changes) else 0.0

    def without(self, losses: Floats, first: int = 0, twin: Floats | None = None) -> Floats:
        """Return losses without what has changed by itself since the first of them.

        Args:
            losses: Of a run, at consecutive steps.
            first: The first of these steps.
            twin: Losses of an untrained run beside it, from step 0 on. Only where the change is
                shared do they tell it; without them such losses stay as they are.
        """
        if not len(losses):
            return losses
        if not self.shared:
            change = self._changes(first + len(losses))[first:]
        else:
            change = _smoothed(twin, first + len(losses))[first:]
        return losses - np.where(np.isfinite(change), change - change[0], 0.0)


def in_every_run(drift: Drift | None) -> bool:
    """Return whether a loss changes by itself, in every run as in an untrained one."""
    return drift is not None and not drift.shared


def _smoothed(twin: Floats | None, steps: int) -> Floats:
    """Return the course of an untrained run without the noise of its batches."""
    known = np.zeros(0) if twin is None else twin[: min(leading(np.isfinite(twin)), steps)]
    if not len(known):
        return np.zeros(steps)
    if len(known) > 2:
        width = min(WIDTH, len(known) - 1 + len(known) % 2)  # an odd number
        known = savgol_filter(known, width, polyorder=1)
    return np.append(known, np.full(steps - len(known), known[-1]))


class DriftTrial:
    """Whether the loss of a task changes by itself, tried on its first batch as far as is asked.

    Args:
        maker: Makes the task's states.
        resolution: The smallest step between two losses.
    """

    def __init__(self, maker: StateMaker, resolution: float) -> None:
        self._maker, self._resolution = maker, resolution
        self._tried, self._found = 0, None  # type: int, Drift | None

    def within(self, steps: int) -> Drift | None:
        """Return how it changes, where that shows within so many steps; it is measured once."""
        if self._found is None and steps > self._tried:
            self._tried, self._found = steps, self._measured(steps)
        return self._found

    def _untrained(self) -> Untrained:
        with inference_mode(mode=False):
            batch = to_device(clone_batch(self._maker.first), self._maker.device)
        return Untrained(
            lambda: self._maker.init(0, TRIAL_LR), lambda state: self._maker.loss(state, batch)
        )

    def _measured(self, steps: int) -> Drift | None:
        first = self._untrained()
        before, (once, twice) = first.memory(), first.losses(2)
        if once == twice and first.memory() == before:
            return None  # nothing is different the next time
        losses = first.losses(steps)
        if not drifts(losses, self._resolution):
            return None
        # A new copy begins where the first one began, unless the count is kept elsewhere.
        again = self._untrained().losses(1)
        apart = abs(float(again[0] - losses[0]))
        return Drift(first, steps, shared=apart > least_trend(losses, self._resolution))
