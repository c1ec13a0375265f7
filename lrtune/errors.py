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

    AnswerWarning               (a UserWarning)

Each message names the value, what was expected, and what to do.
"""

import math
import numbers
import re
import warnings
from collections.abc import Sequence

__all__ = [
    "AnswerWarning",
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
    "first_line",
    "has_location",
    "memory_text",
    "positive_number",
    "positive_rate",
    "printable",
    "quantity",
    "shown",
    "warn_about",
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


class AnswerWarning(UserWarning):
    """What counts against an answer; the `warnings` of the result hold the same sentences."""


def warn_about(sentences: Sequence[str]) -> None:
    """Warn the caller of the calling function once of all these sentences, if there are any."""
    if sentences:
        warnings.warn(" ".join(sentences), AnswerWarning, stacklevel=3)


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


def shown(value: object, most: int = 60) -> str:
    """Return a value as a message shows it: numbers and texts, and few of them; else what it is.

    >>> shown("adam"), shown([0.1, None]), shown(shown), shown([shown, shown])
    ("'adam'", '[0.1, None]', 'the function shown', 'a list of 2')
    """
    if isinstance(value, str):
        return repr(value if len(value) <= most else f"{value[: most - 3]}...")
    if _is_plain(value) and len(repr(value)) <= most:
        return repr(value)
    kind, name = type(value).__name__, getattr(value, "__name__", "")
    if isinstance(value, type):
        return f"the class {name}"
    if name and callable(value):
        return "a lambda" if name == "<lambda>" else f"the function {name}"
    size = f" of {len(value)}" if isinstance(value, (list, tuple, set, dict)) else ""
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}{size}"


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple, set)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return _is_plain([*value, *value.values()])
    return value is None or isinstance(value, (str, numbers.Number))


def first_line(error: BaseException, most: int = 300) -> str:
    """Return the first line of an error for a message of ours: without a stop and addresses.

    >>> first_line(ValueError("<object at 0x7fbd7b230fe0> is none."))
    '<object> is none'
    """
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", str(error).partition("\n")[0])
    return printable(text, most).rstrip(".") or type(error).__name__


def quantity(number: int, noun: str) -> str:
    """Return a number with its noun, in the singular or the plural.

    >>> quantity(1, "seed"), quantity(3000, "step")
    ('1 seed', '3,000 steps')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def memory_text(size: float) -> str:
    """Return a number of bytes in the unit that a person would use.

    >>> memory_text(7592), memory_text(2.5e6), memory_text(31e6), memory_text(4.53e9)
    ('7.6 kB', '2.5 MB', '31 MB', '4.5 GB')
    """
    value, unit = next(
        (size / scale, unit)
        for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes"))
        if size >= 0.9995 * scale or scale == 1
    )
    return f"{value:.0f} {unit}" if value >= 9.95 or unit == "bytes" else f"{value:.1f} {unit}"


def positive_number(name: str, value: float, such_as: str = "0.1") -> float:
    """Return the value as a finite float > 0, or raise an `ArgumentError` that names it."""
    try:
        # Python counts with True; given as a rate or a budget, it is a mistake, and so is text.
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ArgumentError(
            f"{name} must be a finite number > 0, got {shown(value)}. Give one such as {such_as}."
        )
    return number


def positive_rate(name: str, value: float) -> float:
    """Return a rate as a finite float > 0, or raise an `ArgumentError`, also for several rates."""
    if isinstance(value, list | tuple | dict):
        raise ArgumentError(
            f"{name} is {shown(value)}; expected one number, from which the optimizer's factory "
            "makes the rate of each parameter group. Write, for example, lambda model, lr: "
            "SGD([{'params': ..., 'lr': lr / 10}, ...], lr=lr)."
        )
    return positive_number(name, value)


LARGEST = 2**63 - 1
"""The largest whole number that tables and databases hold."""


def whole_number(name: str, value: int, *, least: int, such_as: int = 0) -> int:
    """Return the value if it is an int >= `least`, or raise an `ArgumentError` that names it.

    Also where it is larger than a table can hold.
    """
    if type(value) is int and value > LARGEST:
        raise ArgumentError(
            f"{name} must be a whole number of at most {LARGEST}, got {value:.3g}. Give a smaller "
            "one."
        )
    # In Python True is an int; as a number of steps it is a mistake.
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        try:  # of 1e3 and "500" it is plain what is meant
            meant = max(least, int(value)) if value not in (True, False) else max(least, 3)
        except (TypeError, ValueError, OverflowError):
            meant = max(least, 3)
        meant = such_as if such_as and meant in (least, 3) else meant
        raise ArgumentError(
            f"{name} must be a whole number >= {least}, got {shown(value)}. Give one such as "
            f"{meant}."
        )
    return value
