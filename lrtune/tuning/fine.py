"""The fine stage: whole trainings around the best peak, of which the best is kept."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import norm

from lrtune.analysis.prior import Belief, Prior
from lrtune.analysis.short_runs import NEIGHBOUR
from lrtune.analysis.surrogate import ANSWER, Surrogate
from lrtune.errors import SearchError, quantity
from lrtune.results.runs import Run
from lrtune.schedules import Feedback, Schedule
from lrtune.tuning.experiment import Experiment
from lrtune.tuning.history import Asking, Measured
from lrtune.tuning.limits import Limits, clip, within
from lrtune.tuning.planning import WAVE
from lrtune.tuning.scoring import Scoring

FACTORS = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0)
"""The lecture's fine grid, as factors of the best rate so far."""

APART = 0.6  # standard deviations of the belief, by which the first two peaks lie off its answer
WIDTH = 0.75  # a belief in the best of some peaks, in units of the distance to its neighbour
BEYOND = 2.0  # by convention: standard deviations of what the user said
HOPELESS = 4  # whole runs that have learned nothing, after which the search gives up


@dataclass(frozen=True)
class Wanted:
    """What the fine stage looks for.

    Attributes:
        schedule: The schedule whose peak is sought.
        name: Its name, for messages and names of runs.
        steps: The length of a whole training.
        seed: The first seed; each run takes the next one.
        limits: The lowest and the highest rate to try.
        min_gain: The search ends when another wave is expected to gain less, in score units.
    """

    schedule: Schedule | Feedback[Any]
    name: str
    steps: int
    seed: int
    limits: Limits
    min_gain: float


