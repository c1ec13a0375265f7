"""Evaluators that train nothing: worlds whose losses follow from rate, schedule, seed and step."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lrtune import Run, Trace
from lrtune.results.schema import COSTS, RUNS, TRACE, VALIDATIONS, as_table

HALF = 100
"""Validation samples of each half."""


@dataclass
class World:
    """A task whose best peak is known.

    The loss of a run falls from `start` towards a floor of its own, which is lowest at `best` and
    rises by `curvature` per squared unit of the log rate; faster at high rates, as in life. Above
    `edge` runs diverge.

    Attributes:
        best: The best peak.
        start: The loss before training.
        lowest: The loss at the best peak after a whole training.
        curvature: Of the log loss over the log rate.
        noise: Standard deviation of a whole training's log loss between seeds.
        edge: The rate above which runs diverge.
        scale: Every loss is multiplied by it.
        shift: And then this is added.
        validates: Whether there are validation data.
        learns: Whether anything is learned at all.
        calls: (stage, names of runs, steps, until, validate) of every call.
        trained: Name of a run to the step up to which it was trained.
    """

    best: float = 0.05
    start: float = 2.3
    lowest: float = 0.1
    curvature: float = 0.2
    noise: float = 0.0
    edge: float = math.inf
    scale: float = 1.0
    shift: float = 0.0
    validates: bool = True
    learns: bool = True
    calls: list[tuple[str, list[str], int, int, int | None]] = field(default_factory=list)
    trained: dict[str, int] = field(default_factory=dict)
    updates: int = 0

    def __call__(
        self,
        runs: Sequence[Run],
        steps: int,
        *,
        stage: str,
        validate: int | None = None,
        until: int | None = None,
        checkpoint: bool = False,
    ) -> Trace:
        """Answer as an evaluator does."""
        end = steps if until is None else until
        self.calls.append((stage, [run.name for run in runs], steps, end, validate))
        frames, rows, vals, costs = [], [], [], []
        for run in runs:
            losses, outcome = self.losses(run, steps, end)
            told = outcome or ("FINISHED" if end == steps else "PAUSED")
            rows.append((run.name, run.lr, repr(run.schedule), run.seed, told, len(losses), ""))
            columns = {"run": run.name, "step": range(len(losses)), "lr": run.lr, "loss": losses}
            frames.append(pd.DataFrame(columns | {"batch": 0}))
            new = end - self.trained.get(run.name, 0)
            self.trained[run.name], self.updates = end, self.updates + new
            if validate != 0 and self.validates and not outcome:
                parts = ("selection", "test") if validate is None else ("selection",)
                count = HALF if validate is None else min(validate, HALF)
                vals += [(run.name, end, part, losses[-1], 0.0, count) for part in parts]
            costs.append((run.name, new, 0, 0.0))
        return Trace(
            steps=steps,
            frame=as_table(pd.concat(frames), TRACE),
            runs=as_table([row[: len(RUNS)] for row in rows], RUNS),
            validations=as_table(vals, VALIDATIONS),
            costs=as_table(costs, COSTS),
        )

    def losses(self, run: Run, steps: int, end: int) -> tuple[np.ndarray, str]:
        """The losses of a run up to a step, and how it failed, if it did."""
        progress = np.arange(end) / steps
        rates = np.array([run.lr * run.schedule(p) for p in progress])
        if not rates.any() or not self.learns:
            return self.told(np.full(end, self.start)), ""
        if run.lr > self.edge:
            return self.told(np.array([self.start, 9.0, 99.0, math.nan])), "NONFINITE"
        luck = self.noise * np.random.default_rng(run.seed + 1).normal()
        floor = self.final(run.lr) * math.exp(luck)
        # Half of the fall is done when the summed rate is ten times the best.
        spent = np.cumsum(rates) - rates  # by the updates before a loss
        done = spent / (spent + 10 * self.best)
        return self.told(floor + (self.start - floor) * (1 - done) ** 2), ""

    def final(self, lr: float) -> float:
        """The loss of a whole training without luck."""
        rise = self.curvature * math.log(lr / self.best) ** 2
        return min(self.start, self.lowest * math.exp(rise))

    def told(self, losses: np.ndarray) -> np.ndarray:
        """The losses on the world's scale."""
        return losses * self.scale + self.shift


Interrupt = Callable[[], bool]


@dataclass
class Interrupted:
    """An evaluator that raises KeyboardInterrupt at its n-th call, from 0 on."""

    evaluate: Callable[..., Trace]
    at: int
    calls: int = 0

    def __call__(self, *args: object, **kwargs: object) -> Trace:
        """Answer, or be interrupted."""
        self.calls += 1
        if self.calls > self.at:
            raise KeyboardInterrupt
        return self.evaluate(*args, **kwargs)
