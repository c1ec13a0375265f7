"""What is seen of a task by training it, within a budget; the checks that need it read it."""

import math
from collections.abc import Sequence
from functools import cached_property

from lrtune.diagnosis.observations.checkpoints import state_of
from lrtune.diagnosis.observations.continuations import FORWARD
from lrtune.diagnosis.observations.curvature import CURVATURE, Sharpness, sharpness
from lrtune.diagnosis.observations.division import VALIDATION, continue_run, val_samples
from lrtune.diagnosis.observations.gradient_noise import BATCHES, GradientNoise, gradient_noise
from lrtune.diagnosis.observations.main_training import (
    LOOKS,
    MainTraining,
    grid_updates,
    run_name,
    train_grid,
    train_run,
)
from lrtune.diagnosis.observations.memorising import HELD_OUT, MEMORISING, Memorised, memorise
from lrtune.diagnosis.observations.modes import SETTLING, Modes, losses_by_mode
from lrtune.diagnosis.observations.one_batch import MOST_UPDATES, OneBatch, overfit_one_batch
from lrtune.diagnosis.observations.passes import Pass, passes_of
from lrtune.diagnosis.observations.plateau import Plateau
from lrtune.diagnosis.observations.stalls import Stall, moved
from lrtune.diagnosis.observed import Observed
from lrtune.diagnosis.tried_once import tried_once
from lrtune.errors import ArgumentError, DataError
from lrtune.results.runs import Run, Shape
from lrtune.results.schema import SELECTION
from lrtune.schedules import constant
from lrtune.schedules.feedback import check_validation
from lrtune.schedules.registry import schedule_text
from lrtune.task.checks import TRIAL_LR
from lrtune.task.task import Task
from lrtune.training import Cohort, step_settings

STEPS = 600  # by convention: where nobody says how long the training is
LEAST_BUDGET = 300.0  # updates of all trials; half of a training of 600
LATER_PASSES = 3  # by convention: batches whose gradients are looked at after training
TRAINING, LESS = 0.3, 30
"""By convention: the share of the budget that leads to where a run is continued, less so many
updates, so that the least budget is enough for two orders of the batches."""
STILL = 0.04
"""By convention: weights hardly moved that moved by less than this share of them. At a tenth and a
hundredth of the best rate they move by 0.002 to 0.037 in 60 updates, near it by 0.07 and more."""
STUCK = 2e-4  # by convention: a tenth of that, and they have not moved at all


