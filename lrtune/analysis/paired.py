"""Paired differences: how two schedules differ on the same seeds, and how certain that is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from lrtune.analysis.curves import Floats
from lrtune.analysis.fitted import fitted

LEVEL = 0.9  # by convention: every interval of lrtune is a 90 % interval
NORMAL = float(stats.norm.ppf((1 + LEVEL) / 2))  # by definition: its half width, in standard errors
LEAST = 2  # by definition: seeds for a statement; with one nothing shows how much they vary
PRIOR = fitted("paired_prior")
DRAWS = 500  # by convention: enough for the ends of a 90 % interval


@dataclass(frozen=True)
class Paired:
    """The mean of paired differences, and how certain it is.

    Attributes:
        mean: The mean over the seeds.
        spread: Standard deviation of one seed's difference.
        free: Degrees of freedom of `spread`.
        count: The number of seeds.

    >>> round(Paired(mean=0.3, spread=0.1, free=6, count=3).reach(), 3)
    0.112
    """

    mean: float
    spread: float
    free: float
    count: int

    def reach(self, others: int = 1) -> float:
        """Half the width of the mean's 90 % interval, by Student's distribution.

        With `others` the probability is that of so many intervals at once (Bonferroni).
        """
        if not self.free:
            return math.inf
        tail = (1 - LEVEL) / 2 / max(others, 1)
        return float(stats.t.ppf(1 - tail, self.free)) * self.spread / math.sqrt(self.count)

    @property
    def error(self) -> float:
        """Standard error of the normal distribution whose 90 % interval is as wide as `reach`."""
        return self.reach() / NORMAL


def paired(
    differences: Mapping[str, Floats], known: Mapping[str, float] | None = None
) -> dict[str, Paired]:
    """Read each candidate's differences to one reference, a number per seed, all of them finite.

    Two or three seeds tell little about how much a difference varies. So each variance is drawn
    towards what is known of it: from other tasks, and from the other candidates here. That counts
    like `PRIOR` more seeds, or fewer where it rests on fewer.

    Args:
        differences: By candidate, lower is better.
        known: Standard deviation of one difference on other tasks, by candidate; None where
            the scores here have another unit.

    >>> some = {"a": np.array([0.1, 0.3]), "b": np.array([0.2, 0.2])}
    >>> {name: round(one.spread, 3) for name, one in paired(some).items()}
    {'a': 0.1, 'b': 0.1}

    Source: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3 (1), 3 (moderated t).
    """
    free = {name: max(len(some) - 1, 0) for name, some in differences.items()}
    square = {
        name: float(np.var(d, ddof=1)) if free[name] else 0.0 for name, d in differences.items()
    }
    read = {}
    for name, some in differences.items():
        terms = [(float(free[other]), square[other]) for other in differences if other != name]
        if known is not None:
            terms.append((PRIOR, known[name] ** 2))
        total = sum(weight for weight, _ in terms)
        common = sum(weight * value for weight, value in terms) / total if total else 0.0
        prior = min(PRIOR, total)
        freedom = prior + free[name]
        variance = (prior * common + free[name] * square[name]) / freedom if freedom else math.inf
        read[name] = Paired(float(np.mean(some)), math.sqrt(variance), freedom, len(some))
    return read


def combined(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean and standard error of independent estimates of one number, each with its error.

    NaN without any estimate whose error is finite.

    >>> combined([(0.0, 0.2), (1.0, 0.2), (9.0, math.inf)])[0]
    0.5
    """
    if exact := [mean for mean, error in parts if error == 0]:
        return float(np.mean(exact)), 0.0
    weights = np.array([error**-2 for _, error in parts])
    if not weights.sum() > 0:
        return math.nan, math.nan
    return float(weights @ [mean for mean, _ in parts] / weights.sum()), float(
        weights.sum() ** -0.5
    )


def seeds_needed(difference: float, spread: float, others: int = 1) -> int:
    """The number of seeds that show a difference of this size, among `others` compared at once.

    >>> seeds_needed(difference=0.1, spread=0.2, others=10)
    27
    """
    if difference <= 0:
        return 10**6  # no number of seeds shows that equal schedules differ
    quantile = float(stats.norm.ppf(1 - (1 - LEVEL) / 2 / max(others, 1)))
    return max(2, math.ceil((quantile * spread / difference) ** 2))


def kendall_tau(short: pd.DataFrame, long: pd.DataFrame) -> tuple[float, float, float]:
    """Kendall's tau-b of the mean scores on two horizons, and its 90 % bootstrap interval.

    All three lie in [-1, 1], where 1 is the same ranking; NaN with fewer than three candidates, or
    when one side ranks all of them alike. A candidate that failed ranks last. Drawing adds noise of
    its own, which lowers tau, so the lower end is on the careful side.

    >>> scores = pd.DataFrame({0: [1.0, 2.0, 3.0, 4.0], 1: [1.1, 2.1, 3.1, 4.1]})
    >>> kendall_tau(scores, scores + 1)
    (1.0, 1.0, 1.0)
    """
    if len(short) < 3:
        return np.nan, np.nan, np.nan
    frames = short, long.loc[short.index]
    one, other = (np.nan_to_num(frame.to_numpy(float), nan=np.inf) for frame in frames)
    random = np.random.default_rng(0)
    first = second = random.integers(0, one.shape[1], (DRAWS, one.shape[1]))
    if list(short.columns) != list(long.columns):  # the same seeds are drawn in pairs
        second = random.integers(0, other.shape[1], (DRAWS, other.shape[1]))
    drawn = _taus(one[:, first].mean(axis=2).T, other[:, second].mean(axis=2).T)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return np.nan, np.nan, np.nan
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = float(_taus(one.mean(axis=1)[None], other.mean(axis=1)[None])[0])
    return value, min(float(low), value), max(float(high), value)


def _taus(one: Floats, other: Floats) -> Floats:
    """Kendall's tau-b of each row with the same row of the other."""
    left, right = np.triu_indices(one.shape[1], k=1)
    ranks = stats.rankdata(one, axis=1), stats.rankdata(other, axis=1)
    mine, theirs = (np.sign(rank[:, left] - rank[:, right]) for rank in ranks)
    untied = np.sqrt((mine != 0).sum(axis=1) * (theirs != 0).sum(axis=1))
    taus: Floats = np.divide(
        (mine * theirs).sum(axis=1), untied, out=np.full(len(one), np.nan), where=untied > 0
    )
    return taus
