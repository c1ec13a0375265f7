"""Phrases and cells that several kinds of results use."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lrtune.curves import Outcome

_NUMBER = r"-?[\d.]+(?:e[-+]?\d+)?"
_NUMBERS = re.compile(rf"{_NUMBER}(?:, {_NUMBER})*")


def count(number: int, noun: str) -> str:
    """So many of them, in the right number.

    >>> count(1, "seed"), count(3000, "step")
    ('1 seed', '3,000 steps')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def sentence(text: str) -> str:
    """Beginning with a capital, ending with a full stop.

    >>> sentence("the best of 4")
    'The best of 4.'
    """
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def call(
    verb: str,
    manifest: Mapping[str, str],
    numbers: Sequence[str],
    sequences: Sequence[str] = (),
) -> str:
    """The call that makes a result again, from those settings of its manifest that are numbers.

    >>> call("search", {"steps": "400", "coarse": "0.1", "seed": "os.abort()"},
    ...      ["steps", "seed"], ["coarse"])
    'lrtune.search(task, steps=400, coarse=(0.1,))'
    """
    told = ["task"]
    for name in (*numbers, *sequences):
        value = manifest.get(name, "")
        if not _NUMBERS.fullmatch(value):
            continue
        if name in sequences:
            value = f"({value})" if "," in value else f"({value},)"
        told.append(f"{name}={value}")
    return f"lrtune.{verb}({', '.join(told)})"


def spoken(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its outcomes as words."""
    known = {outcome.name: outcome.name.lower() for outcome in Outcome}
    return frame.assign(outcome=[known.get(name, name) for name in frame["outcome"]])


def evenly(number: int, most: int) -> list[int]:
    """Positions of at most so many of them, evenly spread, the first and the last among them.

    >>> evenly(100, 4), evenly(3, 4)
    ([0, 33, 66, 99], [0, 1, 2])
    """
    if number <= most:
        return list(range(number))
    return sorted({round(position) for position in np.linspace(0, number - 1, most)})


def at_some_steps(frame: pd.DataFrame, index: str, values: str, most: int = 9) -> pd.DataFrame:
    """One row per run or rate, in the order of the frame, with the values at some of the steps.

    >>> long = pd.DataFrame({"run": ["a", "a"], "step": [0, 1], "loss": [2.0, 1.0]})
    >>> at_some_steps(long, "run", "loss")
      run  step 0  step 1
    0   a     2.0     1.0
    """
    order = frame[index].drop_duplicates()
    wide = frame.pivot_table(
        index=index, columns="step", values=values, aggfunc="first", dropna=False
    ).reindex(order)
    shown = wide[wide.columns[evenly(wide.shape[1], most)]]
    shown.columns = [f"step {step}" for step in shown.columns]
    return shown.reset_index()
