"""The candidates of a comparison: schedules, each with its own peak and what is known of it."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from lrtune.analysis.prior import REFERENCE, Prior, prior
from lrtune.errors import ArgumentError
from lrtune.results.optuna_export import without_log
from lrtune.results.runs import Run, Shape
from lrtune.schedules import (
    SCHEDULES,
    Recipe,
    Schedule,
    ScheduleEntry,
    look_up_recipe,
    parse,
)
from lrtune.schedules.recipes import PREFIX
from lrtune.schedules.registry import registered_name
from lrtune.schedules.schedule import FACTORIES, momenta, multipliers

BETWEEN_CALLS = r",\s*(?![^(]*\))"  # the commas that are not inside of brackets
BASELINES = ("constant", "linear", "cosine")  # always in the ranking

# What courses teach, and what published practice has added since.
DEFAULT = (
    *BASELINES, "exponential", "step", "warmup-linear", "warmup-cosine", "wsd", "trapezoid",
    "cosine-restarts", "triangular", "decay-cyclic", "one-cycle",
)  # fmt: skip


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


class Named(NamedTuple):
    """A schedule with its name in the table."""

    name: str
    shape: Shape
    asked: bool = True  # by the user; else it is in the table anyway
    entry: ScheduleEntry | None = None  # in the registry, where it has parameters to sample
    recipe: Recipe | None = None  # which gives its peak


@dataclass(frozen=True, eq=False)
class Candidate:
    """A schedule at its own peak rate.

    Attributes:
        named: The schedule.
        lr: Its peak rate.
        prior: What other tasks tell of it; `tasks` is 0 where they tell nothing.
        number: Of the sample of its parameters.
    """

    named: Named
    lr: float
    prior: Prior
    number: int = 0

    @property
    def name(self) -> str:
        """Its name in the table."""
        return self.named.name

    @property
    def order(self) -> tuple[object, ...]:
        """Of two candidates the lower one is trained first, before anything of this task is known.

        The user's own schedules are first, as nothing is known of them; then those that were asked
        for, and in either group those that did better on other tasks.
        """
        asked, known = self.named.asked, bool(self.prior.tasks)
        return not asked, known if asked else not known, self.prior.score, self.name

    def run(self, seed: int, lr: float, horizon: int = 0) -> Run:
        """A run at this peak rate; whole, or compressed to a horizon."""
        sample = f"#{self.number}" * bool(self.number)
        name = f"{self.name}{sample} {lr:.6g}/{seed}" + f" of {horizon}" * bool(horizon)
        return Run(name, lr, self.named.shape, seed)

    def sampled(self, number: int, shape: Shape) -> "Candidate":
        """The same schedule with other parameters; number 0 are its own."""
        if not number:
            return self
        return replace(self, number=number, named=self.named._replace(shape=shape))

    def known_difference(self, other: "Candidate") -> tuple[float, float]:
        """Score less that of another one, on other tasks, and its deviation; NaN if unknown."""
        if not (self.prior.tasks and other.prior.tasks):
            return math.nan, math.inf
        # Scores are over those of the reference, whose own differ from task to task as well.
        pair = [one for one in (self, other) if registered_name(one.named.shape) != REFERENCE]
        spread = float(np.sqrt(np.mean([one.prior.spread**2 for one in pair or (self, other)])))
        return self.prior.score - other.prior.score, spread


def known_of(shape: Shape, steps: int) -> Prior:
    """What is known of a schedule; of one that no task was trained with, what is of one like it."""
    known = prior(registered_name(shape), steps)
    if known.tasks or _decays(shape):
        return known
    return replace(prior("constant", steps), tasks=0)


def _decays(shape: Shape) -> bool:
    """Whether a schedule ends below half of its peak rate, however its runs go."""
    if not isinstance(shape, Schedule):
        return False
    values = multipliers(shape, 100)
    return values[-1] < max(values) / 2


def resolve(
    schedules: Sequence[str | Shape] | Mapping[str, str | Shape] | None, steps: int
) -> list[Named]:
    """The schedules to compare, by unique names; each is tried on all progress of `steps`.

    Raises:
        ArgumentError: There is no schedule of a name.
        ScheduleError: A schedule raises, or gives no finite multiplier >= 0.
    """
    if isinstance(schedules, str):
        raise ArgumentError(
            f"schedules={schedules!r} is one string; expected a list. Pass "
            f"{re.split(BETWEEN_CALLS, schedules)!r}."
        )
    if isinstance(schedules, Mapping):
        given = [_named(one)._replace(name=name) for name, one in schedules.items()]
    elif schedules is None:
        given = [_named(name)._replace(asked=False) for name in DEFAULT]
    else:
        names = [name for one in schedules for name in (SCHEDULES if one == "all" else [one])]
        given = [_named(name) for name in names]
    unique: dict[str, Named] = {}
    for one in [*given, *(_named(name)._replace(asked=False) for name in BASELINES)]:
        if isinstance(one.shape, Schedule):
            multipliers(one.shape, steps)
            momenta(one.shape, steps)
        if any(_twins(one, known) for known in unique.values()):
            continue
        name, copies = one.name, 1
        while name in unique:
            copies += 1
            name = f"{one.name} {copies}"
        shape = one.shape
        if isinstance(shape, Schedule) and not _is_ours(shape):
            shape = replace(shape, text=name)  # the text tells its runs from those of others
        unique[name] = one._replace(name=name, shape=shape)
    return list(unique.values())


def _twins(one: Named, other: Named) -> bool:
    """Whether two candidates would train the same; a recipe has a peak of its own."""
    if one.recipe or other.recipe:
        return one.recipe == other.recipe
    return same(one.shape, other.shape)


def same(one: Shape, other: Shape) -> bool:
    """Whether two schedules are the same: a text that lrtune wrote means one schedule."""
    if not isinstance(one, Schedule) or _is_ours(one):
        return one == other
    return one is other


def _is_ours(schedule: Schedule) -> bool:
    name, call, _ = schedule.text.partition("(")
    return bool(call) and name in FACTORIES


def _named(given: str | Shape) -> Named:
    """A schedule by its name, by the call that makes it, by that of its recipe, or as it is."""
    if not isinstance(given, str):
        shape = Run("", 1.0, given).schedule
        return Named(registered_name(shape) or repr(shape), shape)
    shape = parse(given)
    if given.strip().lower().startswith(PREFIX):
        recipe = look_up_recipe(given)
        return Named(PREFIX + recipe.name, shape, recipe=recipe)
    entry = None if "(" in given else SCHEDULES.get(getattr(shape, "name", ""))
    sampled = entry if entry is not None and entry.space else None
    return Named(registered_name(shape) or given, shape, entry=sampled)
