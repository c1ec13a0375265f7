"""The strategy of a search: its stages, one after the other, and what they say together."""

import math
from dataclasses import replace

from lrtune.analysis.curves import end_level_stderr, noise
from lrtune.analysis.prior import Belief, Prior
from lrtune.analysis.short_runs import Scene, rounded
from lrtune.analysis.surrogate import Surrogate
from lrtune.tuning.coarse import LONGER_RUNS, Coarse, moved_by_itself, untrained_run
from lrtune.tuning.experiment import Experiment
from lrtune.tuning.fine import Fine, Wanted
from lrtune.tuning.history import Asking, Measured
from lrtune.tuning.horizons import HorizonReader
from lrtune.tuning.scoring import Baseline, Scoring, refuse_endless
from lrtune.tuning.settings import Setting

LEAST_START = 15  # losses before training, whose mean is held against those after it
MOST_START = 60  # where noise hides it, so many of them, but no more than a quarter of a training
LEAST_SHARE = 1e-3  # shares of the fall that differ by less are equal
LEAST_NOISE = 0.01  # two seeds of a run differ by such a share of the fall at least
TRAINED = 0.5  # a model that begins below this share of the loss of guessing was trained before
AROUND = 2.0  # a rate that the user knows about is believed up to this factor


class RateSearch:
    """The strategy: its next question depends on the recorded traces alone."""

    def __init__(self, setting: Setting, *, rate_only: bool = False) -> None:
        self.setting, self._rate_only = setting, rate_only
        self.experiment = Experiment(setting.plan.sizes, setting.plan.budget, setting.drift)
        self.scoring = Scoring(setting.scale, drifts=setting.drifts)
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
    def before(self) -> Measured | None:
        """The run that changes no weight."""
        return self.experiment.history.runs.get(untrained_run(self.setting.seed).name)

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
        strayed = self.fine is not None and self.fine.strayed
        if (
            strayed or not self._sure
        ):  # the usual interval is that of tasks whose short runs had learned
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
        else:
            yield from self._train_horizon()
            yield from self._train_whole()
        if not self.whole:
            yield from self._test_first_answer()
        elif self._begins_trained:
            yield from self._validate_start()

    @property
    def _sure(self) -> bool:
        """Whether the first answer rests on runs that had learned something, or on the user."""
        reading = None if self.coarse is None else self.coarse.reading
        return reading is None or (reading.learned and reading.clear)

    def _measure_start(self) -> Asking:
        """A run that changes no weight: what the loss is before training.

        Where guessing is known, one step is enough; else it is what the others are held against.
        """
        setting = self.setting
        known = setting.guess("train")
        least = max(setting.plan.short, LEAST_START)
        if not self.experiment.sizes.selection:
            least = max(least, min(MOST_START, setting.steps // 4))
        until = min(setting.steps, 1 if known is not None else least)
        run = untrained_run(setting.seed)
        yield from self.experiment.train("before", [run], setting.steps, until)
        losses = self.experiment.history.runs[run.name].losses
        start = float(losses.mean()) if len(losses) else math.nan
        self.scoring.start = start
        guess = start if known is None else known.loss
        self._scene = Scene(start, guess, end_level_stderr(losses))

    def _find_first_answer(self) -> Asking:
        setting, plan = self.setting, self.setting.plan
        later = sum(stage.cost for stage in plan.stages if stage.name != "coarse")
        self.experiment.set_aside(later + self._guess_cost() if later else self._test_cost())
        self.coarse = Coarse(self.experiment, plan, setting.limits, setting.seed, self._scene)
        yield from self.coarse.asking(setting.coarse)
        self.experiment.set_aside(0.0)
        reading = self.coarse.reading
        assert reading is not None, "the coarse stage ends with a reading, or raises"
        self.belief = setting.prior.belief(reading.rate, reading.steps, sure=reading.learned)

    def _train_horizon(self) -> Asking:
        """Whole runs of the schedule, compressed, at three rates around the first answer."""
        setting, horizon = self.setting, self.setting.plan.horizon
        if not horizon or setting.adapts_rate:
            return
        self.experiment.set_aside(setting.plan.whole_cost + self._guess_cost())
        start = math.nan if setting.drifts else self.scoring.start
        reader = HorizonReader(self.experiment, self._wanted, horizon, start)
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
            hinted=setting.around is not None,
            unsettled=self._scene.unsettled,
        )
        if setting.current is not None:
            yield from self.fine.train_current(*setting.current)
        if setting.fine == "grid":
            yield from self.fine.grid(eta0)
        else:
            yield from self.fine.asking([rounded(eta0 * factor) for factor in setting.fine])
        self.stopped = self.fine.stopped

    @property
    def _begins_trained(self) -> bool:
        """Whether the model has learned most of what there is before it is trained here."""
        guess, floor = self.setting.guess("train"), self.setting.scale.floor
        if guess is None or floor is None:
            return False
        return bool(self._scene.start - floor < TRAINED * (guess.loss - floor))

    def _validate_start(self) -> Asking:
        """Validate the model before training, which the whole trainings are held against."""
        run = untrained_run(self.setting.seed)
        until = max(1, self.experiment.history.trained(run))
        if self.experiment.sizes.selection and self.experiment.pays([run], until, None):
            yield from self.experiment.train(
                "before", [run], self.setting.steps, until, validate=None
            )

    def _test_first_answer(self) -> Asking:
        """Validate the short runs, where no whole training tells whether anything was learned.

        Within an epoch they need not be: each batch is new to the run that trains on it.
        """
        sizes, coarse, history = self.experiment.sizes, self.coarse, self.experiment.history
        if coarse is None or coarse.reading is None or not sizes.selection:
            return
        runs, steps = coarse.live()[:LONGER_RUNS], coarse.reading.steps
        if steps <= sizes.epoch:
            return
        yield from self._measure_guess()
        samples = sizes.short_samples(steps)
        for until in sorted(set(map(history.trained, runs))):
            some = [run for run in runs if history.trained(run) == until]
            if self.experiment.pays(some, until, samples):
                yield from self.experiment.train(
                    "coarse", some, sizes.steps, until, validate=samples
                )

    def _test_cost(self) -> float:
        """What that costs, in full trainings."""
        sizes, plan = self.experiment.sizes, self.setting.plan
        if plan.long <= sizes.epoch:
            return 0.0
        return sizes.validation(LONGER_RUNS * sizes.short_samples(plan.long)) + self._guess_cost()

    def _guess_cost(self) -> float:
        """What it costs to measure what guessing reaches, where that is not known."""
        sizes = self.experiment.sizes
        known = not sizes.selection or self.setting.guess("selection") is not None
        return 0.0 if known else sizes.validation(sizes.selection + sizes.test)

    def _measure_guess(self) -> Asking:
        """What a model reaches that has learned nothing, on the data that score the runs."""
        sizes, setting = self.experiment.sizes, self.setting
        if not sizes.selection or setting.drifts:
            known, before = setting.guess("train"), untrained_run(setting.seed).name
            losses = self.experiment.history.runs[before].losses
            error = noise(losses) / math.sqrt(max(1, len(losses)))
            self.scoring.guess = Baseline(self._scene.start, error, known=False)
            if known is not None:
                self.scoring.guess = Baseline(known.loss, known.stderr, known=True)
            return
        known, floor, trained = (
            setting.guess("selection"),
            setting.scale.floor,
            setting.guess("train"),
        )
        # Nothing lies below the guess for samples of one class, though there is more to learn.
        alike = known is not None and known.loss == floor and trained and trained.loss > floor
        if known is not None and not alike:
            self.scoring.guess = Baseline(known.loss, 0.0, known=True)
            return
        runs = [untrained_run(setting.seed)]
        until = max(1, self.experiment.history.trained(runs[0]))
        yield from self.experiment.train("before", runs, setting.steps, until, validate=None)
        one = self.experiment.history.runs[runs[0].name]
        if one.failed:
            raise moved_by_itself(one)
        self.scoring.guess = Baseline(one.loss(), 0.0, known=False)

    def check_learned(self) -> None:
        """Raise a SearchError where nothing was learned, or the loss falls without end."""
        refuse_endless(self.scoring, self.whole)
        if self.fine is not None and self.fine.measured:
            if not any(map(self.scoring.learned, self.fine.measured)):
                raise self.fine.failure(self.setting.around)
        elif self.coarse is not None and self.coarse.reading is not None:
            self.coarse.check_learned(self.scoring)
