"""Checks of the losses that a training loop of the user's own returns."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from lrtune.analysis.curves import FAILED_OUTCOMES, Floats
from lrtune.errors import ArgumentError
from lrtune.results import Trace
from lrtune.results.runs import Run
from lrtune.schedules import Schedule, multipliers

CLOSE = 1e-3
"""By convention: losses this close, as a share, are alike; engines round differently."""

SCATTER, LEAST_FALL = 0.05, 0.3
"""By convention: first losses that differ by this share of the fall, and a fall to speak of."""

APART, LEAST = 9.99, 1e-4
"""By convention: rates that differ by this factor, and are not below this, show in the losses."""


class OwnLosses:
    """Refuses losses that give a wrong answer, and says what counts against one."""

    def __init__(self) -> None:
        self._starts: dict[int, list[float]] = {}  # the first loss of each run of a seed
        self._lowest: dict[int, float] = {}  # the lowest loss of each seed

    @property
    def said(self) -> tuple[str, ...]:
        """What counts against an answer, in a sentence."""
        for seed, starts in self._starts.items():
            fall = starts[0] - self._lowest[seed]
            other = max(starts, key=lambda one: abs(one - starts[0]))
            if abs(other - starts[0]) > SCATTER * fall:
                sentence = (
                    f"Runs of seed {seed} begin at different losses, {starts[0]:.4g} and "
                    f"{other:.4g}, so chance takes part in which rate is the best. In your own "
                    "training loop, make a new model for each run, and seed weights and data by "
                    "run.seed."
                )
                return (sentence,)
        return ()

    def check(self, runs: Sequence[Run], steps: int, until: int, trace: Trace) -> None:
        """Check the losses of these runs up to a step.

        Raises:
            ArgumentError: A run has too few or too many, went on from another one's weights, or the
                losses do not depend on the rate.
        """
        about = trace.runs.set_index("run")
        losses = {str(name): one for name, one in trace.frame.groupby("run", sort=False)}
        curves = {name: one["loss"].to_numpy() for name, one in losses.items()}
        for run in runs:
            row = about.loc[run.name]
            _check_length(run, until, str(row["outcome"]), int(row["steps"]))
            if run.name in losses and losses[run.name]["step"].iloc[0] == 0:
                self._check_start(run, curves[run.name])
        by_seed = {run.seed: [one for one in runs if one.seed == run.seed] for run in runs}
        for some in by_seed.values():
            _check_rates(some, steps, curves)

    def _check_start(self, run: Run, losses: Floats) -> None:
        finite = losses[np.isfinite(losses)]
        if not len(finite) or finite[0] != losses[0]:
            return
        starts = self._starts.setdefault(run.seed, [])
        starts.append(float(losses[0]))
        lowest = min(self._lowest.get(run.seed, math.inf), float(finite.min()))
        self._lowest[run.seed] = lowest
        fall, last = starts[0] - lowest, starts[1:][-3:]
        low = all(one < starts[0] - fall / 2 for one in last)
        if len(last) == 3 and low and fall > LEAST_FALL * abs(starts[0]):
            raise ArgumentError(
                f"the first run of seed {run.seed} begins at a loss of {starts[0]:.4g}, the last "
                f"three at {', '.join(f'{one:.4g}' for one in last)}, which is trained already; "
                "expected runs of one seed to begin alike. They seem to share a model: make a new "
                "one for each run, such as torch.manual_seed(run.seed); model = make_model()."
            )


def _check_length(run: Run, until: int, outcome: str, count: int) -> None:
    if count == until or (count < until and outcome in FAILED_OUTCOMES):
        return
    few = "A run that failed ends with a loss of NaN or infinity. " * (count < until)
    raise ArgumentError(
        f"evaluate returned {_losses(count)} of run {run.name!r}, and was asked "
        f"for until={until}; expected one loss for each update from the first one on. {few}"
        "Make `until` updates of the `steps` that the schedule is spread over, and return all "
        "their losses."
    )


def _check_rates(runs: Sequence[Run], steps: int, curves: dict[str, Floats]) -> None:
    """Raise where runs of one seed have the same losses at rates that lie far apart."""
    known = [
        (one, one.schedule)
        for one in runs
        if isinstance(one.schedule, Schedule) and one.name in curves and one.lr >= LEAST
    ]
    if len(known) < 2:
        return
    first = curves[known[0][0].name]
    alike = all(np.array_equal(curves[one.name], first) for one, _ in known)
    # Losses that never change show nothing: a search then says that nothing was learned.
    if not alike or len(first) < 2 or np.ptp(first) <= CLOSE * abs(first[0]):
        return
    # The loss at a step shows the rates before it.
    seen = len(first) - 1
    rates = [(one, one.lr * np.array(multipliers(by, steps)[:seen])) for one, by in known]
    for (one, low), (other, high) in itertools.combinations(rates, 2):
        if np.any(np.maximum(low, high) > APART * np.minimum(low, high)):
            raise ArgumentError(
                f"evaluate returned the same {_losses(len(first))} for the runs "
                f"{one.name!r} (lr {one.lr:g}) and {other.name!r} (lr {other.lr:g}) of seed "
                f"{one.seed}; expected losses that depend on the rate. Use run.lr * "
                "run.schedule(step / steps) in each update."
            )


def _losses(count: int) -> str:
    return f"{count:,} loss{'' if count == 1 else 'es'}"
