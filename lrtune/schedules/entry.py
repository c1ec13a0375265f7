"""A schedule of the registry: its factory, its source, and the ranges Optuna may search.

Optuna is not imported: anything with the `suggest_...` methods of its trials will do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lrtune.errors import ScheduleError
from lrtune.schedules.schedule import Schedule


@dataclass(frozen=True)
class FloatRange:
    """A number within [low, high]; `log` samples it evenly on a logarithmic scale."""

    default: float
    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Any, name: str) -> float:
        """Return the value that an Optuna trial suggests."""
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))


@dataclass(frozen=True)
class IntRange:
    """A whole number within [low, high]."""

    default: int
    low: int
    high: int

    def suggest(self, trial: Any, name: str) -> int:
        """Return the value that an Optuna trial suggests."""
        return int(trial.suggest_int(name, self.low, self.high))


@dataclass(frozen=True)
class Choice:
    """One of several values. Optuna, which stores no tuples, is given their labels."""

    default: str
    options: Mapping[str, object]

    def suggest(self, trial: Any, name: str) -> object:
        """Return the value whose label an Optuna trial suggests."""
        return self.options[trial.suggest_categorical(name, list(self.options))]


@dataclass(frozen=True)
class ScheduleEntry:
    """A kind of schedule in the registry: name, source, and the ranges of its parameters.

    Calling it makes the schedule; parameters left out get their defaults.

    Attributes:
        name: The name that a user types.
        summary: What the schedule does, in one line.
        source: Where it was published: arXiv id and section, or a library.
        make: Takes the parameters of the space and returns the schedule.
        space: Parameter to the range that Optuna may search.
        space_source: Where the ranges come from.

    >>> from lrtune.schedules import cosine
    >>> space = {"floor": FloatRange(0.1, low=0.0, high=0.5)}
    >>> entry = ScheduleEntry("mine", "Falls.", "me", cosine, space, "a guess")
    >>> entry(), entry(floor=0.2)
    (cosine(floor=0.1), cosine(floor=0.2))
    """

    name: str
    summary: str
    source: str
    make: Callable[..., Schedule] = field(repr=False)
    space: Mapping[str, FloatRange | IntRange | Choice] = field(default_factory=dict)
    space_source: str = ""

    def __call__(self, **given: object) -> Schedule:
        """Make the schedule with these parameters, and the defaults of all others."""
        for unknown in given.keys() - self.space.keys():
            raise ScheduleError(
                f"schedule {self.name!r} has no parameter {unknown!r}; "
                f"it has {', '.join(self.space) or 'none'}."
            )
        defaults = {
            key: one.options[one.default] if isinstance(one, Choice) else one.default
            for key, one in self.space.items()
        }
        # The name lets a table call the schedule as the user does; its text is that of the factory.
        return replace(self.make(**(defaults | given)), name=self.name)

    def suggest(self, trial: Any) -> dict[str, object]:
        """Return the parameters that an Optuna trial suggests, to call this entry with."""
        # With the name in front, one Optuna study can hold several schedules.
        return {key: one.suggest(trial, f"{self.name}.{key}") for key, one in self.space.items()}

    def defaults(self) -> dict[str, float | str]:
        """Return the default parameters as `optuna.Study.enqueue_trial` takes them."""
        return {f"{self.name}.{key}": one.default for key, one in self.space.items()}
