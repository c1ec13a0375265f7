"""Trial: ways to carry out an update, timed in turn, and the fastest taken. Pure."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from lrtune.errors import EngineError

ROUNDS = 3
"""How often each way is timed, after one update that is not: there, things are made for good."""

GAIN = 1.05
"""A way must be so much faster than those before it to be taken."""

HOPELESS = 2
"""A way that takes so many times what another takes is not timed again."""


@dataclass(frozen=True)
class Way:
    """A way to carry out an update.

    Attributes:
        stacked: Whether all runs go through one forward and backward.
        threads: How many threads share one operation.
    """

    stacked: bool
    threads: int

    def __str__(self) -> str:
        """In words."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{'stacked' if self.stacked else 'loop'}, {threads}"


def read(text: str) -> Way:
    """The way that these words are of; with no more threads than there are processors.

    Raises:
        EngineError: They are of none.

    >>> read("stacked, 1 thread")
    Way(stacked=True, threads=1)
    """
    words = re.fullmatch(r"(loop|stacked), ([1-9]\d{0,3}) threads?", text)
    if words is None:
        raise EngineError(
            f"the choice {text[:40]!r} is no engine; expected such as 'loop, 1 thread'."
        )
    return Way(words[1] == "stacked", min(int(words[2]), os.cpu_count() or 1))


def ways(threads: int, *, on_cpu: bool) -> list[Way]:
    """What is worth a trial, the least surprising first.

    >>> [str(way) for way in ways(4, on_cpu=True)]
    ['loop, 4 threads', 'loop, 1 thread', 'stacked, 4 threads', 'stacked, 1 thread']
    """
    counts = [threads, 1] if on_cpu and threads > 1 else [threads]
    return [Way(stacked, count) for stacked in (False, True) for count in counts]


@dataclass
class Trial:
    """Ways, and the seconds that each took.

    Attributes:
        runs: How many runs each update has.
        ways: In the order of the trial.
        times: Of each way, one per update, the first one included.
        refused: Why the runs cannot be stacked, if they cannot.

    >>> trial = Trial(9, ways(1, on_cpu=True))
    >>> seconds = {False: 0.9, True: 0.3}
    >>> while (way := trial.next()) is not None:
    ...     trial.note(way, seconds[way.stacked])
    >>> print(trial)
    9 runs: stacked, 1 thread; 3.0 times as fast as the loop
    """

    runs: int
    ways: Sequence[Way]
    times: dict[Way, list[float]] = field(default_factory=dict)
    refused: str = ""

    def next(self) -> Way | None:
        """The way to time now; None once all have been."""
        return next((way for way in self.ways if self._open(way)), None)

    def note(self, way: Way, seconds: float) -> None:
        """One update was carried out that way."""
        self.times.setdefault(way, []).append(seconds)

    def refuse(self, reason: str) -> None:
        """The runs cannot be stacked."""
        self.refused = reason
        self.ways = [way for way in self.ways if not way.stacked]

    def suits(self, runs: int) -> bool:
        """Whether what was found may be taken for so many runs, too."""
        return self.runs / 1.5 <= runs <= self.runs * 1.5

    @property
    def best(self) -> Way:
        """The fastest way; an earlier one where the gain is small."""
        best = self.ways[0]
        for way in self.ways[1:]:
            if self._seconds(way) * GAIN < self._seconds(best):
                best = way
        return best

    def __str__(self) -> str:
        """What was chosen, and by how much."""
        chosen = f"{self.runs} runs: {self.best}"
        if self.refused:
            return f"{chosen}; they cannot be stacked: {self.refused}"
        if not self.times:
            return f"{chosen}, as there are too few steps to try anything else"
        others = [self._seconds(way) for way in self.ways if way.stacked != self.best.stacked]
        gain = min(others) / self._seconds(self.best)
        other = "the loop" if self.best.stacked else "stacked"
        return f"{chosen}; {gain:.1f} times as fast as {other}"

    def _open(self, way: Way) -> bool:
        known = self.times.get(way, [])
        if len(known) > ROUNDS:
            return False
        fastest = min((self._seconds(other) for other in self.times), default=math.inf)
        return len(known) < 2 or self._seconds(way) <= HOPELESS * fastest

    def _seconds(self, way: Way) -> float:
        """Per update, the median; infinite before it was timed."""
        timed = self.times.get(way, [])[1:]
        return median(timed) if timed else math.inf
