"""A schedule of the registry: its factory, its source, and the ranges Optuna may search.

Optuna is not imported: anything with its three `suggest_...` methods works.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from lrtune.errors import ScheduleError
from lrtune.schedules.schedule import Schedule


class OptunaTrial(Protocol):
    """The part of `optuna.Trial` that a search space needs."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Suggest a number within [low, high]."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """Suggest a whole number within [low, high]."""

    def suggest_categorical(self, name: str, choices: Sequence[str]) -> Any:
        """Suggest one of the choices."""


@dataclass(frozen=True)
class FloatRange:
    """A number within [low, high]; `log` samples it evenly on a logarithmic scale."""

    default: float
    low: float
    high: float
    log: bool = False

    def suggest(self, trial: OptunaTrial, name: str) -> float:
        """Return the value that a trial suggests."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class IntRange:
    """A whole number within [low, high]."""

    default: int
    low: int
    high: int

    def suggest(self, trial: OptunaTrial, name: str) -> int:
        """Return the value that a trial suggests."""
        return trial.suggest_int(name, self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values. Optuna sees their labels, because it stores no tuples."""

    default: str
    options: Mapping[str, object]

    def suggest(self, trial: OptunaTrial, name: str) -> object:
        """Return the value whose label a trial suggests."""
        return self.options[trial.suggest_categorical(name, list(self.options))]


@dataclass(frozen=True)
class ScheduleEntry:
    """A schedule by name. Calling it makes the schedule; parameters left out get their defaults.

    Attributes:
        name: The name that a user types.
        summary: What the schedule does, in one line.
        source: Where it was published: arXiv id and section, or a library.
        make: Takes the parameters of the space and returns the schedule.
        space: Parameter to its range. Parameters are shares of the run or of the peak rate, so
            that they mean the same at every horizon.
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
        for parameter in given:
            if parameter not in self.space:
                raise ScheduleError(
                    f"schedule {self.name!r} has no parameter {parameter!r}; "
                    f"it has {', '.join(self.space) or 'none'}."
                )
        defaults = {
            parameter: one.options[one.default] if isinstance(one, Choice) else one.default
            for parameter, one in self.space.items()
        }
        return replace(self.make(**{**defaults, **given}), name=self.name)

    def suggest(self, trial: OptunaTrial) -> dict[str, object]:
        """Return the parameters that an Optuna trial suggests, to call this entry with.

        The trial knows a parameter as ``"<name>.<parameter>"``, so that one Optuna study can hold
        several schedules.
        """
        return {
            parameter: one.suggest(trial, f"{self.name}.{parameter}")
            for parameter, one in self.space.items()
        }

    def defaults(self) -> dict[str, float | str]:
        """Return the default parameters as `optuna.Study.enqueue_trial` takes them."""
        return {f"{self.name}.{parameter}": one.default for parameter, one in self.space.items()}
