"""The exceptions of lrtune, and what messages and checks of numbers share everywhere.

Exceptions of the user's own code pass through, with a note.

::

    LrtuneError
    ├── ArgumentError           (also a ValueError)
    ├── ScheduleError           (also a ValueError)
    ├── TaskError               (also a ValueError)
    │   └── DataError
    ├── EngineError
    ├── CheckpointError
    ├── SearchError
    ├── TargetError             (also a ValueError)
    ├── ResultsError
    └── StudyError
        ├── UnknownStudyError   (also a ValueError)
        └── OtherTaskError      (also a ValueError)

Each message names the value, what was expected, and what to do.
"""

import math

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "DataError",
    "EngineError",
    "LrtuneError",
    "OtherTaskError",
    "ResultsError",
    "ScheduleError",
    "SearchError",
    "StudyError",
    "TargetError",
    "TaskError",
    "UnknownStudyError",
    "add_location",
    "has_location",
    "positive_number",
    "printable",
    "whole_number",
]


class LrtuneError(Exception):
    """The base class of all exceptions of lrtune."""


class ArgumentError(LrtuneError, ValueError):
    """An argument is outside its range, or a name is unknown."""


class ScheduleError(LrtuneError, ValueError):
    """A schedule raised an exception, or returned something other than a finite number >= 0."""


class TaskError(LrtuneError, ValueError):
    """The user's model, data, loss or optimizer cannot be trained."""


class DataError(TaskError):
    """The loss is not finite before any update: the data, the weights or the loss are to blame."""


class EngineError(LrtuneError):
    """An engine cannot train this task; the `loop` engine can train every task."""


class CheckpointError(LrtuneError):
    """The state of a run cannot be saved as plain data, or a checkpoint does not fit a run."""


class SearchError(LrtuneError):
    """A search found no learning rate that trains the model without diverging."""


class TargetError(LrtuneError, ValueError):
    """A target such as `train.py:task` or `package.module:task` does not lead to a task."""


class ResultsError(LrtuneError):
    """A file is not a result saved by `to_json`."""


class StudyError(LrtuneError):
    """A study cannot be opened, read or written; its records are unchanged."""


class UnknownStudyError(StudyError, ValueError):
    """There is no study of this name."""


class OtherTaskError(StudyError, ValueError):
    """A study belongs to another task; it is unchanged."""


def add_location(error: Exception, where: str) -> None:
    """Note in an error where training stopped, unless it says so already.

    >>> error = ValueError("a loss that raises")
    >>> add_location(error, "at step 2 of 6")
    >>> add_location(error, "at step 2 of 6, further out")
    >>> error.__notes__, has_location(error)
    (['at step 2 of 6'], True)
    """
    if not has_location(error):
        error.add_note(where)
        error.__dict__["_lrtune_located"] = True


def has_location(error: BaseException) -> bool:
    """Return whether an error says where training stopped; a `DataError` names its batch."""
    return "_lrtune_located" in error.__dict__ or isinstance(error, DataError)


def printable(value: object, most: int = 60) -> str:
    """Return text for a message: one line of at most `most` characters that no terminal obeys.

    >>> printable("a" + chr(27) + "[31mb")
    'a?[31mb'
    """
    text = "".join(letter if letter.isprintable() else "?" for letter in str(value)[: most + 1])
    return text if len(text) <= most else text[: most - 3] + "..."


def quantity(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or the plural.

    >>> quantity(1, "seed"), quantity(3000, "step")
    ('1 seed', '3,000 steps')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def positive_number(name: str, value: float) -> float:
    """Return the value as a finite float > 0, or raise an `ArgumentError` that names it."""
    try:
        # Python counts with True; given as a rate or a budget, it is a mistake, and so is text.
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ArgumentError(f"{name} must be a finite number > 0, got {value!r}.")
    return number


def whole_number(name: str, value: int, *, least: int) -> int:
    """Return the value if it is an int >= `least`, or raise an `ArgumentError` that names it."""
    # In Python True is an int; as a number of steps it is a mistake.
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{name} must be a whole number >= {least}, got {value!r}.")
    return value
