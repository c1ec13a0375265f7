"""diagnose(): why does it not learn, or not any more?"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from lrtune.diagnosis.check import described_by
from lrtune.diagnosis.checks import plateau_limits, sharpness
from lrtune.diagnosis.observations.checkpoints import read_checkpoint
from lrtune.diagnosis.observations.plateau import Plateau
from lrtune.diagnosis.registry import CHECKS, CONTINUATIONS, TRIALS
from lrtune.diagnosis.trials import STEPS, Trials
from lrtune.errors import DataError, first_line, positive_rate, quantity, whole_number
from lrtune.results import Diagnosis, Finding
from lrtune.results.diagnosis import worst_first
from lrtune.results.runs import Shape, as_shape
from lrtune.results.serialization import manifest
from lrtune.schedules import parse
from lrtune.schedules.registry import schedule_text
from lrtune.task.memory import is_out_of_memory
from lrtune.task.task import Task, checked_task
from lrtune.task.variants import own_width
from lrtune.training import Progress

MADE = Counter(
    name for some in (CHECKS, TRIALS, CONTINUATIONS) for names in some.values() for name in names
)
"""How many checks look for each name; it was looked at where all of them were made."""

Seen = TypeVar("Seen", bound=Trials | Plateau)
Check = Callable[[Seen], Iterator[Finding]]

OF_CONTINUATIONS = tuple(name for names in CONTINUATIONS.values() for name in names)
ROOM = 2000  # by convention: so long a training leaves room for what 600 steps do not
TAKEN = "Other trials took the budget."
NO_WIDTH = "It needs a model that is made by a function with an argument `width`."
ONE_BATCH = "What does not learn one batch is not continued."


def diagnose(
    task: Task,
    lr: float | None = None,
    steps: int = STEPS,
    *,
    schedule: str | Shape = "constant",
    seed: int = 0,
    checkpoint: object = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Find out why a task does not learn, or does not learn any more.

    First comes what `check` looks at. Then the task is trained: on one batch, and on all data, at
    `lr` or at the best of a few rates. That run, or a checkpoint, is continued on the same batches
    in several ways: the same again, a tenth of the rate, three times the rate, larger batches,
    averaged weights; first of all where the rate learns, or seems to be the reason why not. All
    that costs half a training at most, or 300 updates if that is more; what the budget did not
    allow for is in `left_out`, and not in `looked_at`.

    Args:
        task: What is looked at; it stays as it is.
        lr: The rate that does not learn. With a checkpoint, the rate to go on with, which is that
            of its optimizer when None. Without either, the best of a few rates is looked at.
        steps: The length of the training, in updates.
        schedule: Its schedule: a call as text, such as `wsd(0.2, 0.1)`, a function of
            `lrtune.schedules`, or one of your own.
        seed: The seed of the run.
        checkpoint: What a training of yours has come to: a `state_dict` of the model, a dict that
            also holds that of the optimizer, or the path of a file that holds one of them.
        progress: Called with the stage, the updates spent and the most there can be.

    Returns:
        A `Diagnosis`: `findings`, worst first, each with its evidence, the likeliest cause and what
        to do; `looked_at`, `left_out`, `cost`, `facts`, `groups`.

    Raises:
        ArgumentError: `task` is no `Task`, or a number is outside its range.
        ScheduleError: The schedule gives no finite multiplier >= 0 somewhere, or needs validation
            data, and there are none.
        CheckpointError: The checkpoint cannot be read, or does not fit the task.
        TaskError: A batch cannot be trained on. Other exceptions of the task's own code pass
            through; what only a trial provokes is told in `facts`.

    Ctrl-C ends it with what was found so far: `stopped` is "interrupted".

    >>> from lrtune.testing import bowl
    >>> [found.name for found in diagnose(bowl(1.0), 0.0001).findings]
    ['rate-too-low']
    """
    if isinstance(checkpoint, str | Path):
        checkpoint = read_checkpoint(checkpoint)
    seen = Trials(
        checked_task(task),
        None if lr is None else positive_rate("lr", lr),
        whole_number("steps", steps, least=1, such_as=STEPS),
        schedule=parse(schedule) if isinstance(schedule, str) else schedule,
        seed=seed,
        checkpoint=checkpoint,
    )
    seen.check_arguments()
    asked: dict[str, object] = {
        "steps": seen.steps,
        "schedule": schedule_text(as_shape(seen.schedule)),
    }
    asked |= {"seed": seed} | ({} if lr is None else {"lr": seen.lr})
    if checkpoint is not None:
        asked["checkpoint"] = "a state_dict"
    found = _Diagnosing(seen, progress).run()
    return dataclasses.replace(found, manifest=manifest(seen.task.describe(), **asked))


