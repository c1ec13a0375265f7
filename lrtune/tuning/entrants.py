"""Who takes part in a comparison."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from lrtune.analysis.rate_estimate import peak_ratio
from lrtune.errors import ArgumentError
from lrtune.results.runs import Run, Shape
from lrtune.schedules import FEEDBACK, SCHEDULES, Schedule, look_up
from lrtune.training import step_settings
from lrtune.tuning.sampler import Fixed, Proposer, Sampler

BASELINES = ("constant", "linear", "cosine")
"""Always in the ranking."""

DEFAULT = (
    *BASELINES,
    "exponential",
    "step",
    "warmup-linear",
    "warmup-cosine",
    "wsd",
    "trapezoid",
    "cosine-restarts",
    "triangular",
    "decay-cyclic",
    "one-cycle",
)
"""Those of the lecture, and what published practice has added since."""

ELSEWHERE = {
    "wsd": 0.83,
    "trapezoid": 0.84,
    "one-cycle": 0.95,
    "warmup-linear": 0.96,
    "linear": 0.97,
    "warmup-cosine": 0.97,
    "triangular": 0.99,
    "constant": 1.0,
    "decay-cyclic": 1.01,
    "cosine-restarts": 1.01,
    "cosine": 1.02,
    "step": 1.34,
    "exponential": 1.51,
}
"""Final losses with what comparisons gave, over that of the constant rate that a search found:
geometric means over the benchmark's open tasks and those for practice (`docs/quality.md`, the last
column of "What a comparison is worth"; a test holds the two together)."""

OWN_RANK = 1000
"""A user's own schedule counts as less simple than any of the registry."""


@dataclass(frozen=True)
class Entrant:
    """A schedule that takes part, by name.

    Attributes:
        name: As it stands in the table.
        rank: How much there is to it.
        shape: The schedule with its defaults.
        proposer: Makes, from a seed, what proposes its candidates.
    """

    name: str
    rank: int
    shape: Shape
    proposer: Callable[[int], Proposer]

    @property
    def order(self) -> tuple[float, int]:
        """Ties go to the lowest: to what did best elsewhere; where none is known, the simplest."""
        return ELSEWHERE.get(self.name, math.inf), self.rank

    @property
    def peak_ratio(self) -> float:
        """How far above the best constant rate its peak is likely to lie."""
        schedule = Run(self.name, 1.0, self.shape).schedule
        return peak_ratio(schedule) if isinstance(schedule, Schedule) else 1.0


def chosen(
    schedules: Sequence[str] | Mapping[str, Shape] | None, horizons: Sequence[int]
) -> list[Entrant]:
    """Who takes part, the baselines first; each is checked on every horizon.

    Raises:
        ArgumentError: No schedule has such a name.
        ScheduleError: A schedule gives no finite multiplier >= 0 somewhere.
    """
    if isinstance(schedules, Mapping):
        own = [
            Entrant(n, OWN_RANK, shape, partial(_fixed, shape)) for n, shape in schedules.items()
        ]
        names: Sequence[str] = ()
    else:
        own, names = [], DEFAULT if schedules is None else schedules
    if isinstance(names, str):
        raise ArgumentError(f"schedules={names!r} is one string; expected a list: [{names!r}].")
    names = tuple(SCHEDULES) if "all" in names else names
    known = [_known(name) for name in dict.fromkeys((*BASELINES, *names))]
    entrants = list({one.name: one for one in (*known, *own)}.values())
    for entrant in entrants:
        for steps in horizons:
            step_settings(Run(entrant.name, 1.0, entrant.shape), steps)
    return entrants


def _known(name: str) -> Entrant:
    if name in FEEDBACK:
        shape = FEEDBACK[name]()
        return Entrant(name, OWN_RANK - 1, shape, partial(_fixed, shape))
    entry = look_up(name)
    proposer = partial(Sampler, entry) if entry.space else partial(_fixed, entry())
    return Entrant(entry.name, entry.rank, entry(), proposer)


def _fixed(shape: Shape, _seed: int) -> Proposer:
    return Fixed(shape)
