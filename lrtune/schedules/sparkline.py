"""Schedules drawn with characters, for a terminal."""

from lrtune.schedules.feedback import FEEDBACK
from lrtune.schedules.registry import SCHEDULES
from lrtune.schedules.schedule import Schedule, multipliers

BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(schedule: Schedule, width: int = 24) -> str:
    """The multiplier over the run, as so many blocks of eight heights.

    >>> from lrtune.schedules import linear, one_cycle
    >>> sparkline(linear(), 8), sparkline(one_cycle(), 8)
    ('█▇▆▅▅▄▃▂', '▁▄██▇▅▃▂')
    """
    rates = multipliers(schedule, width)
    highest = max(rates)
    places = [round(rate / highest * (len(BLOCKS) - 1)) if highest else 0 for rate in rates]
    return "".join(BLOCKS[place] for place in places)


def catalogue() -> str:
    """One line for each schedule of the registry: name, shape, what it does."""
    width = max(map(len, (*SCHEDULES, *FEEDBACK)))
    lines = [
        f"{name:<{width}}  {sparkline(entry())}  {entry.summary}"
        for name, entry in SCHEDULES.items()
    ]
    lines += [
        f"{name:<{width}}  {'reacts to the loss':<24}  {(make.__doc__ or '').splitlines()[0]}"
        for name, make in FEEDBACK.items()
    ]
    return "\n".join(lines)