class Trials(Observed):
    """A task, a training of it that is asked about, and what trials show.

    Attributes:
        lr: The rate in question; None where none was given.
        steps: The length of the training, in updates.
        schedule: Its schedule.
        budget: The most that trials may spend, in updates.

    Args:
        task: What is looked at; it stays as it is.
        lr: The peak rate; with a checkpoint, the rate to go on with, its optimizer's when None.
        steps: The length of the training that the schedule is spread over.
        schedule: The schedule.
        seed: The seed of the run.
        checkpoint: What a training has come to, instead of the run: see `state_of`.
        budget: Half of `steps`, or 300 if that is more, when None.
    """

    def __init__(
        self,
        task: Task,
        lr: float | None = None,
        steps: int = STEPS,
        *,
        schedule: Shape = constant(),
        seed: int = 0,
        checkpoint: object = None,
        budget: float | None = None,
    ) -> None:
        super().__init__(task)
        self.lr, self.steps = lr, steps
        self.budget = max(LEAST_BUDGET, steps / 2) if budget is None else budget
        self._short_of, self._spent = 0, 0.0
        self.schedule, self._seed, self._checkpoint = schedule, seed, checkpoint

    @property
    def spent(self) -> float:
        """The updates that trials have made so far; a forward pass counts as a third."""
        return self._spent + (0.0 if self._made is None else self._made.spent)

    @property
    def short_of(self) -> int:
        """How often something was not tried, as the budget did not allow for it."""
        return self._short_of + (0 if self._made is None else self._made.short_of)

    @property
    def continued(self) -> bool:
        """Whether a run was continued, for as much of the budget as there was."""
        return self._made is not None

    @property
    def _made(self) -> Plateau | None:
        """The continuations, where somebody has asked for them."""
        return self.__dict__.get("plateau")

    @property
    def left(self) -> float:
        """The updates that trials may still make."""
        return self.budget - self.spent

    @tried_once
    def one_batch(self) -> OneBatch:
        """Trainings on the first batch alone."""
        left = self.left
        charged = self._charge(min(left, MOST_UPDATES))
        tried = overfit_one_batch(self.task, left)
        self._spent += tried.updates - charged
        self._short_of += tried.cut
        return tried

    @tried_once
    def main_training(self) -> MainTraining | None:
        """A training at the rate in question, or at the best of a short grid.

        None of a checkpoint, where the data hold something that no rate trains on, and where the
        budget is spent.
        """
        if self._checkpoint is not None:
            return None
        until = min(self.steps, max(1, round(TRAINING * self.budget - LESS)))
        cost = grid_updates(self.steps) if self.lr is None else (1 + VALIDATION) * until
        if cost > self.left:
            self._short_of += 1
            return None
        left, charged = self.left, self._charge(cost)
        try:
            if self.lr is None:
                run = train_grid(self.task, self.steps, left, self._seed)
            else:
                samples = val_samples(self.task, VALIDATION * until / LOOKS)
                asked = Run(run_name(self.lr), self.lr, self.schedule, self._seed)
                run = train_run(self.task, asked, self.steps, until, samples)
        except DataError:
            if not self.odd_numbers:
                raise
            return None  # a check of the data tells it
        self._spent += run.updates + self._cost_of(run.val_samples) - charged
        return run

    @tried_once
    def memorised(self) -> Memorised | None:
        """Some hundred samples learned by heart.

        None where Adam does not learn one batch, where the task cannot be trained, without
        validation data, and where the budget is spent.
        """
        tried = self.one_batch
        if not self.task.has_validation or not math.isfinite(tried.adam_lr):
            return None
        if not self._spend(self._memorising):
            return None
        try:
            return memorise(self.task, tried)
        except DataError:
            if not self.odd_numbers:
                raise
            return None  # a check of the data tells it

    @cached_property
    def trained_passes(self) -> Sequence[Pass]:
        """Passes of the first batches after the main training."""
        run = self.main_training
        if run is None or run.stall is None or run.stall.state is None:
            return ()
        if not self._spend(LATER_PASSES):
            return ()
        return passes_of(self.task, run.stall.state, self.batches[:LATER_PASSES])

    @cached_property
    def modes(self) -> Modes | None:
        """Losses in train mode and in eval mode, before and after the main training."""
        run = self.main_training
        if run is None or run.stall is None or run.stall.state is None:
            return None
        if not self._spend(FORWARD * (SETTLING + 4 * len(self.batches))):
            return None
        return losses_by_mode(self.task, run.stall.state, self.batches)

    @cached_property
    def sharpness(self) -> list[Sharpness]:
        """The sharpness at the start and at the end of the main training, as the budget allows."""
        run, found = self.main_training, list[Sharpness]()
        states = {} if run is None else run.states
        for step in dict.fromkeys([*states][:1] + [*states][-1:]):
            if run is not None and self._spend(CURVATURE):
                found += sharpness(self.task, states[step], step, run.lr)
        return found

    @cached_property
    def gradient_noise(self) -> list[GradientNoise]:
        """The gradient noise scale along the main training, as the budget allows."""
        run, found = self.main_training, list[GradientNoise]()
        for step in [*({} if run is None else run.states)][1:]:
            if run is not None and self._spend(BATCHES):
                found += gradient_noise(self.task, run.states[step], step)
        return found

    @cached_property
    def stall(self) -> Stall | None:
        """The run that is continued; None where it failed, or cannot be copied."""
        if self._checkpoint is not None:
            return state_of(self.task, self._checkpoint, self.lr)
        return None if self.main_training is None else self.main_training.stall

    @property
    def asked(self) -> bool:
        """Whether somebody asks about a rate or a checkpoint."""
        return self.lr is not None or self._checkpoint is not None

    def check_arguments(self) -> None:
        """Raise where schedule, seed or checkpoint do not fit the task, before anything trains."""
        run = Run("run", self.lr or 1.0, self.schedule, self._seed)
        check_validation(run.schedule, self.steps, available=self.task.has_validation)
        step_settings(run, self.steps)
        if not self.asked and repr(run.schedule) != repr(constant()):
            raise ArgumentError(
                f"got the schedule {schedule_text(run.schedule)} without a rate; expected the peak "
                "rate that it multiplies. Give lr, or leave the schedule out."
            )
        if self._checkpoint is not None:
            self.stall  # noqa: B018 - which is made here

    @cached_property
    def learns(self) -> bool:
        """Whether the run lies clearly below guessing; where that is unknown, below its start.

        With validation data it also has to come below guessing there. True of a checkpoint.
        """
        if self._checkpoint is not None:
            return True
        stall, size = self.stall, self.task.loss_kind.summed
        if stall is None:
            return False
        guess, held_out = self.training_guess, self.task.guess(SELECTION)
        start = self.start if guess is None else guess.loss * size
        below = held_out is None or any(loss < held_out.loss for _, loss in stall.validations)
        return stall.below(start) and (below or not stall.validations)

    @cached_property
    def suspects_rate(self) -> bool:
        """Whether the rate itself may be why nothing is learned.

        The run failed, or its weights have moved and it lies above guessing, or they hardly have.
        """
        run = self.main_training
        if run is None or run.stall is None or self.lr is None:
            return False
        stall, guess = run.stall, self.training_guess
        if stall.state is None or 0 not in run.states:
            return True
        above = guess is not None and stall.above(guess.loss * self.task.loss_kind.summed)
        # What has not moved at all may have no gradient; one batch tells, before continuations do.
        return self.moved >= STUCK and (above or self.moved < STILL)

    @cached_property
    def moved(self) -> float:
        """How far the weights of the run have moved, as a share of their norm; NaN if unknown."""
        run = self.main_training
        if run is None or run.stall is None or run.stall.state is None or 0 not in run.states:
            return math.nan
        return moved(run.states[0].model, run.stall.state.model)

    @cached_property
    def plateau(self) -> Plateau | None:
        """The run in question, continued in several ways; None where there is no budget for it."""
        stall = self.stall
        if stall is None:
            return None
        run = Run("run", stall.peak, self.schedule, self._seed)
        # What does not learn may have labels that tell nothing: the trial of that comes later.
        learns = self.learns or self.suspects_rate or not self.asked
        later = self.task.has_validation and "memorised" not in self.__dict__
        kept = self._memorising if later and not learns else 0.0
        made = continue_run(self.task, run, self.steps, stall, self.left - kept)
        self._short_of += made is None
        return made

    @property
    def nothing_to_continue(self) -> str:
        """Why there is no run to continue, whatever the budget is; empty where there is one."""
        if self.stall is not None:
            return ""
        run = self.main_training
        if run is None:
            return "No rate trains on these data." if self.odd_numbers else ""
        if run.name and not run.failed(run.name):
            return "The state of the run cannot be copied."
        return "Every rate that was tried fails."

    def train_plainly(self) -> None:
        """Train as the user does: raises what the user's own code raises."""
        self.main_training  # noqa: B018 - which raises it, or is in order
        self._charge(min(1.0, max(0.0, self.left)))
        plain = Cohort(self.task, [Run("plain", TRIAL_LR)], 1).advance(1)
        if self.task.has_validation and plain.live:
            plain.validate(1)

    @property
    def _memorising(self) -> float:
        return MEMORISING + self._cost_of(HELD_OUT)

    def _charge(self, most: float) -> float:
        """Charge a trial with the most it may cost, which stays where it is cut short."""
        self._spent += most
        return most

    def _spend(self, cost: float) -> bool:
        """Take so many updates from the budget, if it has them."""
        affordable = cost <= self.left
        self._spent += cost if affordable else 0.0
        self._short_of += not affordable
        return affordable

    def _cost_of(self, samples: int) -> float:
        """What it costs to validate so many samples, in updates."""
        return FORWARD * samples / self.task.batch_examples
