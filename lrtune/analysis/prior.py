"""What benchmark tasks tell before a task is trained: `prior.toml`, by schedule and length."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from lrtune.analysis.curves import Floats
from lrtune.analysis.fitted import fitted

FILE: Mapping[str, Any] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
)
"""What `prior.toml` says."""

SHORT = 60  # by convention: where the best constant rate is the best peak of a trapezoid
"""The short runs that `short_shift` is for, in steps."""

DRIFT = fitted("short_drift")
"""The best constant rate falls with the length of a run: by this power of it, near 60 steps."""

PAIRED = fitted("paired_share")
"""Standard deviation of one seed's difference between two schedules, over that of one score."""

REFERENCE = "trapezoid"
"""The schedule that the losses and peaks of the others are held against."""


@dataclass(frozen=True)
class Belief:
    """A normal distribution of the log of the best rate.

    >>> Belief.around(0.1, 2.0).combined(Belief.around(0.4, 2.0)).rate
    0.2
    """

    mean: float
    sd: float

    @classmethod
    def around(cls, rate: float, factor: float) -> "Belief":
        """A belief in this rate, up to this factor (one standard deviation)."""
        return cls(math.log(rate), math.log(factor))

    @property
    def rate(self) -> float:
        """The rate in its middle."""
        return float(f"{math.exp(self.mean):.12g}")

    def combined(self, other: "Belief") -> "Belief":
        """Both, as independent measurements of one thing."""
        mine, theirs = self.sd**-2, other.sd**-2
        mean = (self.mean * mine + other.mean * theirs) / (mine + theirs)
        return Belief(mean, (mine + theirs) ** -0.5)


@dataclass(frozen=True)
class Prior:
    """What is known of one schedule for one length, from other tasks.

    Attributes:
        score: Final log loss over that of the trapezoid, each at its own best peak: a mean.
        spread: Its standard deviation over tasks.
        peak: The best peak over the trapezoid's, a factor.
        peak_factor: Up to which factor that varies over tasks (one standard deviation).
        noise: Standard deviation of a final score between seeds.
        low: Rise of the score below the best peak, per squared unit of the log rate.
        high: The same above it.
        cliff: Half of the seeds diverge at this distance above the best peak, in the log rate.
        short_shift: Log of the best peak over the best constant rate for 60 steps.
        short_spread: Its standard deviation over tasks.
        long_spread: Standard deviation of the log of the best peak over that of a horizon.
        interval: By which factor a 90 % interval of the belief is narrowed or widened, so that it
            holds the best rate, or one within 5 % of its loss, on nine of ten tasks.
        tasks: How many tasks this rests on.
        failure: The score of a failed run over that of the best: about that of guessing.
    """

    score: float
    spread: float
    peak: float
    peak_factor: float
    noise: float
    low: float
    high: float
    cliff: float
    short_shift: float
    short_spread: float
    long_spread: float
    interval: float
    tasks: float
    failure: float = 2.0

    real_luck = 0.67  # the share of a kept run's luck that shows on data that did not choose it

    def belief(self, rate: float, steps: int, *, sure: bool = True) -> Belief:
        """Where the best peak lies, from the best constant rate for a few steps.

        Where these have learned nothing yet, it lies within twice the usual range.
        """
        drift = DRIFT * math.log(steps / SHORT)
        spread = self.short_spread * (1 if sure else 2)
        return Belief(math.log(rate) + self.short_shift + drift, spread)

    def in_shares(self, curvature: float, noise: float) -> "Prior":
        """The same for scores that are shares of the fall: their numbers are the task's own.

        Args:
            curvature: Rise of the share left per squared unit of the log rate, in short runs.
            noise: Standard deviation of the share left at the end of a run.
        """
        return replace(self, low=curvature, high=curvature, noise=noise, failure=1.0)

    def belief_at_horizon(self, rate: float) -> Belief:
        """Where the best peak lies, from the best peak of whole runs of a horizon."""
        return Belief(math.log(rate), self.long_spread)

    def with_ceiling(self, room: float) -> "Prior":
        """The same where a score cannot rise further above the best than this; NaN if unknown."""
        return replace(self, failure=max(room, 4 * self.noise)) if room > 0 else self

    @property
    def paired(self) -> float:
        """Standard deviation of one seed's difference in final score to another schedule."""
        return PAIRED * self.noise

    def excess(self, distance: Floats) -> Floats:
        """The usual score at this distance (in the log rate) from the best peak, over the best."""
        parabola = np.where(distance < 0, self.low, self.high) * distance**2
        return np.asarray(np.minimum(parabola, self.failure), float)

    def divergence(self, distance: Floats) -> Floats:
        """The share of seeds that diverge at this distance from the best peak."""
        return np.asarray(expit((distance - self.cliff) / 0.4), float)


def known_schedules(steps: int) -> list[str]:
    """The schedules of which something is known for the measured length nearest to this one."""
    nearest = min(FILE["lengths"], key=lambda one: abs(math.log(one["steps"] / steps)))
    return list(nearest["schedules"])


def horizon_error(steps: int) -> float:
    """How exactly whole runs of so many steps tell the difference of two final scores.

    The standard deviation of the difference for a whole training, given that of two short runs.

    >>> horizon_error(293), horizon_error(10**6)
    (0.05726, 0.05271)
    """
    worth = FILE["worth"]
    return float(np.interp(math.log(steps), np.log(worth["steps"]), worth["error"]))


def prior(schedule: str, steps: int) -> Prior:
    """What is known of a schedule, a name in the registry, for this length.

    Of a schedule that no task was trained with, that which is known of the trapezoid, with twice
    the spread.
    Between the lengths that were measured it is interpolated in the log of the length; beyond
    them the nearest holds.
    """
    known = [one for one in FILE["lengths"] if schedule in one["schedules"]]
    if not known:
        like = prior(REFERENCE, steps)
        return replace(like, spread=2 * like.spread, short_spread=1.2 * like.short_spread, tasks=0)
    logs = [math.log(one["steps"]) for one in known]
    values = {
        name: [one["schedules"][schedule].get(name, one["all"].get(name)) for one in known]
        for name in Prior.__dataclass_fields__
        if name not in ("tasks", "failure")
    }
    fields = {name: float(np.interp(math.log(steps), logs, some)) for name, some in values.items()}
    nearest = min(known, key=lambda one: abs(math.log(one["steps"] / steps)))
    return Prior(**fields, tasks=nearest["schedules"][schedule]["tasks"])