class Fine:
    """Asks for whole trainings, a seed each; the best peak again, until more would gain little."""

    def __init__(
        self,
        experiment: Experiment,
        wanted: Wanted,
        scoring: Scoring,
        belief: Belief,
        prior: Callable[[], Prior],
        *,
        sure: bool = True,
        hinted: bool = False,
        unsettled: bool = True,
    ) -> None:
        self._hinted = hinted  # whether the belief is what the user said
        self.strayed = False  # whether trainings near that rate led away from it
        self._believed = sure  # whether the belief rests on runs that had learned something
        self._unsettled = unsettled  # whether a loss starts far above that of guessing
        self._experiment, self._wanted, self._prior = experiment, wanted, prior
        self._scoring, self.belief = scoring, belief
        self.runs: list[Run] = []
        self.current: Run | None = None
        self.stopped = "budget"

    @property
    def measured(self) -> list[Measured]:
        """The runs that were trained to their end, or failed."""
        known = self._experiment.history.runs
        whole = [known[run.name] for run in self.runs if run.name in known]
        return [one for one in whole if one.failed or one.finished]

    @property
    def surrogate(self) -> Surrogate:
        """What is believed of the best peak now."""
        rates, scores, prior = self._scored()
        known = dict(zip(rates, scores, strict=True))
        best = min(known, key=known.__getitem__, default=math.nan)
        apart = [abs(math.log(rate / best)) for rate in known if rate != best]
        if not self._sure and apart and math.isfinite(known[best]):
            # Short runs had learned nothing, so these trainings alone count.
            spread = WIDTH * min(apart)
            middle = math.log(best) - spread * norm.ppf(ANSWER)  # so that the best is the answer
            return Surrogate.fit(Belief(float(middle), spread), prior)
        return Surrogate.fit(self.belief, prior, rates, scores)

    def _scored(self) -> tuple[list[float], list[float], Prior]:
        """The peaks of the runs, their scores, and the prior on the scale of these scores."""
        measured = self.measured
        # No run is much worse than guessing, so that is as far as a score rises above the best.
        prior = self._prior().with_ceiling(self._scoring.room(measured))
        scores = [float(score) for score in self._scoring.scores(measured)]
        return [one.run.lr for one in measured], scores, prior

    def _strays(self) -> bool:
        """Whether the best peak lies beyond all that were tried near the user's own rate."""
        rates, scores, prior = self._scored()
        known = dict(zip(rates, scores, strict=True))
        lowest = min(known, key=known.__getitem__)
        if not math.isfinite(known[lowest]):
            return False
        best = Surrogate.fit(self.belief, prior, rates, scores).best_rate()
        far = abs(math.log(lowest) - self.belief.mean) > BEYOND * self.belief.sd
        # A seed that failed draws the belief down, and says little of the rate.
        return far or (max(scores) < math.inf and not min(rates) <= best <= max(rates))

    def asking(self, first: Sequence[float] = ()) -> Asking:
        """Waves of two whole trainings; `first` are peaks to begin with."""
        queue = list(first)
        while True:
            peaks = [queue.pop(0) for _ in range(min(WAVE, len(queue)))] or self._next_peaks()
            runs = self._affordable([self._run(peak, place) for place, peak in enumerate(peaks)])
            if not runs:
                return
            self.runs += runs
            yield from self._experiment.train_whole("fine", runs, self._wanted.steps)
            self.strayed = self.strayed or (self._hinted and self._strays())
            if not queue and self._enough():
                self.stopped = "gain"
                return

    def train_current(self, lr: float, schedule: Schedule | Feedback[Any]) -> Asking:
        """The user's present setting, as the first whole training."""
        wanted = self._wanted
        run = Run(f"current {lr:.6g}/{wanted.seed}", lr, schedule, wanted.seed)
        if self._affordable([run]):
            self.current = run
            if repr(schedule) == repr(wanted.schedule):
                self.runs.append(run)
            yield from self._experiment.train_whole("current", [run], wanted.steps)

    def grid(self, eta0: float) -> Asking:
        """The lecture's whole grid around eta0; it grows while its best is at the edge."""
        peaks = within((eta0 * factor for factor in FACTORS), self._wanted.limits, digits=3)
        yield from self._all(peaks)
        while peak := self._beyond():
            before = len(self.measured)
            yield from self._all([peak])
            if len(self.measured) == before:
                return

    def _all(self, peaks: Sequence[float]) -> Asking:
        for first in range(0, len(peaks), WAVE):
            some = peaks[first : first + WAVE]
            runs = self._affordable([self._run(peak, place) for place, peak in enumerate(some)])
            if not runs:
                return
            self.runs += runs
            yield from self._experiment.train_whole("fine", runs, self._wanted.steps)

    def _beyond(self, factor: float = 1.25) -> float | None:
        """The next peak beyond those tried, where the best of them lies at the edge."""
        good = [one for one in self.measured if not one.failed]
        if not good:
            rates = [one.run.lr for one in self.measured]
            peak = min(rates) / 2
        else:
            scores = self._scoring.scores(good)
            best = good[int(scores.argmin())].run.lr
            rates = [one.run.lr for one in self.measured]
            if best == max(rates):
                peak = best * factor
            elif best == min(rates):
                peak = best / factor
            else:
                return None
        inside = within([peak], self._wanted.limits, digits=3)
        return inside[0] if inside else None

    def _next_peaks(self) -> list[float]:
        """Two peaks: the best that is believed of; or lower, where nothing has learned yet."""
        measured = self.measured
        if measured and not any(map(self._scoring.learned, measured)):
            if len(measured) >= HOPELESS:
                return []
            rates = [one.run.lr for one in measured]
            further = [max(rates) * NEIGHBOUR, max(rates) * 10]
            if self._too_high:  # the lower the safer, and the budget may hold one alone
                further = [min(rates) / 10, min(rates) / NEIGHBOUR]
            return within(further, self._wanted.limits, digits=3)
        if measured:
            best = self._clipped(self.surrogate.best_rate())
            edge = None if self._sure else self._beyond(NEIGHBOUR)
            return [best, best] if edge is None else [edge, best]
        # The first wave lies on both sides, so far apart as the place of the best is uncertain.
        return [self._clipped(self.surrogate.best_rate() * self._apart**side) for side in (-1, 1)]

    @property
    def _sure(self) -> bool:
        """Whether the belief counts: not where what it led to learned by heart alone, or strays."""
        by_heart = any(map(self._scoring.by_heart, self.measured))
        return self._believed and not self.strayed and not by_heart

    @property
    def _too_high(self) -> bool:
        """Whether runs have learned nothing as their rates are too high, and not too low.

        Then they fail, or fall from far above to the loss of guessing and stay there; or they have
        learned the training data by heart, which lower rates do later.
        """
        failed = any(one.failed for one in self.measured)
        return self._unsettled or failed or any(map(self._scoring.by_heart, self.measured))

    @property
    def _apart(self) -> float:
        """The factor by which the first two peaks lie beside the best one believed of."""
        return math.exp(APART * self.belief.sd)

    def _clipped(self, peak: float) -> float:
        return clip(peak, self._wanted.limits)

    def _run(self, peak: float, place: int) -> Run:
        seed = self._wanted.seed + len(self.runs) + place
        return Run(f"{self._wanted.name} {peak:.6g}/{seed}", peak, self._wanted.schedule, seed)

    def _affordable(self, runs: Sequence[Run]) -> list[Run]:
        """As many of these runs as the budget holds, from the first on."""
        count = len(runs)
        while count and not self._experiment.pays(runs[:count], self._wanted.steps, None):
            count -= 1
        return list(runs[:count])

    def _enough(self) -> bool:
        """Whether another wave is expected to gain too little to be worth it."""
        finished = sum(not one.failed for one in self.measured)
        if not any(map(self._scoring.learned, self.measured)):
            return False
        if not self._sure and self._beyond(NEIGHBOUR) is not None:
            return False
        return self.surrogate.gain(finished, WAVE) < self._wanted.min_gain

    def failure(self, around: float | None) -> SearchError:
        """The error to raise where no whole training has learned anything.

        Args:
            around: The rate near which the user let the search begin; None without one.
        """
        measured, scoring = self.measured, self._scoring
        rows = "\n".join(
            f"  lr {one.run.lr:<8.3g} {scoring.start:.4g} before, {scoring.judged(one):.4g} after"
            + (f" (training loss {one.train:.4g})" if self._experiment.sizes.selection else "")
            for one in measured
        )
        elsewhere = "If the model does train elsewhere, give "
        if around is None:
            elsewhere += "a rate that worked as `around`, or a larger budget:"
        else:
            elsewhere += (
                f"another rate as `around`, leave it out, or give a larger budget: began near "
                f"{around:.3g},"
            )
        guess = scoring.guess
        against = (
            "the training loss at the start"
            if guess is None
            else f"{guess.loss:.4g}, the loss of "
            + ("the best constant prediction" if guess.known else "the model before training")
        )
        return SearchError(
            f"nothing was learned: no rate got clearly below {against}.\n{rows}\n"
            "Look at the labels, the loss and the optimizer: is the loss the right way round, do "
            "gradients reach the weights, do inputs and labels belong together? A training loss "
            "that is far lower says that the training data were learned by heart: train fewer "
            f"steps, or regularise more. {elsewhere} this one tried "
            f"{quantity(len(measured), 'whole training')}."
        )
