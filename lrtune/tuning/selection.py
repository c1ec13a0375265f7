"""Selection: which peak rate and which parameters each schedule is judged with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrtune.analysis.curves import end_level
from lrtune.analysis.ranks import survivors
from lrtune.analysis.rate_estimate import NEIGHBOUR, estimate_optimum
from lrtune.schedules import constant
from lrtune.tuning.entrants import Entrant
from lrtune.tuning.rounds import Candidate, Heat, Heats

GROWTHS = 3
"""How often the grid of a schedule grows while its best rate lies on the edge."""

OWN = 1 / 3
"""How much a schedule's own short runs count for its peak, over log rate; the search's rate is the
rest."""

ROUND = 4
"""How many candidates of a schedule are trained side by side before Optuna is asked again."""


@dataclass(frozen=True)
class Grid:
    """Where candidates are looked for.

    Attributes:
        lr: The rate that is best when it is kept constant; a schedule's own grid stands around
            where its peak is likely to lie then.
        limits: Lowest and highest rate.
    """

    lr: float
    limits: tuple[float, float]

    def within(self, rates: Sequence[float]) -> list[float]:
        """Those within the limits, in three digits."""
        low, high = self.limits
        rounded = [float(f"{rate:.3g}") for rate in rates]
        return [rate for rate in rounded if low * 0.999 <= rate <= high * 1.001]

    def nearest(self, rate: float) -> float:
        """The nearest rate within the limits, in three digits."""
        low, high = self.limits
        return float(f"{min(max(rate, low), high):.3g}")


def peaks_of(
    heats: Heats, entrants: Sequence[Entrant], grid: Grid, horizon: int
) -> dict[str, float]:
    """Where the peak of each schedule lies, for the length that the rate was found for.

    Its short runs at three rates, more while the best is on the edge, say one thing, and the rate
    that is best when it is kept says another. They do not err alike, so between them is nearer; and
    short runs will do, though they have learned little.
    """
    likely = {one.name: grid.nearest(grid.lr * one.peak_ratio) for one in entrants}

    def train(rates: Mapping[str, Sequence[float]]) -> Heat:
        asked = [Candidate(e.name, 0, e.shape, rate) for e in entrants for rate in rates[e.name]]
        return heats.run(asked, horizon, heats.seeds, "compare: peaks")

    heat = train({
        name: grid.within([peak / NEIGHBOUR, peak, peak * NEIGHBOUR])
        for name, peak in likely.items()
    })  # fmt: skip
    for _ in range(GROWTHS):
        beyond = {name: grid.within(_beyond(heat.curve(name))) for name in likely}
        if not any(beyond.values()):
            break
        heat = heat.with_(train(beyond))
    own = {name: _own(heat.curve(name), heat.start) for name in likely}
    return {n: grid.nearest(peak ** (1 - OWN) * own[n] ** OWN) for n, peak in likely.items()}


def telling(heats: Heats, lr: float, horizons: Sequence[int]) -> list[int]:
    """The horizons within which the loss falls at all; the last is always one of them.

    A pilot at the constant rate tells when half of the fall of the longest horizon is done; before
    that, schedules and their parameters would be selected on noise.
    """
    pilot = Candidate("constant", -1, constant(), lr)
    heat = heats.run([pilot], horizons[-1], heats.seeds, "compare: pilot")
    if not np.isfinite(heat.worst[pilot.key]):
        return list(horizons)
    losses = heat.trace.frame.groupby("step")["loss"].mean()
    level = losses.rolling(max(1, len(losses) // 20), center=True, min_periods=1).mean()
    middle = (losses.iloc[0] + end_level(losses)) / 2
    half = int((level <= middle).to_numpy().argmax())
    return [horizon for horizon in horizons if horizon >= half or horizon == horizons[-1]]


def select(
    heats: Heats,
    entrants: Sequence[Entrant],
    peaks: Mapping[str, float],
    samples: int,
    horizons: Sequence[int],
) -> list[Candidate]:
    """The best candidate of each schedule after these horizons, the worse half going at each.

    Candidates are its defaults, and samples of its own parameters, all at the schedule's peak.
    """
    heat = _sampled(heats, entrants, peaks, samples, horizons[0])
    for place, horizon in enumerate(horizons[1:], start=2):
        entrant = {key: one.entrant for key, one in heat.candidates.items()}
        kept = survivors(heat.worst.to_dict(), entrant)
        pool = [one for key, one in heat.candidates.items() if key in kept]
        heat = heats.select(pool, horizon, f"compare: horizon {place}")
    return [heat.candidates[key] for key in heat.best().values()]


def step_down(final: Heat, limits: tuple[float, float]) -> list[Candidate]:
    """For each schedule that failed on the fresh seeds, its candidate at the next lower rate.

    A rate at the edge of stability passes a few seeds by luck; the schedule is not to blame.
    """
    failed = [final.candidates[k] for k in final.best().values() if math.isinf(final.worst[k])]
    lower = []
    for one in failed:
        tried = [each for each in final.candidates.values() if each.entrant == one.entrant]
        rate = float(f"{min(each.lr for each in tried) / NEIGHBOUR:.3g}")
        if rate >= limits[0]:
            lower.append(replace(one, lr=rate))
    return lower


def _own(losses: Mapping[float, float], start: float) -> float:
    """What a schedule's short runs say: as in a search, at the bottom of the curve or below."""
    lowest = min(losses)
    return lowest / NEIGHBOUR if math.isinf(losses[lowest]) else estimate_optimum(losses, start)


def _beyond(losses: Mapping[float, float]) -> list[float]:
    """The next rate on that side of the grid where the best rate is on the edge."""
    best = min(losses, key=losses.__getitem__)
    if math.isinf(losses[best]) or best == min(losses):
        return [min(losses) / NEIGHBOUR]
    return [best * NEIGHBOUR] if best == max(losses) else []


def _sampled(
    heats: Heats,
    entrants: Sequence[Entrant],
    peaks: Mapping[str, float],
    samples: int,
    horizon: int,
) -> Heat:
    """Every schedule at its peak: its defaults, and samples of its own parameters in rounds."""
    proposers = {one.name: one.proposer(heats.seeds[0]) for one in entrants}
    heat, left = None, 1 + samples
    while left > 0:
        asked = [
            Candidate(name, number, shape, peaks[name])
            for name, proposer in proposers.items()
            for number, shape in proposer.ask(min(left, ROUND))
        ]
        left -= ROUND
        if asked:
            more = heats.select(asked, horizon, "compare: horizon 1")
            for name, proposer in proposers.items():
                mine = {one.number: one.key for one in asked if one.entrant == name}
                proposer.tell({number: float(more.worst[key]) for number, key in mine.items()})
            heat = heat.with_(more) if heat else more
    assert heat is not None, "the baselines are always in"
    return heat
