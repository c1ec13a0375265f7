"""The command `lrtune`, and `python -m lrtune`: Ctrl-C ends it at any time with exit code 130."""

import signal

from lrtune.cli import INTERRUPTED


def main() -> None:
    """Run the command line; exits with 0 for an answer, 1 for a failed task, 2 for wrong usage."""
    try:
        from lrtune.cli.commands import app  # noqa: PLC0415 - takes a second, in which Ctrl-C comes

        app()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left to do takes no time


if __name__ == "__main__":
    main()
