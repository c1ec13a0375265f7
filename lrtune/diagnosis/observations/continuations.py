"""The ways to go on from one state: each a run of a cohort, all of them on the same batches."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lrtune.analysis.curves import Floats, Outcome, leading
from lrtune.results.runs import Run
from lrtune.schedules import Schedule, constant
from lrtune.task.batches import Batch
from lrtune.task.memory import max_runs
from lrtune.task.optimizers import group_rates, multiples, trained_weights
from lrtune.task.random_state import preserve_random_state
from lrtune.task.saved_state import fresh_attributes
from lrtune.task.states import TrainState
from lrtune.task.task import Task
from lrtune.training import Cohort
from lrtune.training.checkpoints import Checkpoint
from lrtune.training.engines import StepSettings
from lrtune.training.engines.loop import RunState
from lrtune.training.engines.varied import Variation, VariedLoop

FORWARD = 1 / 3
"""By convention: the cost of a forward pass, in updates."""


@dataclass(frozen=True)
class Continuation:
    """A way to go on from a state.

    Attributes:
        name: What it is called in sentences and charts.
        factor: Its rate, as a multiple of a given one; 0 leaves the weights as they are.
        batches: How many batches are accumulated for one update.
        averaged: Whether its weights are the mean of those of `AGAIN` so far.
        decays: Whether the optimizer keeps its weight decay.
        fresh: Whether it begins with new weights instead.
    """

    name: str
    factor: float = 1.0
    batches: int = 1
    averaged: bool = False
    decays: bool = True
    fresh: bool = False

    @property
    def still(self) -> bool:
        """Whether it makes no update of its own."""
        return self.averaged or not self.factor

    @property
    def cost(self) -> float:
        """Of one step, in updates."""
        return FORWARD if self.still else 1.0


UNTRAINED = Continuation("untrained", factor=0.0, fresh=True)
REST = Continuation("no update", factor=0.0)
AGAIN = Continuation("the same again")
LOWER = Continuation("rate / 10", factor=0.1)
HIGHER = Continuation("rate x 3", factor=3.0)
HIGHEST = Continuation("rate x 10", factor=10.0)
LARGER = Continuation("batch x 4", batches=4)
AVERAGED = Continuation("averaged weights", averaged=True)
UNDECAYED = Continuation("no weight decay", decays=False)

_STILL = Schedule("0", lambda _progress: 0.0)


class ContinuingLoop(VariedLoop):
    """A loop whose runs all begin with one state, and go on from it in different ways.

    The name of a run is that of its continuation, a slash, and its seed.
    """

    def __init__(self, task: Task, state: TrainState, ways: Sequence[Continuation]) -> None:
        self._ways = {way.name: way for way in ways}
        super().__init__(task, Variation())
        self._origin = state
        self._averaged = Counter[str]()  # how many weights, by run

    def begin(
        self, run: Run, like: str | None = None, checkpoint: Checkpoint | None = None
    ) -> None:
        """Copy the state for the run; it is given neither another run nor a checkpoint."""
        del like, checkpoint
        way = self._way(run.name)
        if way.fresh:
            state = self._task.init_state(run.seed, run.lr)
        else:
            state = self._task.copy_state(self._origin, run.lr)
        if not way.decays:
            for group in state.optimizer.param_groups:
                group["weight_decay"] = 0.0
        peaks = group_rates(state.optimizer)
        self.states[run.name] = RunState(state, peaks, multiples(peaks), fresh_attributes(state))

    def update(
        self, runs: Sequence[Run], batch: Batch, settings: Sequence[StepSettings], noise: int
    ) -> Tensor:
        """Make one update of each run; averages first take in the weights before the update."""
        for run in runs:
            if self._way(run.name).averaged:
                self._average(run)
        return super().update(runs, batch, settings, noise)

    def variation(self, name: str) -> Variation:
        """How many batches a run accumulates for one update."""
        return Variation(self._way(name).batches)

    @torch.no_grad()
    def _average(self, run: Run) -> None:
        """Take the present weights of the run that goes on as before into the mean."""
        source = self.states.get(f"{AGAIN.name}/{run.seed}")
        if source is None:  # it has failed
            return
        self._averaged[run.name] += 1
        own = trained_weights(self.states[run.name].state.optimizer)
        theirs = trained_weights(source.state.optimizer)
        for mean, weight in zip(own, theirs, strict=True):
            mean.lerp_(weight, 1 / self._averaged[run.name])

    def _way(self, name: str) -> Continuation:
        return self._ways[name.rpartition("/")[0]]


@dataclass(frozen=True, eq=False)
class Continued:
    """How some continuations went.

    Attributes:
        losses: Of each continuation by its name, order of the batches x step; NaN from where a run
            has failed. Those of one order saw the same batches.
        val: Validation losses of `AGAIN`, at the half and at the end x order; empty where none
            were measured.
        cost: What was spent, in updates.
    """

    losses: dict[str, Floats]
    val: Floats
    cost: float


def go_on(
    task: Task,
    state: TrainState,
    ways: Sequence[Continuation],
    lr: float,
    steps: int,
    *,
    seeds: Sequence[int],
    samples: int = 0,
) -> Continued:
    """Continue from a state in each way, for so many steps, on the batches of each seed.

    Losses are those of training, before each update and in train mode, so that all continuations
    have the same batches and the same dropout, and no running statistics of BatchNorm lag behind.

    Args:
        task: What is trained.
        state: Where all of them begin; it stays as it is.
        ways: `AVERAGED` needs `AGAIN` among them.
        lr: The rate that the factors are of.
        steps: How many batches each of them sees.
        seeds: Each has an order of the batches of its own.
        samples: On how many validation samples `AGAIN` is measured, halfway and at the end.
    """
    frames, vals, cost = [], [], 0.0
    for seed in seeds:
        for some in _parts(ways, max_runs(task.run_bytes, task.device)):
            runs = [_run(way, lr, seed) for way in some]
            engine = ContinuingLoop(task, state, some)
            cohort = Cohort(
                task, runs, steps, engine=engine, retire=nonfinite, stage="continuations"
            )
            watched = [run for way, run in zip(some, runs, strict=True) if way is AGAIN and samples]
            for end in (steps // 2, steps):
                cohort.advance(end)
                live = [run for run in watched if run in cohort.live]
                vals.extend(_validated(engine, live, samples))
            frames.append(cohort.trace.frame)
            cost += sum(
                way.cost * cohort.updates[run.name] for way, run in zip(some, runs, strict=True)
            )
    cost += FORWARD * len(vals) * samples / task.batch_examples
    curves = {str(name): rows.to_numpy() for name, rows in pd.concat(frames).groupby("run")["loss"]}
    losses = {
        way.name: np.stack([_padded(curves[_run(way, lr, seed).name], steps) for seed in seeds])
        for way in ways
    }
    whole = len(vals) == 2 * len(seeds)
    return Continued(losses, np.reshape(vals, (-1, 2)).T if whole else np.empty((2, 0)), cost)


def nonfinite(losses: Floats) -> tuple[int, Outcome] | None:
    """Retire a run whose loss is not finite, and no other.

    One that begins near its minimum rises above its first loss, and has not diverged.
    """
    usable = leading(np.isfinite(losses))
    return None if usable == len(losses) else (usable, Outcome.NONFINITE)


def _validated(engine: ContinuingLoop, runs: Sequence[Run], samples: int) -> list[float]:
    """The validation losses of some runs of an engine."""
    if not runs:
        return []
    with preserve_random_state(), torch.inference_mode(mode=False), torch.no_grad():
        return [parts[0].loss for parts in engine.validate(runs, samples)]


def _run(way: Continuation, lr: float, seed: int) -> Run:
    shape = _STILL if way.still else constant()
    return Run(f"{way.name}/{seed}", lr * (way.factor or 1.0), shape, seed)


def _padded(losses: Floats, steps: int) -> Floats:
    return np.pad(losses, (0, steps - len(losses)), constant_values=np.nan)


def _parts(ways: Sequence[Continuation], most: int) -> Iterator[Sequence[Continuation]]:
    """Parts of as many continuations as fit into memory; two at least, as an average needs two."""
    ways = sorted(ways, key=lambda way: way not in {AGAIN, AVERAGED})
    for begin in range(0, len(ways), max(2, most)):
        yield ways[begin : begin + max(2, most)]
