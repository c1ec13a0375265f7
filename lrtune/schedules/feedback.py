"""The protocol of schedules that react to the loss, with an explicit, immutable state.

A training loop calls `next` once per step, with the loss of the batch before the update. A schedule
with `validate_every` is also given the validation loss, by `validated`.
"""

from collections.abc import Iterable
from typing import Protocol, TypeVar, cast

from lrtune.errors import ScheduleError

S = TypeVar("S")


class Feedback(Protocol[S]):
    """A schedule that reacts to the loss: pure functions, and a state that the caller keeps."""

    def start(self, steps: int) -> S:
        """Return the state before the first step of a run of `steps`."""

    def next(self, state: S, loss: float) -> tuple[float, S]:
        """Return the multiplier for the update after this loss, and the next state."""


class ValidatedFeedback(Feedback[S], Protocol[S]):
    """A schedule that reacts to the validation loss."""

    def validate_every(self, steps: int) -> int:
        """Return the steps between two validations in a run of `steps`; 0 for none."""

    def validated(self, state: S, loss: float) -> S:
        """Return the state after a validation, which comes before the update of its step."""


def validation_interval(schedule: object, steps: int) -> int:
    """Return the steps between two validations that a schedule asks for; 0 where it asks for none.

    >>> from lrtune.schedules import ReduceOnPlateau
    >>> validation_interval(ReduceOnPlateau(on="val", every=0.1), 200)
    20
    >>> validation_interval(ReduceOnPlateau(), 200), validation_interval(lambda p: 1 - p, 200)
    (0, 0)
    """
    ask = getattr(schedule, "validate_every", None)
    return 0 if ask is None else int(ask(steps))


def validations_between(schedule: object, steps: int, begin: int, end: int) -> int:
    """Return how often a schedule asks for the validation loss before the updates of some steps.

    Args:
        schedule: Any schedule.
        steps: The length of the run.
        begin: The first step; before step 0 nothing is validated.
        end: The step after the last one.

    >>> from lrtune.schedules import ReduceOnPlateau
    >>> validations_between(ReduceOnPlateau(on="val", every=10), 100, 0, 100)
    9
    """
    every = validation_interval(schedule, steps)
    return max(0, (end - 1) // every - max(0, begin - 1) // every) if every else 0


def check_validation(schedule: object, steps: int, *, available: bool) -> None:
    """Raise `ScheduleError` where a schedule asks for validation that it cannot have.

    Args:
        schedule: Any schedule.
        steps: The length of the run.
        available: Whether there are validation data.
    """
    if validation_interval(schedule, steps) and not available:
        raise ScheduleError(
            f"{schedule!r} reacts to the validation loss, and the task has no validation data. "
            "Pass val=... to Task, such as val=0.1; or take ReduceOnPlateau(), which reacts to "
            "the loss of the training batches."
        )


def replay(
    feedback: Feedback[S], losses: Iterable[float], val: Iterable[float] = ()
) -> list[float]:
    """Return the multipliers that a feedback schedule answers to these losses, one for each.

    Args:
        feedback: The schedule.
        losses: The training loss of every step.
        val: The validation losses, one for each time that the schedule asks for one.

    Raises:
        ScheduleError: There are fewer validation losses than that.

    >>> from lrtune.schedules import ReduceOnPlateau
    >>> replay(ReduceOnPlateau(), [3.0, 2.0, 1.0])
    [1.0, 1.0, 1.0]
    >>> replay(ReduceOnPlateau(on="val", every=2, patience=0.0), [1.0] * 8, val=[3.0, 2.0, 2.0])
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1]
    """
    series, given = [float(loss) for loss in losses], [float(loss) for loss in val]
    every = validation_interval(feedback, len(series)) or len(series)
    asked = (len(series) - 1) // every if series else 0
    if len(given) < asked:
        raise ScheduleError(
            f"{feedback!r} reacts to the validation loss: it needs {asked} of them, got "
            f"{len(given)}. Pass val=[...], one after every {every} steps."
        )
    state, answers = feedback.start(len(series)), []
    for step, loss in enumerate(series):
        if step and step % every == 0:
            watching = cast("ValidatedFeedback[S]", feedback)
            state = watching.validated(state, given[step // every - 1])
        multiplier, state = feedback.next(state, loss)
        answers.append(multiplier)
    return answers
