"""What is believed of the best peak rate: before, and after whole trainings at a few peaks.

Three small parts: a belief about the place of the best rate (normal over its log, from short runs
and what is known of their errors), the usual rise of the final score beside it, and the share of
seeds that diverge above it. Their numbers come from other tasks: `prior.toml`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from lrtune.analysis.curves import Floats
from lrtune.analysis.fitted import fitted
from lrtune.analysis.prior import Belief, Prior

REACH = 4.0  # by convention: half the width of the grid, in standard deviations of the belief
PLACES = 321  # by convention: places on that grid; more change no digit that is printed
ANSWER = fitted("answer_quantile")
SHAPE = fitted("shape_uncertainty")
NOISE = fitted("noise_factor")
NARROWEST = 1.2  # by convention: an interval reaches at least this factor beyond its middle
FREEDOM = 3.0  # by convention: of a t distribution of scores, so that one lucky run decides nothing


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Where the best peak lies, and what another training would end at.

    Attributes:
        prior: What other tasks tell about this schedule and length.
        places: Logs of rates, evenly spaced.
        weights: The probability that the best rate lies at each place; their sum is 1.
    """

    prior: Prior
    places: Floats
    weights: Floats

    @classmethod
    def fit(
        cls,
        belief: Belief,
        prior: Prior,
        rates: Sequence[float] = (),
        scores: Sequence[float] = (),
    ) -> "Surrogate":
        """Update the belief by whole trainings at these peaks; infinite scores are failures.

        The level of the scores is free, so one finite score alone says nothing about the place.
        """
        places = belief.mean + belief.sd * np.linspace(-REACH, REACH, PLACES)
        logs = norm.logpdf(places, belief.mean, belief.sd)
        x, y = np.log(np.asarray(rates, float)), np.asarray(scores, float)
        finite = np.isfinite(y)
        for at in x:
            risk = prior.divergence(at - places)
            logs = logs + np.log(np.where(np.isfinite(y[x == at][0]), 1 - risk, risk) + 1e-12)
        if finite.sum() > 1:
            expected = prior.excess(x[finite, None] - places[None, :])
            residuals = y[finite, None] - expected
            # With few scores one lucky run must not be the level, so the median is.
            residuals = residuals - np.median(residuals, axis=0)
            scale = np.hypot(NOISE * prior.noise, SHAPE * expected)
            terms = (FREEDOM + 1) / 2 * np.log1p((residuals / scale) ** 2 / FREEDOM)
            logs = logs - (terms + np.log(scale)).sum(axis=0)
        weights = np.exp(logs - logs.max())
        return cls(prior, places, weights / weights.sum())

    def expected(self, rates: Sequence[float]) -> Floats:
        """The expected score at these peaks, over the unknown score of the best one."""
        distance = np.log(np.asarray(rates, float))[:, None] - self.places[None, :]
        risk = self.prior.divergence(distance)
        cost = (1 - risk) * self.prior.excess(distance) + risk * self.prior.failure
        return np.asarray(cost @ self.weights, float)

    def quantile(self, share: float) -> float:
        """The rate below which the best one lies with this probability."""
        below = np.cumsum(self.weights)
        return float(np.exp(np.interp(share, below, self.places)))

    def best_rate(self) -> float:
        """The peak to take: a little below the middle, as too high a peak costs more."""
        return self.quantile(ANSWER)

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """The interval that holds the best rate, or one as good, with this probability."""
        middle, narrower = self.quantile(0.5), self.prior.interval
        ends = (self.quantile((1 + sign * level) / 2) for sign in (-1, 1))
        low, high = (middle * (end / middle) ** narrower for end in ends)
        best = self.best_rate()
        return min(low, best, middle / NARROWEST), max(high, best, middle * NARROWEST)

    def good_range(self, within: float = 0.05) -> tuple[float, float]:
        """The rates whose expected score is at most this much above that of the best rate."""
        expected = self.expected(list(np.exp(self.places)))
        good = self.places[expected <= expected.min() + within]
        return float(np.exp(good[0])), float(np.exp(good[-1]))

    def gain(self, trained: int, more: int) -> float:
        """The expected gain of keeping the best of so many more runs at the best peak."""
        lucky = best_of(trained + more) - best_of(trained)
        return float(self.prior.noise * self.prior.real_luck * lucky)


def best_of(count: int) -> float:
    """How far the lowest of so many standard normal numbers lies below zero, on average.

    >>> [round(best_of(count), 2) for count in (1, 2, 3)]
    [0.0, 0.56, 0.85]
    """
    if count < 2:
        return 0.0
    grid = np.linspace(-6, 6, 2001)
    density = count * norm.pdf(grid) * norm.sf(grid) ** (count - 1)
    return float(-np.trapezoid(grid * density, grid))
