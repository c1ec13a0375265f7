"""Checks of the numbers that factories are given: the value, the expectation, the way out."""

from collections.abc import Iterable
from itertools import pairwise

from lrtune.errors import ScheduleError


def check_range(interval: str, call: str, hint: str, **named: float) -> None:
    """Refuse numbers outside an interval, written as in mathematics: ``[`` is in, ``(`` is out.

    >>> check_range("[0, 1)", "warmup", "a share of the run, such as 0.05", share=0.1)
    >>> check_range("[0, 1)", "warmup", "a share of the run, such as 0.05", share=1)
    Traceback (most recent call last):
    ...
    lrtune.errors.ScheduleError: warmup(share=1): expected a share of the run, such as 0.05, in [0, 1).
    """  # noqa: E501 - a doctest cannot break its line
    low, high = (float(end) for end in interval[1:-1].split(","))
    for name, value in named.items():
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if not (above and below):
            raise ScheduleError(f"{call}({name}={value!r}): expected {hint}, in {interval}.")


def check_increasing(call: str, hint: str, at: Iterable[float]) -> None:
    """Refuse positions that do not rise strictly within the run.

    >>> check_increasing("join", "one border less than pieces", (0.5, 0.75))
    """
    positions = (0.0, *at, 1.0)
    if not all(a < b for a, b in pairwise(positions)):
        raise ScheduleError(
            f"{call}(at={positions[1:-1]!r}): expected {hint}, rising strictly within (0, 1)."
        )


def check_choice(call: str, options: tuple[str, ...], **named: str) -> None:
    """Refuse a word that is not among the options.

    >>> check_choice("one_cycle", ("cosine", "linear"), anneal="linear")
    """
    for name, value in named.items():
        if value not in options:
            raise ScheduleError(f"{call}({name}={value!r}): expected one of {options}.")
