"""Who takes part in a comparison."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from lrtune._cohort import pace_of
from lrtune.errors import ArgumentError
from lrtune.runs import Run, Shape
from lrtune.schedules import FEEDBACK, SCHEDULES, look_up
from lrtune.study import Fixed, Proposer, Sampler

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

OWN_RANK = 1000
"""A user's own schedule counts as less simple than any of the registry."""


@dataclass(frozen=True)
class Entrant:
    """A schedule that takes part, by name.

    Attributes:
        name: As it stands in the table.
        rank: How much there is to it; ties go to the lowest.
        shape: The schedule with its defaults.
        proposer: Makes, from a seed, what proposes its candidates.
    """

    name: str
    rank: int
    shape: Shape
    proposer: Callable[[int], Proposer]


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
            pace_of(Run(entrant.name, 1.0, entrant.shape), steps)
    return entrants


def _known(name: str) -> Entrant:
    if name in FEEDBACK:
        shape = FEEDBACK[name]()
        return Entrant(name, OWN_RANK - 1, shape, partial(_fixed, shape))
    entry = look_up(name)
    return Entrant(entry.name, entry.rank, entry(), partial(Sampler, entry))


def _fixed(shape: Shape, _seed: int) -> Proposer:
    return Fixed(shape)
