"""The command `lrtune`, and `python -m lrtune`: Ctrl-C ends it at any time with exit code 130."""

import signal
import sys

from lrtune.cli import INTERRUPTED


def main() -> None:
    """Run the command line; exits with 0 for an answer, 1 for a failed task, 2 for wrong usage."""
    try:
        try:
            from lrtune.cli.commands import app  # noqa: PLC0415 - it takes a while

            app()
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left to do takes no time
            # Python remembers a KeyboardInterrupt that left the code of an `exec`, such as that of
            # a dataclass, and would end itself by a signal in the end; another `exec` resets that.
            exec("pass")  # noqa: S102
    except KeyboardInterrupt:  # before a command began, as one that trains prints what it has
        sys.stderr.write("Interrupted.\n")
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
