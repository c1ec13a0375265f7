"""Selection: which parameters and which peak rate each schedule is judged with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrtune._compare.entrants import Entrant
from lrtune._compare.heats import Candidate, Heat, Heats
from lrtune.curves import end_level
from lrtune.halving import survivors
from lrtune.schedules import constant
from lrtune.study import Proposal

STEP = math.sqrt(10)
"""Ratio of neighbouring peak rates."""

GROWTHS = 3
"""How often the grid of a schedule grows while its best rate lies on the edge."""


@dataclass(frozen=True)
class Grid:
    """Where candidates are looked for.

    Attributes:
        lr: The middle of the grid of peak rates, whose step is sqrt(10).
        limits: Lowest and highest rate.
        samples: Samples of each schedule's own parameters.
    """

    lr: float
    limits: tuple[float, float]
    samples: int

    def within(self, rates: Sequence[float]) -> list[float]:
        """Those within the limits, in three digits."""
        low, high = self.limits
        rounded = [float(f"{rate:.3g}") for rate in rates]
        return [rate for rate in rounded if low * 0.999 <= rate <= high * 1.001]

    def around(self, rate: float) -> tuple[float, float]:
        """One step down and one step up, within the limits."""
        low, high = self.limits
        return max(low, rate / STEP), min(high, rate * STEP)


def telling(heats: Heats, lr: float, horizons: Sequence[int]) -> list[int]:
    """The horizons within which the loss falls at all; the last is always one of them.

    A pilot at the constant rate tells when half of the fall of the longest horizon is done; before
    that, rates and schedules would be selected on noise.
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
    heats: Heats, entrants: Sequence[Entrant], grid: Grid, horizons: Sequence[int]
) -> list[Candidate]:
    """The best candidate of each schedule after all horizons, the worse half going at each."""
    heat = _first_heat(heats, entrants, grid, horizons[0])
    for place, horizon in enumerate(horizons[1:], start=2):
        entrant = {key: one.entrant for key, one in heat.candidates.items()}
        kept = survivors(heat.worst.to_dict(), entrant)
        pool = [one for key, one in heat.candidates.items() if key in kept]
        heat = heats.run(pool, horizon, heats.seeds, f"compare: horizon {place}")
    return [heat.candidates[key] for key in heat.best().values()]


def step_down(heats: Heats, final: Heat) -> list[Candidate]:
    """For each schedule that failed on the fresh seeds, its best candidate at a lower rate.

    A rate at the edge of stability passes a few seeds by luck; the schedule is not to blame.
    """
    longest: dict[str, tuple[Candidate, int, float]] = {}
    for heat in heats.selection:
        for key, one in heat.candidates.items():
            longest[key] = one, heat.horizon, float(heat.worst[key])
    lower = []
    for name, key in final.best().items():
        if np.isfinite(final.worst[key]):
            continue
        tried = min(one.lr for one in final.candidates.values() if one.entrant == name)
        left = [
            (-horizon, worst, one.key, one)
            for one, horizon, worst in longest.values()
            if one.entrant == name and one.lr < 0.9 * tried and np.isfinite(worst)
        ]
        lower += [one for *_, one in sorted(left, key=lambda each: each[:3])[:1]]
    return lower


def _first_heat(heats: Heats, entrants: Sequence[Entrant], grid: Grid, horizon: int) -> Heat:
    """Defaults at three rates, more while the best is on the edge, and samples around the best."""
    proposers = {one.name: one.proposer(heats.seeds[0]) for one in entrants}

    def train(proposals: Mapping[str, list[Proposal]]) -> Heat | None:
        asked = [
            Candidate(name, number, shape, rate)
            for name, each in proposals.items()
            for number, shape, rate in each
        ]
        if not asked:
            return None
        trained = heats.run(asked, horizon, heats.seeds, "compare: horizon 1")
        for name, proposer in proposers.items():
            mine = {one.number: one.key for one in asked if one.entrant == name}
            proposer.tell({number: float(trained.worst[key]) for number, key in mine.items()})
        return trained

    rates = grid.within([grid.lr / STEP, grid.lr, grid.lr * STEP])
    heat = train({name: proposer.ask(rates) for name, proposer in proposers.items()})
    assert heat is not None, "the baselines are always in"
    for _ in range(GROWTHS):
        beyond = {name: grid.within(_beyond(heat, name)) for name in proposers}
        more = train({name: proposers[name].ask(new) for name, new in beyond.items() if new})
        if more is None:
            break
        heat = heat.with_(more)
    around = {name: grid.around(heat.candidates[key].lr) for name, key in heat.best().items()}
    sampled = train({n: one.sample(grid.samples, *around[n]) for n, one in proposers.items()})
    return heat if sampled is None else heat.with_(sampled)


def _beyond(heat: Heat, entrant: str) -> list[float]:
    """The next rate on that side of the grid where the entrant's best rate is on the edge."""
    rates = sorted(one.lr for one in heat.candidates.values() if one.entrant == entrant)
    best = heat.candidates[heat.best()[entrant]]
    if not np.isfinite(heat.worst[best.key]) or best.lr == rates[0]:
        return [rates[0] / STEP]
    return [rates[-1] * STEP] if best.lr == rates[-1] else []
