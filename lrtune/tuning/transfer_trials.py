"""The strategy of a transfer: a few rates for each size, and more where the best is at the edge."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrtune.analysis.curves import Floats
from lrtune.analysis.short_runs import NEIGHBOUR, mask_unstable, vertex
from lrtune.results.runs import Run
from lrtune.tuning.experiment import Experiment
from lrtune.tuning.history import Asking
from lrtune.tuning.limits import within
from lrtune.tuning.rate_search import RateSearch
from lrtune.tuning.transfer_plan import RATES, Transfer
from lrtune.tuning.transfer_sizes import Size

SHIFTS = 8  # how often the rates of a size may move on by half a decade

Losses = dict[float, dict[int, float]]
"""A loss by rate and seed; infinite where the run failed."""


@dataclass(frozen=True, eq=False)
class Reading:
    """The best rate of a size.

    Attributes:
        rates: By each seed.
        loss: The lowest mean loss.
        edge: "low" or "high" where the best rate is the lowest or highest that was tried.
    """

    rates: Floats
    loss: float
    edge: str

    @property
    def rate(self) -> float:
        """The geometric mean over the seeds."""
        return float(np.exp(np.log(self.rates).mean()))


class TransferTrials:
    """Asks for runs of one size after the other; what it asks depends on the traces alone."""

    def __init__(self, asked: Transfer) -> None:
        self.asked = asked
        self.search = RateSearch(asked.coarse, rate_only=True)
        self.experiment = Experiment(asked.costs, asked.budget, asked.coarse.drift)
        self.done: list[Size] = []
        self._losses: dict[tuple[str, str], Losses] = {}

    @property
    def spent(self) -> float:
        """What was spent so far, in full trainings."""
        return self.search.experiment.spent + self.experiment.spent

    def asking(self) -> Asking:
        """The rate of the task itself by short runs, then one size after the other."""
        asked, rate = self.asked, self.asked.around
        if rate is None:
            yield from self.search.asking()
            reading = self.search.coarse and self.search.coarse.reading
            assert reading, "the coarse stage ends with a reading, or raises"
            rate = reading.rate
            self.experiment.budget -= self.search.experiment.spent
        for place, size in enumerate(asked.sizes):
            runs = RATES * len(asked.seeds)
            later = asked.sizes[place + 1 :]
            self.experiment.set_aside(math.fsum(asked.cost(one, runs) for one in later))
            yield from self._measure(size, self._near(size, rate))

    def _near(self, size: Size, first: float) -> float:
        """The best rate of the nearest size that was measured; the first one without any."""
        known = [(one, self.read(one, self._last(one))) for one in self.done]
        apart = {
            abs(math.log(one.ratio / size.ratio)): reading.rate for one, reading in known if reading
        }
        return apart[min(apart)] if apart else first

    def _last(self, size: Size) -> str:
        """The reading of its longest runs."""
        return list(self.asked.readings(size))[-1]

    def _measure(self, size: Size, center: float) -> Asking:
        """Three rates half a decade apart, and further ones while the best is at the edge."""
        rates = [center / NEIGHBOUR, center, center * NEIGHBOUR]
        yield from self._train(size, within(rates, self.asked.limits))
        for _ in range(SHIFTS):
            further = self._beyond(size)
            cost = self.asked.cost(size, len(further) * len(self.asked.seeds))
            if not further or cost > self.experiment.left:
                break
            yield from self._train(size, further)
        self.done.append(size)

    def _train(self, size: Size, rates: Sequence[float]) -> Asking:
        """Train these rates with every seed, and note their losses at each reading."""
        asked, history = self.asked, self.experiment.history
        runs = [
            Run(_name(size, rate, seed), rate, seed=seed) for rate in rates for seed in asked.seeds
        ]
        readings, going, reached = asked.readings(size), runs, 0
        for equal, until in readings.items():
            if going and until > reached:
                yield from self.experiment.train(
                    size.label, going, max(readings.values()), until, validate=asked.samples
                )
            reached = until
            going = [run for run in going if not history.runs[run.name].failed]
            losses = self._losses.setdefault((size.label, equal), {})
            for run in runs:
                losses.setdefault(run.lr, {})[run.seed] = history.runs[run.name].loss()

    def _beyond(self, size: Size) -> list[float]:
        """The next rates to try: beyond the edge, where the best one lies there in any reading."""
        further = set[float]()
        for equal in self.asked.readings(size):
            means = self.means(size, equal)
            best, rates = min(means, key=means.__getitem__), sorted(means)
            if best == rates[0] or math.isinf(means[best]):
                further.add(rates[0] / NEIGHBOUR)
            elif best == rates[-1]:
                further.add(rates[-1] * NEIGHBOUR)
        return within(sorted(further), self.asked.limits)

    def means(self, size: Size, equal: str) -> Mapping[float, float]:
        """The mean loss of each rate over the seeds; infinite where, or below where, one failed."""
        losses = self._losses[size.label, equal]
        return mask_unstable(
            {rate: float(np.mean(list(some.values()))) for rate, some in sorted(losses.items())}
        )

    def read(self, size: Size, equal: str) -> Reading | None:
        """The best rate of a size by each seed; None where some seed's runs all failed."""
        losses, means = self._losses[size.label, equal], self.means(size, equal)
        best = min(means, key=means.__getitem__)
        rates = []
        for seed in self.asked.seeds:
            known = mask_unstable({rate: some[seed] for rate, some in sorted(losses.items())})
            lowest = min(known, key=known.__getitem__)
            if math.isinf(known[lowest]):
                return None
            start = float(self.experiment.history.runs[_name(size, lowest, seed)].losses[0])
            rates.append(vertex(known, lowest, max(start, known[lowest])))
        edge = "low" if best == min(means) else "high" if best == max(means) else ""
        return Reading(np.array(rates), means[best], edge)


def _name(size: Size, rate: float, seed: int) -> str:
    """The name of a run."""
    return f"{size.label} {rate:.6g}/{seed}"
