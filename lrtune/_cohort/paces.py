"""The pace of a run: what its optimizer is set to at each step, known before or as it goes."""

from typing import Any

from lrtune._cohort.engine import Pace
from lrtune.errors import ScheduleError
from lrtune.runs import Run
from lrtune.schedules import Feedback, Schedule, momenta, multipliers


class Planned:
    """A schedule, tabulated and checked before anything trains."""

    def __init__(self, schedule: Schedule, steps: int) -> None:
        """Tabulate."""
        self.rates = multipliers(schedule, steps)
        given = momenta(schedule, steps)
        learns = any(self.rates)
        self._paces = [
            Pace(rate, None if given is None else given[step], learns)
            for step, rate in enumerate(self.rates)
        ]

    def at(self, step: int) -> Pace:
        """The pace of this step."""
        return self._paces[step]


class Reacting:
    """A feedback schedule: asked at each step with the loss, it notes what it answered."""

    def __init__(self, feedback: Feedback[Any], steps: int, first: int) -> None:
        """Begin at step `first`."""
        self._feedback, self._state = feedback, feedback.start(steps)
        self.rates = [0.0] * first

    def at(self, _step: int) -> Pace:
        """The pace of this step, once its loss is known."""
        return Pace(self._react)

    def _react(self, loss: float) -> float:
        rate, self._state = self._feedback.next(self._state, loss)
        if not 0 <= rate < float("inf"):
            raise ScheduleError(
                f"{self._feedback!r} gave {rate!r} at step {len(self.rates)}, for a loss of "
                f"{loss:g}; expected a finite multiplier >= 0."
            )
        self.rates.append(rate)
        return rate


def pace_of(run: Run, steps: int, first: int = 0) -> Planned | Reacting:
    """How the run is paced from step `first` of `steps` on."""
    if isinstance(run.schedule, Schedule):
        return Planned(run.schedule, steps)
    return Reacting(run.schedule, steps, first)
