"""The coarse stage: short runs of a few rates, longer ones around the best."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrtune.analysis.curves import end_count, end_level_stderr, noise
from lrtune.analysis.short_runs import (
    MIN_FACTOR,
    NEIGHBOUR,
    Scene,
    leading_rate,
    mask_unstable,
    rounded,
    vertex,
)
from lrtune.errors import SearchError, quantity
from lrtune.results.runs import Run
from lrtune.training import UNTRAINED
from lrtune.tuning.experiment import Experiment
from lrtune.tuning.history import Asking, Measured
from lrtune.tuning.limits import SLACK, Limits, within
from lrtune.tuning.planning import Plan
from lrtune.tuning.scoring import ERRORS_OF_TRAINING, Scoring, falling_without_end

CLIP = (
    "in the optimizer's factory, call optimizer.register_step_pre_hook(clip) with "
    "`def clip(*_): torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)`"
)
"""How gradients are clipped."""

STRAIGHT = 0.9  # a loss falls straight if its last third falls by so much of its second one's fall
LONGER_RUNS = 4  # three around the best, and one more where it moves
SHIFTS = 6  # how often the longer runs may move on to the next rate


@dataclass(frozen=True)
class Reading:
    """What short runs say.

    Attributes:
        rate: The best constant rate for so few steps.
        steps: How many.
        learned: Whether its run got below the loss of guessing by more than noise.
        clear: Whether its run got below that of the lower neighbour by more than noise.
        curvature: Rise of the loss per squared unit of the log rate, between it and its neighbours.
        at_limit: "low" or "high" where the best rate lies at a limit, else empty.
    """

    rate: float
    steps: int
    learned: bool
    clear: bool
    curvature: float
    at_limit: str = ""


def moved_by_itself(untrained: Measured) -> SearchError:
    """The error to raise where the loss changes in a run that is never trained."""
    first, last = untrained.losses[0], untrained.losses[-1]
    return SearchError(
        f"the loss changes by itself, from {first:.4g} to {last:.4g} in "
        f"{quantity(len(untrained.losses), 'step')} in which nothing was trained; expected one "
        "that depends on weights and batches, so that runs can be compared. Look for state that "
        "the loss keeps outside of the model, such as a teacher whose BatchNorm is in train mode: "
        "call teacher.eval()."
    )


def untrained_run(seed: int) -> Run:
    """A run that changes no weight."""
    return Run(f"untrained/{seed}", 1.0, UNTRAINED, seed)


class Coarse:
    """Asks for short runs at constant rates, and reads the best rate from their training losses.

    Within the first epoch a training loss is that of data which the run has not seen, so nothing is
    validated. The runs go on where they stopped.
    """

    def __init__(
        self, experiment: Experiment, plan: Plan, limits: Limits, seed: int, scene: Scene
    ) -> None:
        self._experiment, self._short, self._long = experiment, plan.short, plan.long
        self._limits, self._seed, self.scene = limits, seed, scene
        self._alone = not plan.whole_cost  # no whole training will follow
        self._early: dict[float, float] = {}  # training loss after the short runs, by rate
        self._late: dict[float, float] = {}  # after the longer ones
        self.reading: Reading | None = None

    def asking(self, rates: Sequence[float]) -> Asking:
        """The grid, decades beyond its edges, half-decades around the best, longer runs there."""
        yield from self._train(within(rates, self._limits), self._short)
        yield from self._grow()
        best = self._leader(self._early)
        yield from self._train(self._around(best), self._short)
        self._long = self._affordable_length()
        best = self._leader(self._early)
        for _ in range(SHIFTS):
            count = len(self._late)
            yield from self._train(self._around(best, itself=True), self._long)
            if len(self._late) == count:
                break
            leader = leading_rate(self._late, self.scene)
            if leader is None:  # all of them failed over the longer way
                leader = self._nearest(rounded(min(self._late) / 10, 4))
            if leader == best or not within([leader], self._limits):
                break
            best = leader
        self.reading = self._read(best)
        if self._alone and not self.reading.learned:
            yield from self._go_on(best)

    def _go_on(self, rate: float) -> Asking:
        """Spend what is left on one run: it may learn later, and nothing else would show it."""
        run, sizes = self._run_at(rate), self._experiment.sizes
        trained = self._experiment.history.trained(run)
        until = min(sizes.steps, trained + self._experiment.updates_left)
        if trained <= sizes.epoch:  # as long as it needs no validation
            until = min(until, sizes.epoch)
        if until > trained:
            yield from self._experiment.train("coarse", [run], sizes.steps, until)

    def _read(self, best: float) -> Reading:
        losses, steps = mask_unstable(self._late), self._long
        if math.isinf(losses.get(best, math.inf)):  # the budget did not pay for any longer run
            failed = {rate: loss for rate, loss in self._late.items() if math.isinf(loss)}
            losses, steps = mask_unstable(self._early | failed), self._short
            best = self._leader(losses)
        worst = max(self.scene.guess, losses[best])
        rate = vertex(losses, best, worst)
        low, high = self._limits
        edge = "low" if best <= low * (1 + SLACK) else "high" if best >= high * (1 - SLACK) else ""
        if edge == "high" and self._falls_straight(best):
            raise self._unmoved(best)
        learned, clear = self.scene.learned(losses[best]), self._is_clear(best)
        rises = [
            (min(loss, worst) - losses[best]) / math.log(one / best) ** 2
            for one, loss in losses.items()
            if one != best and MIN_FACTOR <= max(one / best, best / one) <= 2 * NEIGHBOUR
        ]
        curvature = max(0.0, min(rises, default=0.0))
        clipped = rounded(min(max(rate, low), high), 6)
        return Reading(clipped, steps, learned, clear, curvature, edge)

    def _falls_straight(self, rate: float) -> bool:
        """Whether the loss falls in a straight line, and in proportion to the rate.

        Then the rate has hardly begun to matter, and the best one lies far above.
        """
        runs = self._experiment.history.runs
        below = max((one for one in self._late if one < rate), default=None)
        if below is None:
            return False
        losses, held = runs[self._run_at(rate).name].losses, runs[self._run_at(below).name].losses
        first, second, third = (float(part.mean()) for part in np.array_split(losses, 3))
        fall, other = losses[0] - third, held[0] - float(np.array_split(held, 3)[2].mean())
        straight = second - third > STRAIGHT * (first - second) > 0
        return bool(straight and fall > STRAIGHT * other * rate / below)

    def _unmoved(self, best: float) -> SearchError:
        """The error to raise where the highest rate allowed is still far too low."""
        run = self._experiment.history.runs[self._run_at(best).name]
        first, last = run.losses[0], run.losses[-1]
        if last < -abs(first):  # no loss that is bounded falls so far
            return falling_without_end(run, ", the highest one allowed,")
        return SearchError(
            f"nothing was learned up to the limit: at lr = {best:.3g}, the highest one allowed, "
            f"the rate is still far too low: the loss goes from {first:.6g} to {last:.6g} in "
            f"{len(run.losses)} steps. Scale the loss, or widen `limits`."
        )

    def _grow(self) -> Asking:
        """Add decades while the best rate is at the edge of the grid."""
        while True:
            best, lowest, highest = (
                leading_rate(self._early, self.scene),
                min(self._early),
                max(self._early),
            )
            if best is None:
                rate, why = lowest / 10, "every coarse rate failed"
            elif best == lowest:
                rate, why = (
                    lowest / 10,
                    f"the lowest rate of the coarse grid, {lowest:.3g}, was the best",
                )
            elif best == highest:
                rate, why = (
                    highest * 10,
                    f"the highest rate of the coarse grid, {highest:.3g}, was the best",
                )
            else:
                return
            new = within([rate], self._limits)
            if not new:
                if best is None:
                    raise self.failure()
                self._experiment.notes.append(f"{why}, and it lies at a limit: widen `limits`")
                return
            if not self._experiment.pays(self._runs(new), self._short):
                self._experiment.notes.append(
                    f"{why}, but the budget does not pay for {new[0]:.3g}"
                )
                return
            self._experiment.notes.append(f"{why}, so {new[0]:.3g} was tried as well")
            yield from self._train(new, self._short)

    def _train(self, rates: Sequence[float], until: int) -> Asking:
        """Train these rates up to a step, where they are not, and the budget pays for it."""
        known = self._early if until == self._short else self._late
        new = [rate for rate in rates if self._nearest(rate, known) not in known]
        if until == self._long:  # a rate that failed early need not go on
            failed = [rate for rate in new if math.isinf(self._early.get(rate, 0.0))]
            self._late |= dict.fromkeys(failed, math.inf)
            new = [rate for rate in new if rate not in failed]
        runs = self._runs(new)
        if not runs or (self._early and not self._experiment.pays(runs, until)):
            return
        yield from self._experiment.train("coarse", runs, self._experiment.sizes.steps, until)
        measured = [self._experiment.history.runs[run.name] for run in runs]
        known |= {one.run.lr: one.train for one in measured}
        # Before it learns, a loss may scatter more than that of guessing ever does.
        lowest = min(measured, key=lambda one: one.train)
        errors = [end_level_stderr(one.losses) for one in (measured[0], lowest)]
        self.scene = replace(self.scene, error=min([self.scene.error or math.inf, *errors]))

    def _affordable_length(self) -> int:
        """The length of the longer runs: what is left pays for three, and for a shift of the best.

        Where the grid did not have to grow, they are longer; never beyond what the plan holds.
        """
        sizes = self._experiment.sizes
        left = self._experiment.updates_left // LONGER_RUNS
        most = min(self._long, sizes.steps)
        return max(self._short, min(most, self._short + left))

    def _is_clear(self, rate: float) -> bool:
        """Whether a run learned more than its lower neighbour on the same batches, beyond noise."""
        below = [one for one in self._late if one < rate and math.isfinite(self._late[one])]
        return not below or self._gains(rate, self._run_at(max(below)).name)

    def _gains(self, rate: float, other: str) -> bool:
        """Whether a run ends below another one, by more than twice the error of the difference."""
        runs = self._experiment.history.runs
        losses, held = runs[self._run_at(rate).name].losses, runs[other].losses
        count = end_count(len(losses))
        gained = (held[: len(losses)] - losses)[-count:]
        return bool(gained.mean() > 2 * noise(gained) / math.sqrt(count))

    def _run_at(self, rate: float) -> Run:
        return self._runs([rate])[0]

    def _leader(self, losses: Mapping[float, float]) -> float:
        best = leading_rate(losses, self.scene)
        if best is None:
            raise self.failure()
        return best

    def _around(self, best: float, *, itself: bool = False) -> list[float]:
        rates = [best / NEIGHBOUR, *([best] if itself else []), best * NEIGHBOUR]
        return [self._nearest(rate) for rate in within(rates, self._limits)]

    def _nearest(self, rate: float, known: Iterable[float] | None = None) -> float:
        """The trained rate that equals this one up to rounding; else the rate itself."""
        tried = self._early if known is None else known
        return next((r for r in tried if math.isclose(r, rate, rel_tol=SLACK)), rate)

    def _runs(self, rates: Sequence[float]) -> list[Run]:
        return [Run(f"short {rate:.6g}", rate, seed=self._seed) for rate in rates]

    def live(self) -> list[Run]:
        """The runs that the reading rests on, without those that failed; the lowest loss first."""
        assert self.reading is not None, "a coarse stage that ends has a reading"
        known = self._early if self.reading.steps == self._short else self._late
        live = [rate for rate, loss in known.items() if math.isfinite(loss)]
        return [self._run_at(rate) for rate in sorted(live, key=known.__getitem__)]

    def check_learned(self, scoring: Scoring) -> None:
        """Raise a SearchError where no short run got below what guessing reaches.

        On validation data, where they were validated: training data can be learned by heart.
        """
        runs = [self._experiment.history.runs[run.name] for run in self.live()]
        tested = [one for one in runs if one.validations]
        learned = any(self.scene.learned(one.train, ERRORS_OF_TRAINING) for one in runs)
        if learned and (not tested or any(map(scoring.learned, tested))):
            return
        what, guess = "training", self.scene.guess
        losses = {one.run.lr: one.train for one in runs}
        if learned and scoring.guess is not None:
            what, guess = "validation", scoring.guess.loss
            losses = {one.run.lr: one.loss() for one in tested}
        rows = "\n".join(f"  lr {lr:<8.3g} {loss:.4g}" for lr, loss in sorted(losses.items()))
        steps = max(one.until for one in runs)
        raise SearchError(
            f"nothing was learned within {quantity(steps, 'step')} at any rate: the {what} loss is "
            f"{self.scene.start:.4g} before, {guess:.4g} for the best constant prediction, and "
            f"after that\n{rows}\nGive enough budget and time for whole trainings, which may learn "
            "something; and look at labels, loss and optimizer."
        )

    def failure(self) -> SearchError:
        """The error to raise where no rate trains."""
        return SearchError(
            f"no rate from {min(self._early):.2g} to {max(self._early):.2g} trains for even "
            f"{self._short} steps without diverging. Look for outliers in the data, normalise the "
            f"inputs, lower `limits`, or clip the gradients: {CLIP}."
        )