class _Diagnosing:
    """The checks of a task, and what they have found so far."""

    def __init__(self, seen: Trials, progress: Progress | None) -> None:
        self.seen, self._progress = seen, progress
        self.findings, self.looked_at = list[Finding](), list[str]()
        self.left_out, self.failed = dict[str, str](), dict[str, str]()

    def run(self) -> Diagnosis:
        """Look at everything; Ctrl-C ends it with what is known."""
        seen, stopped = self.seen, ""
        first = described_by(seen)
        try:
            self._tell("checks")
            self._look(CHECKS.items(), seen)
            self._try()
        except KeyboardInterrupt:
            stopped = "interrupted"
            every = (*CHECKS.values(), *TRIALS.values(), OF_CONTINUATIONS)
            self._leave_out([name for names in every for name in names], "")
        found, made = {one.name for one in self.findings}, Counter(self.looked_at)
        looked_at = tuple(one for one in made if one in found or made[one] == MADE[one])
        known = {*looked_at, *self.failed}
        return dataclasses.replace(
            first,
            facts={**first.facts, **self._facts()},
            findings=worst_first(self.findings),
            looked_at=looked_at,
            left_out={name: why for name, why in self.left_out.items() if name not in known},
            cost=seen.spent,
            stopped=stopped,
        )

    def _try(self) -> None:
        """What needs training, in the order in which it matters, as the budget is limited."""
        first, *rest = TRIALS.items()
        if self.seen.asked and self._learns():
            # Sharpness costs little, and only where the run went wrong.
            early = [one for one in TRIALS.items() if one[0] is sharpness.check_sharpness]
            self._look(early, self.seen)
            self._continue()
            self._look([one for one in TRIALS.items() if one not in early], self.seen)
            return
        if self._look([first], self.seen):
            self._leave_out(OF_CONTINUATIONS, ONE_BATCH)
            self._look(rest, self.seen)
        elif self.seen.asked:
            self._continue()
            self._look(rest, self.seen)
        else:
            self._look(rest, self.seen)
            self._continue()

    def _learns(self) -> bool:
        self._tell("training")
        try:
            return self.seen.learns or self.seen.suspects_rate
        except Exception as error:  # noqa: BLE001 - of the user's code, after some updates
            self._refuse(error, self.seen)
            return False

    def _continue(self) -> None:
        self._tell("continuations")
        try:
            plateau = self.seen.plateau
        except Exception as error:  # noqa: BLE001 - of the user's code, after some updates
            self._refuse(error, self.seen)
            self.failed |= dict.fromkeys(OF_CONTINUATIONS, first_line(error))
            return
        if plateau is None:
            self._leave_out(OF_CONTINUATIONS, self.seen.nothing_to_continue or self._short)
        else:
            self._look(CONTINUATIONS.items(), plateau)

    def _look(self, checks: Iterable[tuple[Check[Seen], tuple[str, ...]]], seen: Seen) -> bool:
        """Keep what some checks find; returns whether they have found anything."""
        before = len(self.findings)
        for check, names in checks:
            self._tell(names[0])
            short, found = self.seen.short_of, list[Finding]()
            try:
                found = [*check(seen)]
            except Exception as error:  # noqa: BLE001 - of the user's code, after some updates
                self._refuse(error, seen)
                self.failed |= dict.fromkeys(names, first_line(error))
                continue
            self.findings += found
            if found or self.seen.short_of == short:
                self.looked_at += names
            else:
                self._leave_out(names, self._short)
        return len(self.findings) > before

    def _refuse(self, error: Exception, seen: Trials | Plateau) -> None:
        """Raise what the user's own training raises, too; not what only a trial provokes.

        A trial may need more memory, or take a model to where its code no longer works.
        """
        if isinstance(error, DataError):  # whatever trains on this batch raises it
            raise error
        if not is_out_of_memory(error):
            seen.train_plainly()

    @property
    def _short(self) -> str:
        """Why the budget was not enough, and what would be."""
        longer = max(ROOM, 2 * self.seen.steps)
        return TAKEN if self.seen.continued else f"`steps={longer}` leaves room."

    def _leave_out(self, names: Iterable[str], why: str) -> None:
        """Note what is not looked at, unless it is known why."""
        for name in names:
            no_width = name == plateau_limits.CAPACITY and own_width(self.seen.task) is None
            self.left_out.setdefault(name, NO_WIDTH if no_width and why else why)

    def _facts(self) -> dict[str, str]:
        cost = f"{self.seen.spent:,.0f} of {quantity(round(self.seen.budget), 'update')}"
        facts = {"Cost": f"{cost}, besides the passes of `check`"}
        if self.failed:
            names: dict[str, list[str]] = {}
            for name, why in self.failed.items():
                names.setdefault(why, []).append(name)
            failed = (f"{', '.join(some)} ({why})" for why, some in names.items())
            facts["Could not be looked at"] = "; ".join(failed)
        return facts

    def _tell(self, stage: str) -> None:
        if self._progress is not None:
            self._progress(stage, round(self.seen.spent), round(self.seen.budget))
