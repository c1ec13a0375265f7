"""Which schedules a comparison ranks, and which of their parameters it tries."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from lrtune.analysis.rate_estimate import PEAK_RATIO, decays
from lrtune.errors import ArgumentError
from lrtune.results.optuna_export import without_log
from lrtune.results.runs import Run, Shape
from lrtune.schedules import FEEDBACK, SCHEDULES, Schedule, ScheduleEntry, look_up
from lrtune.training import step_settings

BASELINES = ("constant", "linear", "cosine")
"""Always in the ranking."""

DEFAULT = (
    *BASELINES,
    "exponential",
    "step",
    "warmup-linear",
    "warmup-cosine",
    "wsd",
    "trapezoid",
    "cosine-restarts",
    "triangular",
    "decay-cyclic",
    "one-cycle",
)
"""The schedules of the lecture, and those that published practice has added since."""

BENCHMARK_LOSS_RATIO = {
    "wsd": 0.83,
    "trapezoid": 0.84,
    "one-cycle": 0.95,
    "warmup-linear": 0.96,
    "linear": 0.97,
    "warmup-cosine": 0.97,
    "triangular": 0.99,
    "constant": 1.0,
    "decay-cyclic": 1.01,
    "cosine-restarts": 1.01,
    "cosine": 1.02,
    "step": 1.34,
    "exponential": 1.51,
}
"""Final loss with each schedule over that with a constant rate, in the benchmark: the last column
of "What a comparison is worth" in `docs/quality.md`; a test holds the two together."""

MOST_COMPLEX = 1000
"""Complexity of a user's own schedule: higher than that of any in the registry."""


class ParameterSampler:
    """Proposes parameters of a schedule with Optuna's tree-structured Parzen estimator.

    Args:
        entry: A schedule of the registry, with its search space.
        seed: Decides the samples.
    """

    def __init__(self, entry: ScheduleEntry, seed: int) -> None:
        """Make an Optuna study in memory that begins with the default parameters."""
        self._entry = entry
        with without_log():
            sampler = TPESampler(seed=seed, n_startup_trials=4)
            self._study = optuna.create_study(study_name=entry.name, sampler=sampler)
            self._study.enqueue_trial(entry.defaults())

    def ask(self, count: int) -> list[tuple[int, Shape]]:
        """`count` numbered schedules; the first of all has the default parameters."""
        with without_log():
            trials = [self._study.ask() for _ in range(count)]
            return [(trial.number, self._entry(**self._entry.suggest(trial))) for trial in trials]

    def tell(self, scores: Mapping[int, float]) -> None:
        """Take the score of each numbered schedule; NaN and infinity are failures."""
        with without_log():
            for number, score in scores.items():
                if math.isfinite(score):
                    self._study.tell(number, score)
                else:
                    self._study.tell(number, state=TrialState.FAIL)


@dataclass(frozen=True)
class ComparedSchedule:
    """A schedule that takes part in a comparison.

    Attributes:
        name: Its name in the table.
        complexity: Its place in the order from the simplest schedule to the most complex.
        shape: The schedule with its default parameters.
        entry: Its entry in the registry, where it has parameters to sample.
    """

    name: str
    complexity: int
    shape: Shape
    entry: ScheduleEntry | None = None

    @property
    def tie_order(self) -> tuple[float, int]:
        """Of tied schedules the lowest wins: first by benchmark loss, then by complexity."""
        return BENCHMARK_LOSS_RATIO.get(self.name, math.inf), self.complexity

    @property
    def in_benchmark(self) -> bool:
        """Whether the benchmark has measured it."""
        return self.name in BENCHMARK_LOSS_RATIO

    @property
    def peak_ratio(self) -> float:
        """Its likely best peak rate over the best constant rate."""
        schedule = Run(self.name, 1.0, self.shape).schedule
        return PEAK_RATIO if isinstance(schedule, Schedule) and decays(schedule) else 1.0


def resolve_schedules(
    schedules: Sequence[str] | Mapping[str, Shape] | None, horizons: Sequence[int]
) -> list[ComparedSchedule]:
    """The schedules to compare, the baselines first; each is checked on every horizon.

    Raises:
        ArgumentError: No schedule has such a name.
        ScheduleError: A schedule gives a multiplier that is negative or not finite.
    """
    if isinstance(schedules, str):
        raise ArgumentError(
            f"schedules={schedules!r} is one string; expected a list: [{schedules!r}]."
        )
    own: list[ComparedSchedule] = []
    names: Sequence[str] = ()
    if isinstance(schedules, Mapping):
        own = [ComparedSchedule(name, MOST_COMPLEX, shape) for name, shape in schedules.items()]
    else:
        names = DEFAULT if schedules is None else schedules
    names = tuple(SCHEDULES) if "all" in names else names
    known = [_registered(name) for name in dict.fromkeys((*BASELINES, *names))]
    compared = list({schedule.name: schedule for schedule in (*known, *own)}.values())
    for schedule in compared:
        for steps in horizons:
            step_settings(Run(schedule.name, 1.0, schedule.shape), steps)
    return compared


def _registered(name: str) -> ComparedSchedule:
    if name in FEEDBACK:
        return ComparedSchedule(name, MOST_COMPLEX - 1, FEEDBACK[name]())
    entry = look_up(name)
    complexity = list(SCHEDULES).index(entry.name)  # the registry lists the simplest first
    return ComparedSchedule(entry.name, complexity, entry(), entry if entry.space else None)
