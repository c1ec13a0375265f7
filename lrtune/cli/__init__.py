"""The command line: a thin twin of the Python interface, in the same words."""
