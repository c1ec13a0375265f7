"""The command line: a thin twin of the Python interface, in the same words."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, which is what a shell reports."""
