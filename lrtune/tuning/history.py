"""What a search has measured: every run, as far as it was trained."""

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lrtune.analysis.curves import FAILED_OUTCOMES, Floats, end_level, end_level_stderr
from lrtune.results import Trace
from lrtune.results.runs import Run
from lrtune.results.schema import CURVES, TRIED, as_table
from lrtune.schedules.registry import schedule_text
from lrtune.task.drift import Drift

POINTS = 500
"""The most points of one run in a table of curves; longer runs are averaged over equal blocks."""


Asking = Generator["Question", Trace, None]
"""A strategy or a part of one: yields questions, and is sent their traces."""


@dataclass(frozen=True)
class Question:
    """Runs that a strategy wants to see trained up to step `until` of their horizon `steps`.

    Attributes:
        stage: The stage of the search, for people.
        runs: The runs; those that were asked for before go on.
        steps: Their horizon.
        until: The step to train up to.
        validate: On how many samples of the selection half each run is validated there; 0 for
            none; None for all validation data.
        checkpoint: Whether their states are saved there.
        cost: What it costs, in full trainings.
        ahead: What the same runs will cost after it: a run that would not finish need not begin.
    """

    stage: str
    runs: tuple[Run, ...]
    steps: int
    until: int
    validate: int | None = 0
    checkpoint: bool = False
    cost: float = field(default=0.0, compare=False)
    ahead: float = field(default=0.0, compare=False)


@dataclass(eq=False)
class Measured:
    """One run as far as it was trained."""

    run: Run
    stage: str
    steps: int  # its horizon
    until: int = 0
    outcome: str = ""
    losses: Floats = field(default_factory=lambda: np.empty(0))  # without what changes by itself
    validations: dict[str, tuple[float, float, int]] = field(default_factory=dict)
    checkpoint: str = ""
    drift: float = 0.0  # by how much the loss has changed by itself at the end

    @property
    def failed(self) -> bool:
        """Whether its loss diverged or was not finite."""
        return self.outcome in FAILED_OUTCOMES

    @property
    def finished(self) -> bool:
        """Whether it was trained to its end."""
        return self.until == self.steps and not self.failed

    @property
    def train(self) -> float:
        """Its training loss at the end: the mean of the last fifth; infinite if it failed."""
        return math.inf if self.failed else end_level(self.losses)

    def loss(self, part: str = "selection") -> float:
        """Its newest validation loss on that part, else its training loss; inf if it failed.

        Where the loss changes by itself, that change is part of both: runs of one length share it.
        """
        if self.failed:
            return math.inf
        return self.validations[part][0] if part in self.validations else self.train + self.drift

    def stderr(self, part: str = "selection") -> float:
        """The standard error of `loss`, of the data that it was measured on."""
        if part in self.validations:
            return self.validations[part][1]
        return end_level_stderr(self.losses)


class History:
    """All runs of a search, by name, in the order in which they were first asked for.

    Args:
        summed: Over how many samples a training loss sums. It is divided by that, as validation
            losses are those of a sample.
        drift: How the loss changes by itself; None where it does not.
    """

    def __init__(self, summed: float = 1.0, drift: Drift | None = None) -> None:
        self._summed, self.drift = summed, drift
        self.runs: dict[str, Measured] = {}
        self._together: list[set[str]] = []  # the runs that can still go on, as they were asked for

    def add(self, question: Question, trace: Trace) -> None:
        """Add what a question's trace says."""
        rows = trace.runs.set_index("run")
        losses = dict(iter(trace.frame.groupby("run", sort=False)["loss"]))
        validations = dict(iter(trace.validations.groupby("run", sort=False)))
        self._regroup({run.name for run in question.runs})
        for run in question.runs:
            one = self.runs.setdefault(run.name, Measured(run, question.stage, question.steps))
            one.until, one.outcome = question.until, str(rows.loc[run.name, "outcome"])
            known = losses[run.name].to_numpy() if run.name in losses else np.empty(0)
            if self.drift is not None and len(known):
                known, one.drift = self.drift.without(known), self.end_drift(len(known))
            one.losses = known / self._summed
            one.checkpoint = str(rows.loc[run.name, "checkpoint"])
            for row in validations[run.name].itertuples() if run.name in validations else ():
                one.validations[row.part] = (row.loss, row.stderr, row.samples)

    def end_drift(self, steps: int) -> float:
        """By how much the loss has changed by itself at the end of so many steps."""
        if self.drift is None:
            return 0.0
        return -end_level(self.drift.without(np.zeros(steps))) / self._summed

    def _regroup(self, asked: set[str]) -> None:
        """Runs train in lockstep: where some of them go on, the others are left behind."""
        going = [group & asked or group for group in self._together]
        self._together = [*going, asked - set().union(*going)]

    def of(self, stages: Iterable[str]) -> list[Measured]:
        """The runs of these stages."""
        wanted = set(stages)
        return [one for one in self.runs.values() if one.stage in wanted]

    def finished(self, steps: int) -> list[Measured]:
        """The runs of this horizon that were trained to their end, and did not fail."""
        return [one for one in self.runs.values() if one.steps == steps and one.finished]

    def failed_at(self) -> float:
        """The lowest rate of any run that failed; infinite where none did."""
        return min((one.run.lr for one in self.runs.values() if one.failed), default=math.inf)

    def missing(self, runs: Sequence[Run], until: int) -> int:
        """The updates that it takes to train these runs up to step `until`."""
        going = set().union(*self._together)
        return sum(max(0, until - self.trained(run) * (run.name in going)) for run in runs)

    def trained(self, run: Run) -> int:
        """The step up to which a run was asked for; 0 for a new one."""
        return self.runs[run.name].until if run.name in self.runs else 0

    def validated(self, run: Run) -> bool:
        """Whether a run was validated where it stands."""
        return run.name in self.runs and bool(self.runs[run.name].validations)

    def table(self) -> pd.DataFrame:
        """One row per run: columns `TRIED`."""
        rows = [
            {
                "run": name,
                "stage": one.stage,
                "lr": one.run.lr,
                "schedule": schedule_text(one.run.schedule),
                "seed": one.run.seed,
                "steps": one.steps,
                "until": one.until,
                "outcome": one.outcome,
                "start": float(one.losses[0]) if len(one.losses) else math.nan,
                "train": end_level(one.losses) + one.drift,
                "loss": one.validations.get("selection", (math.nan,))[0],
                "test": one.validations.get("test", (math.nan,))[0],
                "checkpoint": one.checkpoint,
            }
            for name, one in self.runs.items()
        ]
        return as_table(pd.DataFrame(rows, columns=list(TRIED)), TRIED)

    def curves(self) -> pd.DataFrame:
        """At most `POINTS` rows per run, means over equal blocks of steps: columns `CURVES`."""
        parts = [_thinned(name, one.losses) for name, one in self.runs.items() if len(one.losses)]
        return as_table(pd.concat(parts, ignore_index=True), CURVES)


def _thinned(name: str, losses: Floats) -> pd.DataFrame:
    size = -(-len(losses) // POINTS)
    blocks = np.arange(len(losses)) // size
    frame = pd.DataFrame({"step": np.arange(len(losses)), "loss": losses})
    means = frame.groupby(blocks).agg({"step": "first", "loss": "mean"})
    return means.assign(run=name)
