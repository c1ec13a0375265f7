"""The candidates of a comparison: schedules, samples of their parameters, rounds of training."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
import pandas as pd
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from lrtune.analysis.curves import FAILED_OUTCOMES
from lrtune.analysis.rate_estimate import PEAK_RATIO, decays
from lrtune.errors import ArgumentError
from lrtune.results import Trace, concat_traces
from lrtune.results.optuna_export import without_log
from lrtune.results.runs import Run, Shape, validation_losses
from lrtune.schedules import FEEDBACK, SCHEDULES, Schedule, ScheduleEntry, look_up
from lrtune.training import Evaluate, step_settings
from lrtune.tuning.rate_history import end_levels

BASELINES = ("constant", "linear", "cosine")  # always in the ranking

# What courses teach, and what published practice has added since.
DEFAULT = (
    *BASELINES, "exponential", "step", "warmup-linear", "warmup-cosine", "wsd", "trapezoid",
    "cosine-restarts", "triangular", "decay-cyclic", "one-cycle",
)  # fmt: skip

# Final loss with each schedule over that with a constant rate, in the benchmark: the last column
# of "What a comparison is worth" in `docs/quality.md`; a test holds the two together.
BENCHMARK_LOSS_RATIO = {
    "wsd": 0.83, "trapezoid": 0.84, "one-cycle": 0.95, "warmup-linear": 0.96, "linear": 0.97,
    "warmup-cosine": 0.97, "triangular": 0.99, "constant": 1.0, "decay-cyclic": 1.01,
    "cosine-restarts": 1.01, "cosine": 1.02, "step": 1.34, "exponential": 1.51,
}  # fmt: skip


class ParameterSampler:
    """Proposes parameters of a schedule, the defaults first, with one of Optuna's samplers."""

    def __init__(self, entry: ScheduleEntry, seed: int) -> None:
        self._entry = entry
        with without_log():
            sampler = TPESampler(seed=seed, n_startup_trials=4)
            self._study = optuna.create_study(study_name=entry.name, sampler=sampler)
            self._study.enqueue_trial(entry.defaults())

    def ask(self, count: int) -> list[tuple[int, Shape]]:
        """`count` numbered schedules."""
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
    """A schedule that takes part in a comparison."""

    name: str  # in the table
    complexity: int  # its place in the order from the simplest to the most complex
    shape: Shape  # the schedule with its default parameters
    entry: ScheduleEntry | None = None  # in the registry, where it has parameters to sample

    @property
    def tie_order(self) -> tuple[float, int]:
        """Of tied schedules the lowest wins: first by benchmark loss, then by complexity."""
        return BENCHMARK_LOSS_RATIO.get(self.name, math.inf), self.complexity

    @property
    def peak_ratio(self) -> float:
        """Its likely best peak rate over the best constant rate."""
        schedule = Run(self.name, 1.0, self.shape).schedule
        return PEAK_RATIO if isinstance(schedule, Schedule) and decays(schedule) else 1.0


def resolve_schedules(
    schedules: Sequence[str] | Mapping[str, Shape] | None, horizons: Sequence[int]
) -> list[ComparedSchedule]:
    """The schedules to compare, the baselines first; each is checked on every horizon."""
    if isinstance(schedules, str):
        raise ArgumentError(
            f"schedules={schedules!r} is one string; expected a list: [{schedules!r}]."
        )
    names: Sequence[str] = DEFAULT
    own: Mapping[str, Shape] = {}
    if isinstance(schedules, Mapping):
        names, own = (), schedules
    elif schedules is not None:
        names = tuple(SCHEDULES) if "all" in schedules else schedules
    known = [_registered(name) for name in (*BASELINES, *names)]
    mine = [ComparedSchedule(name, len(SCHEDULES) + 1, shape) for name, shape in own.items()]
    compared = {schedule.name: schedule for schedule in (*known, *mine)}
    for schedule in compared.values():
        for steps in horizons:
            step_settings(Run(schedule.name, 1.0, schedule.shape), steps)
    return list(compared.values())


def _registered(name: str) -> ComparedSchedule:
    """A schedule by its name; the registry lists the simplest first."""
    if name in FEEDBACK:
        return ComparedSchedule(name, len(SCHEDULES), FEEDBACK[name]())
    entry = look_up(name)
    complexity = list(SCHEDULES).index(entry.name)
    return ComparedSchedule(entry.name, complexity, entry(), entry if entry.space else None)


