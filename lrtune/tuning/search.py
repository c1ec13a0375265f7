"""search(): the best learning rate with its schedule, and the best model trained on the way."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from lrtune.analysis.curves import end_level_stderr
from lrtune.analysis.prior import Belief, Prior, known_schedules, prior
from lrtune.analysis.scores import Scale
from lrtune.analysis.short_runs import Scene, rounded
from lrtune.analysis.surrogate import Surrogate
from lrtune.errors import ArgumentError, positive_number, whole_number
from lrtune.results import SearchResult
from lrtune.results.runs import Shape, as_shape
from lrtune.results.serialization import manifest
from lrtune.schedules import FEEDBACK, Feedback, Schedule, parse
from lrtune.schedules.registry import registered_name, schedule_text
from lrtune.task.task import Task, checked_task
from lrtune.training import Evaluate, Evaluator
from lrtune.tuning.answer import assemble, attach
from lrtune.tuning.coarse import Coarse, Limits, untrained_run
from lrtune.tuning.experiment import Clock, Experiment, ask_all
from lrtune.tuning.fine import FACTORS, Fine, Wanted
from lrtune.tuning.history import Asking, Measured, Question
from lrtune.tuning.horizons import HorizonReader
from lrtune.tuning.planning import DEFAULT_STEPS, Plan, Sizes, make_plan
from lrtune.tuning.scoring import Baseline, Scoring

COARSE = (0.1, 0.01, 0.001, 0.0001)
LIMITS = (1e-7, 10.0)
LEAST_START = 8  # losses before training, whose mean is held against those after it
LEAST_SHARE = 1e-3  # shares of the fall that differ by less are equal
LEAST_NOISE = 0.01  # two seeds of a run differ by such a share of the fall at least
AROUND = 2.0  # a rate that the user knows about is believed up to this factor


class Event(NamedTuple):
    """What a search tells while it runs.

    Attributes:
        stage: coarse, horizons or fine.
        done: What was spent, in full trainings.
        total: What the plan holds.
        lr: The best peak so far; None before the first answer.
        schedule: Its schedule, as text.
    """

    stage: str
    done: float
    total: float
    lr: float | None
    schedule: str


Tell = Callable[[Event], None]


def search(
    task: Task | None = None,
    *,
    steps: int = DEFAULT_STEPS,
    schedule: str | Shape | None = None,
    budget: float | None = None,
    time_limit: float | None = None,
    min_gain: float = 0.02,
    coarse: Sequence[float] = COARSE,
    fine: Sequence[float] | Literal["grid"] | None = None,
    limits: Limits = LIMITS,
    seed: int = 0,
    current: tuple[float, str] | None = None,
    around: float | None = None,
    rate_only: bool = False,
    progress: Tell | None = None,
    evaluate: Evaluate | None = None,
) -> SearchResult:
    """Find the best learning rate of a schedule, and keep the best model that was trained for it.

    Coarse, then fine, as courses teach it. Short runs at {0.1, 0.01, 0.001, 0.0001} and around the
    best of them give the first answer: where the best peak lies, and how surely. In a long training
    whole runs of the schedule, compressed to a quarter of it or less, say it more exactly. Then
    whole trainings at the best peak, a seed each, show what it reaches; the best of them is kept.

    Args:
        task: What is trained; it stays as it is. None with an `evaluate` of your own.
        steps: The length of the training that the answer is for, in optimizer updates.
        schedule: The schedule whose peak is sought: a name, a call such as `cosine(floor=0.1)`, or
            a function of progress; `constant` for a rate that is kept. When None, the one that had
            the lowest losses on other tasks of such a length.
        budget: The most to spend, in full trainings of `steps` updates, validation included; 4 when
            None. `lrtune.plan` shows what it buys.
        time_limit: Seconds after which nothing is begun that would not finish; None for no limit.
        min_gain: The search ends when two more trainings are expected to lower the score by less.
        coarse: The coarse grid.
        fine: Factors of the first answer to train at full length, or `"grid"` for the lecture's
            whole grid of 0.8 ... 2.0; when None the best peak so far is trained again and again.
        limits: The lowest and the highest rate to try.
        seed: The first seed; every whole training has the next one.
        current: Your present setting, `(lr, schedule)`: the first whole training.
        around: A rate near which to begin, instead of the coarse grid.
        rate_only: End with the first answer.
        progress: Called with an `Event`.
        evaluate: The function that trains runs; an `Evaluator` of the task when None.

    Returns:
        A `SearchResult`: `lr` with its `schedule`, `interval`, `good_range`; `best`, the best
        training, with its stated loss, `model()` and `state_dict()`; `snippet()`; tables.

    Raises:
        ArgumentError: A number is out of its range; nothing has trained.
        SearchError: No rate trains, or nothing was learned at any rate; it shows the evidence.

    Ctrl-C after the first answer ends the search with the best so far: `stopped` is "interrupted",
    and a warning says so. Before, KeyboardInterrupt passes through.

    >>> from lrtune.testing import bowl
    >>> found = search(bowl(curvature=4.0), steps=100, schedule="constant")  # diverges above 0.5
    >>> 0.1 < found.lr < 0.5, found.schedule, found.stopped
    (True, 'constant()', 'budget')
    """
    if task is None and evaluate is None:
        raise ArgumentError("got neither a task nor evaluate. Pass lrtune.Task(model, train).")
    setting = make_setting(
        task, steps=steps, schedule=schedule, budget=budget, min_gain=min_gain, coarse=coarse,
        fine=fine, limits=limits, seed=seed, current=current, around=around,
    )  # fmt: skip
    strategy = RateSearch(setting, rate_only=rate_only)
    trained = Evaluator(task) if evaluate is None and task is not None else evaluate
    assert trained is not None, "either a task or an evaluator was given"

    def told(question: Question) -> None:
        if progress is not None:
            lr = strategy.surrogate.best_rate() if strategy.has_answer else None
            spent = strategy.experiment.spent
            progress(
                Event(question.stage, spent, setting.plan.cost, lr, schedule_text(setting.schedule))
            )

    clock = Clock(time_limit)
    stopped = ask_all(
        strategy.asking(), trained, clock, told, interruptible=lambda: strategy.has_answer
    )
    strategy.check_learned()
    described = {} if task is None else task.describe()
    made = manifest(described, steps=steps, seed=seed, budget=setting.plan.budget)
    found = assemble(strategy, setting, stopped or strategy.stopped, made)
    attach(found, task, trained)
    if stopped == "interrupted":
        warnings.warn(
            f"the search was interrupted after {found.cost:.2f} of {setting.plan.cost:.2f} "
            "trainings: this is the best answer so far. With a study the same call goes on.",
            stacklevel=2,
        )
    return found


def plan(
    task: Task | None = None,
    *,
    steps: int = DEFAULT_STEPS,
    budget: float | None = None,
    coarse: Sequence[float] = COARSE,
    fine: Sequence[float] | Literal["grid"] | None = None,
    current: tuple[float, str] | None = None,
    around: float | None = None,
) -> Plan:
    """What `search` with these arguments would spend, stage by stage; nothing is trained.

    Raises:
        ArgumentError: A number is out of its range, or the budget is too small; it says how much
            is needed.
    """
    return make_plan(
        sizes_of(task, steps),
        budget,
        coarse=0 if around is not None else len(tuple(coarse)),
        grid=_grid_runs(fine),
        extra=current is not None,
    )


def sizes_of(task: Task | None, steps: int) -> Sizes:
    """What a training and a validation of this task cost."""
    whole_number("steps", steps, least=1)
    if task is None or not task.has_validation:
        return Sizes(steps)
    counts = task.val_counts
    return Sizes(steps, task.batch_examples, counts["selection"], counts.get("test", 0))


@dataclass(frozen=True)
class Setting:
    """Everything that a search was asked for, checked."""

    plan: Plan
    schedule: Schedule | Feedback[Any]
    name: str
    prior: Prior
    coarse: tuple[float, ...]
    fine: tuple[float, ...] | Literal["grid"]
    limits: Limits
    seed: int
    min_gain: float
    scale: Scale
    kind: str
    current: tuple[float, Schedule | Feedback[Any]] | None = None
    around: float | None = None
    adapts_rate: bool = False
    guess: Callable[[str], Any] = field(default=lambda _part: None)

    @property
    def steps(self) -> int:
        """The length of a whole training."""
        return self.plan.sizes.steps


def make_setting(
    task: Task | None,
    *,
    steps: int,
    schedule: str | Shape | None = None,
    budget: float | None = None,
    min_gain: float = 0.02,
    coarse: Sequence[float] = COARSE,
    fine: Sequence[float] | Literal["grid"] | None = None,
    limits: Limits = LIMITS,
    seed: int = 0,
    current: tuple[float, str] | None = None,
    around: float | None = None,
) -> Setting:
    """Everything that a search was asked for, after a check; see `search`."""
    if task is not None:
        checked_task(task)
    whole_number("steps", steps, least=1)
    whole_number("seed", seed, least=0)
    if not 0 <= min_gain < math.inf:
        raise ArgumentError(f"min_gain={min_gain!r}; expected a number >= 0, such as 0.02.")
    coarse, factors, limits = _checked_grids(coarse, fine, limits)
    if around is not None:
        _inside("around", around, limits)
    shape = _shape(first_schedule(steps) if schedule is None else schedule)
    present = None
    if current is not None:
        present = (_inside("the current rate", current[0], limits), _shape(current[1]))
    name = registered_name(shape) or "schedule"
    adapts = task is not None and task.adapts_rate
    planned = make_plan(
        sizes_of(task, steps), budget,
        coarse=0 if around is not None or adapts else len(coarse),
        grid=_grid_runs(fine), extra=current is not None,
    )  # fmt: skip
    kind = None if task is None else task.loss_kind
    return Setting(
        plan=planned, schedule=shape, name=name, prior=prior(name, steps), coarse=coarse,
        fine=factors, limits=limits, seed=seed, min_gain=min_gain,
        scale=Scale(None) if kind is None else kind.scale,
        kind="" if kind is None else kind.words,
        current=present, around=around, adapts_rate=adapts,
        guess=(lambda _part: None) if task is None else task.guess,
    )  # fmt: skip


def first_schedule(steps: int) -> str:
    """The schedule that had the lowest losses on other tasks of such a length."""
    return min(known_schedules(steps), key=lambda name: prior(name, steps).score)


def _shape(schedule: str | Shape) -> Schedule | Feedback[Any]:
    """A schedule from its text, or from a function of progress."""
    if isinstance(schedule, str):
        return FEEDBACK[schedule]() if schedule in FEEDBACK else parse(schedule)
    return as_shape(schedule)


def _grid_runs(fine: Sequence[float] | Literal["grid"] | None) -> int:
    return 0 if fine is None else len(FACTORS) if fine == "grid" else len(fine)


def _checked_grids(
    coarse: Sequence[float], fine: Sequence[float] | Literal["grid"] | None, limits: Limits
) -> tuple[tuple[float, ...], tuple[float, ...] | Literal["grid"], Limits]:
    """The grids in order, and the limits; raises where the coarse grid leaves them."""
    coarse = tuple(sorted({positive_number("a coarse rate", rate) for rate in coarse}))
    if isinstance(fine, str) and fine != "grid":
        raise ArgumentError(f"fine={fine!r}; expected factors such as [0.8, 1.0, 1.6], or 'grid'.")
    factors: tuple[float, ...] | Literal["grid"] = "grid"
    if fine != "grid":
        factors = tuple(positive_number("a fine factor", factor) for factor in fine or ())
    low, high = (positive_number("a limit", limit) for limit in limits)
    if not coarse:
        raise ArgumentError("the coarse grid is empty. Give at least one rate, such as 0.01.")
    if not low <= coarse[0] <= coarse[-1] <= high:
        raise ArgumentError(
            f"the coarse grid {coarse[0]:g} ... {coarse[-1]:g} leaves the limits {low:g} ... "
            f"{high:g}. Widen the limits, or narrow the grid."
        )
    return coarse, factors, (low, high)


def _inside(name: str, rate: float, limits: Limits) -> float:
    rate = positive_number(name, rate)
    if not limits[0] <= rate <= limits[1]:
        raise ArgumentError(
            f"{name}, {rate:g}, lies outside the limits {limits[0]:g} ... {limits[1]:g}."
        )
    return rate


class RateSearch:
    """The strategy: its next question depends on the recorded traces alone."""

    def __init__(self, setting: Setting, *, rate_only: bool = False) -> None:
        self.setting, self._rate_only = setting, rate_only
        self.experiment = Experiment(setting.plan.sizes, setting.plan.budget)
        self.scoring = Scoring(setting.scale)
        self.belief: Belief | None = None  # where the best peak lies, before any whole training
        self.coarse: Coarse | None = None
        self.fine: Fine | None = None
        self.stopped = "budget"
        self._wanted = Wanted(
            setting.schedule, setting.name, setting.steps, setting.seed, setting.limits,
            setting.min_gain,
        )  # fmt: skip

    @property
    def has_answer(self) -> bool:
        """Whether the first answer stands."""
        return self.belief is not None

    @property
    def whole(self) -> list[Measured]:
        """The whole trainings that ended, or failed."""
        return [] if self.fine is None else self.fine.measured

    @property
    def current(self) -> Measured | None:
        """The training of the user's present setting, where it was made."""
        run = None if self.fine is None else self.fine.current
        return None if run is None else self.experiment.history.runs.get(run.name)

    @property
    def surrogate(self) -> Surrogate:
        """What is believed of the best peak now."""
        assert self.belief is not None, "there is no answer yet"
        if self.fine is not None:
            return self.fine.surrogate
        return Surrogate.fit(self.belief, self.prior)

    @property
    def prior(self) -> Prior:
        """What other tasks tell; where scores are shares, in the numbers of this task."""
        prior = self.setting.prior
        if not self._sure:  # the usual interval is that of tasks whose short runs had learned
            prior = replace(prior, interval=1.0)
        if self.setting.scale.floor is not None:
            return prior
        runs = self.experiment.history.runs.values()
        fall = self.scoring.start - min((one.train for one in runs), default=math.nan)
        if not fall > 0:
            return prior
        noise = max(
            (end_level_stderr(one.losses) for one in self.whole if not one.failed), default=0
        )
        reading = None if self.coarse is None else self.coarse.reading
        curvature = 0.0 if reading is None else reading.curvature / fall
        return prior.in_shares(max(curvature, LEAST_SHARE), max(noise / fall, LEAST_NOISE))

    def asking(self) -> Asking:
        """The stages, one after the other."""
        setting = self.setting
        yield from self._measure_start()
        if setting.adapts_rate:
            self.belief = Belief.around(1.0, 1.01)
            self.experiment.notes.append("the optimizer sets its own rate, so lr stays 1")
        elif setting.around is not None:
            self.belief = Belief.around(setting.around, AROUND)
        else:
            yield from self._find_first_answer()
        if self._rate_only:
            self.stopped = "rate only"
            return
        yield from self._train_horizon()
        yield from self._train_whole()

    @property
    def _sure(self) -> bool:
        """Whether the first answer rests on runs that had learned something, or on the user."""
        return self.coarse is None or self.coarse.reading is None or self.coarse.reading.learned

    def _measure_start(self) -> Asking:
        """A run that changes no weight: what the loss is before training.

        Where guessing is known, one step is enough; else it is what the others are held against.
        """
        setting = self.setting
        known = setting.guess("train")
        until = min(setting.steps, 1 if known is not None else max(setting.plan.short, LEAST_START))
        run = untrained_run(setting.seed)
        yield from self.experiment.train("before", [run], setting.steps, until)
        losses = self.experiment.history.runs[run.name].losses
        start = float(losses.mean()) if len(losses) else math.nan
        self.scoring.start = start
        guess = start if known is None else known.loss
        self._scene = Scene(start, guess, end_level_stderr(losses))

    def _find_first_answer(self) -> Asking:
        setting, plan = self.setting, self.setting.plan
        whole = plan["fine"]
        self.experiment.set_aside(whole.cost if whole else 0.0)
        self.coarse = Coarse(self.experiment, plan, setting.limits, setting.seed, self._scene)
        yield from self.coarse.asking(setting.coarse)
        self.experiment.set_aside(0.0)
        reading = self.coarse.reading
        assert reading is not None, "the coarse stage ends with a reading, or raises"
        self.belief = setting.prior.belief(reading.rate, reading.steps, learned=reading.learned)

    def _train_horizon(self) -> Asking:
        """Whole runs of the schedule, compressed, at three rates around the first answer."""
        setting, horizon = self.setting, self.setting.plan.horizon
        if not horizon or setting.adapts_rate:
            return
        whole = setting.plan["fine"]
        self.experiment.set_aside(whole.cost if whole else 0.0)
        reader = HorizonReader(self.experiment, self._wanted, horizon, self.scoring.start)
        yield from reader.asking(self.surrogate.best_rate())
        self.experiment.set_aside(0.0)
        if reader.rate is not None:
            assert self.belief is not None, "horizons follow the first answer"
            self.belief = self.belief.combined(setting.prior.belief_at_horizon(reader.rate))

    def _train_whole(self) -> Asking:
        setting = self.setting
        assert self.belief is not None, "whole trainings follow the first answer"
        yield from self._measure_guess()
        eta0 = self.surrogate.best_rate()
        self.fine = Fine(
            self.experiment,
            self._wanted,
            self.scoring,
            self.belief,
            lambda: self.prior,
            sure=self._sure,
        )
        if setting.current is not None:
            yield from self.fine.train_current(*setting.current)
        if setting.fine == "grid":
            yield from self.fine.grid(eta0)
        else:
            yield from self.fine.asking([rounded(eta0 * factor) for factor in setting.fine])
        self.stopped = self.fine.stopped

    def _measure_guess(self) -> Asking:
        """What a model reaches that has learned nothing, on the selection half."""
        sizes, setting = self.experiment.sizes, self.setting
        if not sizes.selection:
            return
        known = setting.guess("selection")
        if known is not None:
            self.scoring.guess = Baseline(known.loss, known.stderr, known=True)
        else:
            runs = [untrained_run(setting.seed)]
            until = max(1, self.experiment.history.trained(runs[0]))
            yield from self.experiment.train("before", runs, setting.steps, until, validate=None)
            one = self.experiment.history.runs[runs[0].name]
            self.scoring.guess = Baseline(one.loss(), one.stderr(), known=False)

    def check_learned(self) -> None:
        """Raise a SearchError where no rate has learned anything."""
        if self.fine is not None and self.fine.measured:
            if not any(map(self.scoring.learned, self.fine.measured)):
                raise self.fine.failure()
        elif self.coarse is not None and not self._sure:
            raise self.coarse.nothing_learned()
