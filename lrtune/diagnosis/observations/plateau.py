"""A run that stands, and what its continuations show: each is trained when a check asks for it."""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from torch.optim import Optimizer

from lrtune.analysis.continued import (
    Difference,
    Effect,
    effect,
    fall_of,
    late_fall,
    mean_difference,
    spikes,
    window_means,
)
from lrtune.analysis.curves import Floats
from lrtune.analysis.overfitting import Turn, turn
from lrtune.diagnosis.observations.continuations import (
    AGAIN,
    AVERAGED,
    FORWARD,
    HIGHER,
    LOWER,
    REST,
    UNDECAYED,
    UNTRAINED,
    Continuation,
    Continued,
    go_on,
)
from lrtune.diagnosis.observations.curvature import CURVATURE, sharpness
from lrtune.diagnosis.observations.full_gradient import GRADIENT_BATCHES, gradient_vanishes
from lrtune.diagnosis.observations.stalls import Stall
from lrtune.diagnosis.observations.twin import COST, Twin, Wider, train_wider
from lrtune.task.states import TrainState
from lrtune.task.task import Task

NOTHING = 0.02
"""By convention: a rate below this share of its peak is at nothing, and moves no weight far."""

ERRORS = 3  # by convention: a run has learned that fell by more than so many standard errors
TINY = 1e-6  # by convention: and by more than rounding
SOLVED = 0.02  # by convention: nobody asks why a loss stands that is so near to its floor
MORE = 2.0  # by convention: a new start is better that falls by so many times more
VISIBLE = 0.5  # by convention: a fall is seen by this share of the noise of single batches
GROWS = 0.15  # by convention: or that grew by this share, where the floor is known
TURNS = 0.05  # by convention: of the fall; a validation loss has turned that rose by more
RISE = 0.01  # by convention: of the fall; by less, a validation loss does not rise

FIRST = (UNTRAINED, REST, AGAIN, AVERAGED, LOWER, HIGHER)
"""What is trained first, in lockstep; the rest only when a check asks for it."""