@dataclass(frozen=True, eq=False)
class Candidate:
    """One schedule with one set of parameters at one peak rate."""

    schedule: str
    number: int  # of the set of parameters; 0 is the default
    shape: Shape
    lr: float


@dataclass(frozen=True, eq=False)
class Round:
    """Candidates trained over one horizon with the same seeds."""

    horizon: int
    candidates: list[Candidate]  # one per row of `scores`
    scores: pd.DataFrame  # final losses: candidate x seed; NaN where a run failed
    trace: Trace
    rows: dict[str, int]  # the name of each run to the row of its candidate

    @property
    def worst(self) -> pd.Series:
        """The score of each candidate in its worst seed; infinite where a run failed."""
        # The mean would select rates that are fast with most seeds and diverge with the next.
        return self.scores.fillna(np.inf).max(axis=1)

    @property
    def means(self) -> pd.Series:
        """The mean score of each candidate; NaN where a run failed."""
        return self.scores.mean(axis=1, skipna=False)

    def loss_by_rate(self, schedule: str) -> dict[float, float]:
        """The mean score of a schedule at each rate; infinite where a run failed."""
        scored = zip(self.candidates, self.means.fillna(np.inf), strict=True)
        return {one.lr: float(mean) for one, mean in scored if one.schedule == schedule}

    def best(self) -> dict[str, int]:
        """The row of each schedule's best candidate, the best schedule first."""
        best: dict[str, int] = {}
        for row in self.worst.sort_values(kind="stable").index:
            best.setdefault(self.candidates[row].schedule, row)
        return best

    def best_scores(self) -> pd.DataFrame:
        """The scores of each schedule's best candidate: one row per schedule."""
        best = self.best()
        return self.scores.loc[list(best.values())].set_axis(list(best), axis=0)

    def merged(self, other: "Round") -> "Round":
        """Both rounds as one; they share horizon and seeds, and no candidate."""
        shift = len(self.candidates)
        return Round(
            self.horizon,
            [*self.candidates, *other.candidates],
            pd.concat([self.scores, other.scores], ignore_index=True),
            concat_traces([self.trace, other.trace]),
            self.rows | {name: row + shift for name, row in other.rows.items()},
        )


class Rounds:
    """Trains the candidates of a comparison round by round, and keeps what each round measured."""

    def __init__(
        self, evaluate: Evaluate, schedules: Sequence[ComparedSchedule], seeds: Sequence[int]
    ) -> None:
        self._evaluate, self.schedules = evaluate, list(schedules)
        self.seeds = list(seeds)  # for selection
        self.trained: list[Round] = []
        self.selection: list[Round] = []  # those of them that select candidates

    def train(
        self, candidates: Sequence[Candidate], horizon: int, seeds: Sequence[int], stage: str
    ) -> Round:
        """Train every candidate with every seed, all as one cohort."""
        runs = [
            Run(f"{c.schedule}#{c.number}@{c.lr:g}/{seed}", c.lr, c.shape, seed)
            for c in candidates
            for seed in seeds
        ]
        rows = {run.name: place // len(seeds) for place, run in enumerate(runs)}
        trace = self._evaluate(runs, horizon, stage=stage)
        losses = _final_losses(trace).loc[list(rows)].to_numpy()
        scores = pd.DataFrame(losses.reshape(len(candidates), len(seeds)), columns=list(seeds))
        self.trained.append(Round(horizon, list(candidates), scores, trace, rows))
        return self.trained[-1]

    def select(self, candidates: Sequence[Candidate], horizon: int, stage: str) -> Round:
        """Train candidates with the seeds for selection."""
        self.selection.append(self.train(candidates, horizon, self.seeds, stage))
        return self.selection[-1]

    def selection_at(self, horizon: int) -> Round:
        """All rounds of the selection over this horizon, as one."""
        return functools.reduce(Round.merged, (r for r in self.selection if r.horizon == horizon))


def _final_losses(trace: Trace) -> pd.Series:
    """The validation loss of each run, or its training loss at the end; NaN where it failed."""
    if trace.validations.empty:
        return end_levels(trace)
    failed = trace.runs.set_index("run")["outcome"].isin(FAILED_OUTCOMES)
    return validation_losses(trace.validations).reindex(failed.index).mask(failed)
