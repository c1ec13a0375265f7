"""What the registry knows of a schedule: its maker, its source, and its search space as data.

Optuna itself is not imported; anything with its three `suggest_...` methods will do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lrtune.errors import ScheduleError
from lrtune.schedules.schedule import Schedule


class OptunaTrial(Protocol):
    """What a dimension needs of an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number within [low, high]."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """A whole number within [low, high]."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        """One of the choices."""


@dataclass(frozen=True)
class FloatRange:
    """A number within [low, high]; with `log`, evenly on a logarithmic scale."""

    default: float
    low: float
    high: float
    log: bool = False

    @property
    def value(self) -> float:
        """The default, as the factory takes it."""
        return self.default

    def suggest(self, trial: OptunaTrial, name: str) -> float:
        """Ask a trial for a value."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class IntRange:
    """A whole number within [low, high]."""

    default: int
    low: int
    high: int

    @property
    def value(self) -> int:
        """The default, as the factory takes it."""
        return self.default

    def suggest(self, trial: OptunaTrial, name: str) -> int:
        """Ask a trial for a value."""
        return trial.suggest_int(name, self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values, by label, because Optuna takes no tuples."""

    default: str
    options: Mapping[str, object]

    @property
    def value(self) -> object:
        """The default, as the factory takes it."""
        return self.options[self.default]

    def suggest(self, trial: OptunaTrial, name: str) -> object:
        """Ask a trial for a value."""
        return self.options[trial.suggest_categorical(name, list(self.options))]


Dimension = FloatRange | IntRange | Choice


@dataclass(frozen=True)
class ScheduleEntry:
    """A schedule by name: how to make it, where it is from, and what there is to search.

    Called without arguments it makes the schedule with the defaults of its space.

    Attributes:
        name: As a user types it.
        line: What it does, in one line.
        source: Where it is from: arXiv id and section, or the library.
        make: Takes the parameters of the space, returns the schedule.
        rank: How much there is to it; among ties, the lower one is recommended. No two are equal.
        space: Parameter to dimension, in terms that survive a change of horizon.
        ranges: Where the ranges of the space are from.

    >>> from lrtune.schedules import cosine
    >>> space = {"floor": FloatRange(0.1, low=0.0, high=0.5)}
    >>> entry = ScheduleEntry("mine", "Falls.", "me", cosine, 99, space)
    >>> entry(), entry(floor=0.2)
    (cosine(floor=0.1), cosine(floor=0.2))
    """

    name: str
    line: str
    source: str
    make: Callable[..., Schedule] = field(repr=False)
    rank: int
    space: Mapping[str, Dimension] = field(default_factory=dict)
    ranges: str = ""

    def __call__(self, **given: object) -> Schedule:
        """The schedule with these parameters, and the defaults for the others."""
        for parameter in given:
            if parameter not in self.space:
                raise ScheduleError(
                    f"schedule {self.name!r} has no parameter {parameter!r}; "
                    f"it has {', '.join(self.space) or 'none'}."
                )
        defaults = {parameter: dimension.value for parameter, dimension in self.space.items()}
        return self.make(**{**defaults, **given})

    def suggest(self, trial: OptunaTrial) -> dict[str, object]:
        """Parameters that an Optuna trial suggests, to call this entry with.

        In the trial they are called ``"<name>.<parameter>"``, so that all schedules fit into one
        study.
        """
        return {
            parameter: dimension.suggest(trial, f"{self.name}.{parameter}")
            for parameter, dimension in self.space.items()
        }

    def defaults(self) -> dict[str, float | str]:
        """What a trial would have suggested to give the defaults: for `study.enqueue_trial`."""
        return {
            f"{self.name}.{parameter}": dimension.default
            for parameter, dimension in self.space.items()
        }
