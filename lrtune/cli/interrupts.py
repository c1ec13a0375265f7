"""When an interruption may end a command, and which signals must not."""

import contextlib
import signal
from collections.abc import Iterator
from threading import current_thread, main_thread
from types import FrameType


def must_not_stop(frame: FrameType | None) -> bool:
    """Whether an exception in this frame would be printed or dropped, instead of ending a command.

    So it is within a database, which would report that a connection broke, and in destructors.
    """
    while frame is not None:
        module = f"{frame.f_globals.get('__name__', '')}."
        if module.startswith(("sqlalchemy.", "lrtune.study.database.")):
            return True
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def deaths_ignored() -> Iterator[None]:
    """Let no death of a child process raise here.

    torch raises an error in a signal handler when a loader's worker dies. Where one has died, the
    others often follow; then the results of the command would be lost for the second error.
    """
    number = getattr(signal, "SIGCHLD", None)  # there is none on Windows
    before = None if number is None else signal.getsignal(number)
    if number is None or not callable(before) or current_thread() is not main_thread():
        yield
        return
    signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, before)