class Plateau:
    """A run that stands, and its continuations.

    Attributes:
        task: What is trained.
        stall: The run, at the step from which it is continued.
        seeds: Each has an order of the batches of its own.
        steps: How many batches each continuation sees.
        spent: What all of them have cost so far, in updates.
        short_of: How often something was not tried, for want of budget or of a wider twin.
    """

    def __init__(
        self,
        task: Task,
        stall: Stall,
        seeds: Sequence[int],
        steps: int,
        *,
        budget: float,
        samples: int,
        twin: Twin | None,
    ) -> None:
        self.task, self.stall, self.seeds, self.steps = task, stall, seeds, steps
        self._budget, self._samples, self._twin = budget, samples, twin
        self._known, self._failed = dict[str, Floats](), list[Exception]()
        self._val, self.spent, self.short_of = np.empty((2, 0)), 0.0, 0

    @property
    def at_nothing(self) -> bool:
        """Whether its rate has gone down to nothing, so that it stands because of that."""
        now, rates = self.stall.lr, self.stall.rates
        came_down = not len(rates) or now <= NOTHING * float(rates.max())
        return came_down and now < NOTHING * self.stall.peak

    def losses(self, way: Continuation) -> Floats:
        """The losses of a continuation, order of the batches x step; NaN where it failed."""
        if way.name not in self._known:
            self._known |= self._continued(FIRST if way in FIRST else (way,)).losses
        return self._known[way.name]

    def effect(self, way: Continuation, than: Continuation = AGAIN) -> Effect:
        """By how much a continuation lies below the same again, or another one."""
        return effect(self.losses(way), self.losses(than), self.highest)

    @cached_property
    def level(self) -> float:
        """The mean loss of the state itself."""
        return float(self.losses(REST).mean())

    @cached_property
    def start(self) -> float:
        """The loss before training, or of guessing, whichever is lower; on the same batches."""
        untrained = float(self.losses(UNTRAINED).mean())
        return untrained if math.isnan(self.guess) else min(untrained, self.guess)

    @property
    def guess(self) -> float:
        """The training loss of guessing; NaN where it is unknown."""
        guess = self.task.guess("train")
        return math.nan if guess is None else guess.loss * self._summed

    @property
    def _summed(self) -> float:
        """How many samples a loss sums, as guesses are stated per sample; 1 for a mean."""
        return self.task.loss_kind.summed

    @cached_property
    def scale(self) -> float:
        """The fall from the start to the lowest level of all first continuations.

        At least what is more than the noise of the batches.
        """
        rest = self.losses(REST)
        late = [window_means(self.losses(way) - rest)[1].mean() for way in FIRST[1:]]
        fall = self.start - self.level - float(np.nanmin([0.0, *late]))
        return max(fall, self.least)

    @property
    def highest(self) -> float:
        """No loss counts as higher than this: as far above start and level as the fall is deep."""
        return max(self.start, self.level) + max(self.scale, abs(self.level - self.start))

    @cached_property
    def falls(self) -> Difference:
        """By how much the same again still falls, from the second quarter to the last one."""
        return fall_of(self.losses(AGAIN), self.losses(REST), self.highest)

    @cached_property
    def fell(self) -> Difference:
        """By how much the run fell from its third quarter to its last one, at its present rate."""
        rates, now = self.stall.rates, self.stall.lr
        alike = (rates > now / 2) & (rates < 2 * now)
        usual = np.flatnonzero(~alike)
        return late_fall(self.stall.losses[int(usual[-1]) + 1 if len(usual) else 0 :])

    @cached_property
    def spikes(self) -> int:
        """How many losses of the same again stand out, by a tenth of the fall at least."""
        return spikes(self.losses(AGAIN) - self.losses(REST), self.scale / 10)

    @property
    def learned(self) -> bool:
        """Whether the run lies below its start by more than the noise of the batches."""
        return self.start - self.level > self.least

    @cached_property
    def least(self) -> float:
        """The least fall that is more than the noise of the batches."""
        rest = self.losses(REST)
        with np.errstate(over="ignore"):  # of a run that diverges
            spread = float(rest.std())
        return max(ERRORS * spread / math.sqrt(rest.size), TINY * abs(self.start))

    @property
    def solved(self) -> bool:
        """Whether the loss has come down to its floor, as far as that is known."""
        floor = self.task.loss_kind.floor
        return floor is not None and self.level - floor < SOLVED * (self.start - floor)

    @cached_property
    def restarted(self) -> tuple[float, Difference] | None:
        """The share of the rate that falls from the start on, and by how much; None if none does.

        A tenth is tried, and a hundredth where that does not fall either. It has to be more than
        the run gains at three times its rate.
        """
        untrained, faster = self.losses(UNTRAINED), self.effect(HIGHER).late.mean
        least = max(VISIBLE * float(untrained.std()), MORE * faster)
        for share in (0.1, 0.01):
            slower = Continuation(f"a new start at rate x {share:g}", factor=share, fresh=True)
            if not self.affords(slower):
                return None
            fall = effect(self.losses(slower), untrained, self.highest).late
            if fall.above(least):
                return share, fall
        return None

    @cached_property
    def turn(self) -> Turn | None:
        """Where the validation loss turned while the training loss fell."""
        if not self.stall.validations:
            return None
        found = turn(*np.array(self.stall.validations).T)
        if found is None or not self.learned or self.level >= self.trained_at(found.step):
            return None
        rise, floor = found.last - found.lowest, self.task.loss_kind.floor
        beside = math.inf if floor is None else found.lowest - floor / self._summed
        least = min(TURNS * self.scale, max(GROWS * beside, TURNS * self.scale / 3))
        return found if rise > least / self._summed else None

    def trained_at(self, step: float) -> float:
        """The mean training loss around a step of the run."""
        reach = max(4, len(self.stall.losses) // 24)
        some = self.stall.losses[max(0, int(step) - reach) : int(step) + reach]
        return float(some.mean())

    @cached_property
    def rises(self) -> tuple[Difference, Difference] | None:
        """By how much the validation loss rises, and training falls, in the same again."""
        train = self.effect(AGAIN, than=REST).late
        if self.stall.validations or not self._val.size:
            return None
        halfway, end = self._val
        rise = mean_difference(end - halfway)
        if (
            rise.mean > 2 * rise.reach
            and rise.above(RISE * self.scale / self._summed)
            and train.above(0.0)
        ):
            return rise, train
        return None

    @cached_property
    def sharpness(self) -> float:
        """The largest eigenvalue of the Hessian; 0 where it is not known, or without a budget."""
        if self.spent + CURVATURE > self._budget:
            return 0.0
        self.spent += CURVATURE
        found = sharpness(self.task, self._state, self.stall.step, self.stall.peak)
        return found[0].value if found else 0.0

    @cached_property
    def gradient_vanishes(self) -> bool:
        """Whether the gradient is zero, but for its noise; False without a budget."""
        if not self._has(GRADIENT_BATCHES + 1):
            return False
        self.spent += GRADIENT_BATCHES + 1
        return gradient_vanishes(self.task, self._state, self.stall.peak, self.seeds[0])

    @cached_property
    def wider(self) -> Wider | None:
        """What a wider model gains by the same training; None where there is none, or no budget."""
        if self._twin is None or not self._has(COST * self._twin.until):
            self.short_of += self._twin is None
            return None
        self.spent += (most := COST * self._twin.until)
        found = train_wider(self.stall, self._twin, self.level)
        self.spent += found.cost - most
        return found

    @property
    def optimizer(self) -> Optimizer:
        """That of the run."""
        return self._state.optimizer

    @property
    def held_by_decay(self) -> Difference | None:
        """What the run gains without weight decay; None without one, or without a budget."""
        groups = self.optimizer.param_groups
        if not any(group.get("weight_decay") for group in groups) or not self.affords(UNDECAYED):
            return None
        return self.effect(UNDECAYED).best

    def train_plainly(self) -> None:
        """Go on as before, and nothing else: raises what the user's own code raises."""
        if not self.stall.failed:
            go_on(self.task, self._state, [AGAIN], self.stall.lr, self.steps, seeds=self.seeds)

    def affords(self, way: Continuation) -> bool:
        """Whether a continuation is known, or the budget is enough for it."""
        cost = way.cost * len(self.seeds) * self.steps
        return way.name in self._known or way in FIRST or self._has(cost)

    def _has(self, cost: float) -> bool:
        """Whether the budget has so many updates left."""
        enough = self.spent + cost <= self._budget
        self.short_of += not enough
        return enough

    @property
    def _state(self) -> TrainState:
        assert self.stall.state is not None, "a run that failed has no continuation"
        return self.stall.state

    def _continued(self, ways: Sequence[Continuation]) -> Continued:
        for error in self._failed:  # of the user's code, which would raise it again
            raise error
        lr = self.stall.peak if self.at_nothing else self.stall.lr
        samples = self._samples if ways is FIRST else 0
        most = sum(way.cost for way in ways) * self.steps
        most += 2 * FORWARD * samples / self.task.batch_examples
        self.spent += (most := most * len(self.seeds))  # which stays where they are cut short
        try:
            made = go_on(
                self.task, self._state, ways, lr, self.steps, seeds=self.seeds, samples=samples
            )
        except Exception as error:
            self._failed.append(error)
            raise
        self.spent += made.cost - most
        self._val = made.val if ways is FIRST else self._val
        return made
