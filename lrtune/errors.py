"""The errors that are ours. Whatever the user's own code raises passes through, with a note.

::

    LrtuneError                 everything below
    ├── ArgumentError           a number or name given to us is out of its range   (a ValueError)
    ├── ScheduleError           a schedule raised, or gave no usable multiplier    (a ValueError)
    ├── TaskError               model, data, loss or optimizer cannot be trained   (a ValueError)
    ├── EngineError             an engine cannot train this task; another one can
    ├── SearchError             no rate within the limits trains without failing
    ├── TargetError             `train.py:task` does not lead to a task            (a ValueError)
    ├── ResultsError            a file does not hold results of lrtune
    └── StudyError              a study cannot be opened, read or written
        └── OtherTaskError      it holds what was measured on another task         (a ValueError)

Each message shows the value, the expectation and the way out.
"""

__all__ = [
    "ArgumentError",
    "EngineError",
    "LrtuneError",
    "OtherTaskError",
    "ResultsError",
    "ScheduleError",
    "SearchError",
    "StudyError",
    "TargetError",
    "TaskError",
]


class LrtuneError(Exception):
    """The root of every error that is ours."""


class ArgumentError(LrtuneError, ValueError):
    """A number or name given to a function of ours is out of its range."""


class ScheduleError(LrtuneError, ValueError):
    """A schedule raised, or gave something that is not a finite multiplier >= 0."""


class TaskError(LrtuneError, ValueError):
    """The model, data, loss or optimizer that the user brings cannot be trained."""


class EngineError(LrtuneError):
    """An engine cannot train this task; the message says why. The loop trains everything."""


class SearchError(LrtuneError):
    """No rate within the limits of a search trains without failing."""


class TargetError(LrtuneError, ValueError):
    """`train.py:task` or `package.module:task` does not lead to a task."""


class ResultsError(LrtuneError):
    """A file does not hold results that `to_json` wrote."""


class StudyError(LrtuneError):
    """A study cannot be opened, read or written; what it holds is as it was."""


class OtherTaskError(StudyError, ValueError):
    """A study holds what was measured on another task; it was left alone."""
