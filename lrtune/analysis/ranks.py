"""Rankings: how well two horizons agree, and which candidates go on to the next."""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy import stats

from lrtune.analysis.curves import Floats

DRAWS = 500  # by convention: enough for the ends of a 90 % interval


def kendall_tau(
    short: pd.DataFrame, long: pd.DataFrame, level: float = 0.9, seed: int = 0
) -> tuple[float, float, float]:
    """Kendall's tau-b of the mean scores on two horizons, and its bootstrap interval.

    Seeds are drawn with replacement, on each horizon by itself where their seeds differ, else in
    pairs; a candidate that failed ranks last. Drawing adds noise of its own, which lowers tau, so
    the lower end is on the careful side.

    Args:
        short: Candidates as index, seeds as columns; lower is better.
        long: The same candidates on the longer horizon.
        level: Coverage of the interval, in (0, 1).
        seed: Decides the draws.

    Returns:
        (tau, low, high) in [-1, 1]; 1 is the same ranking. NaN with fewer than three candidates, or
        when one side ranks all of them alike.

    >>> scores = pd.DataFrame({0: [1.0, 2.0, 3.0, 4.0], 1: [1.1, 2.1, 3.1, 4.1]})
    >>> kendall_tau(scores, scores + 1)
    (1.0, 1.0, 1.0)
    """
    long = long.loc[short.index]
    if len(short) < 3:
        return np.nan, np.nan, np.nan
    one, other = (np.nan_to_num(frame.to_numpy(float), nan=np.inf) for frame in (short, long))
    random = np.random.default_rng(seed)
    paired = list(short.columns) == list(long.columns)
    first = random.integers(0, one.shape[1], (DRAWS, one.shape[1]))
    second = first if paired else random.integers(0, other.shape[1], (DRAWS, other.shape[1]))
    drawn = _taus(one[:, first].mean(axis=2).T, other[:, second].mean(axis=2).T)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return np.nan, np.nan, np.nan
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
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


Candidate = TypeVar("Candidate", bound=Hashable)


def survivors(
    scores: Mapping[Candidate, float], groups: Mapping[Candidate, str], eta: float = 2.0
) -> set[Candidate]:
    """Select the best share 1 / `eta` of the candidates, evenly over their groups.

    First the best of every group goes on, then every second best, and so on; within a round the
    better score comes first. A schedule that decays late, and is behind on the short horizons for
    that reason alone, is thus never out.

    Args:
        scores: Candidate to score, lower is better; NaN and infinity are worst.
        groups: Candidate to the group that has a quota, such as its schedule.
        eta: > 1.

    Returns:
        Exactly ceil(K / eta) of the K candidates, or one per group where that is more.

    >>> scores = {"a1": 1.0, "a2": 1.1, "a3": 1.2, "b1": 5.0, "b2": 6.0}
    >>> sorted(survivors(scores, {name: name[0] for name in scores}))
    ['a1', 'a2', 'b1']
    """
    ranked = defaultdict(list)
    for candidate in sorted(scores, key=lambda one: (_worst(scores[one]), repr(one))):
        ranked[groups[candidate]].append(candidate)
    places = [
        (place, _worst(scores[candidate]), repr(candidate), candidate)
        for members in ranked.values()
        for place, candidate in enumerate(members)
    ]
    count = max(math.ceil(len(scores) / eta), len(ranked))
    return {candidate for *_, candidate in sorted(places, key=lambda one: one[:3])[:count]}


def _worst(score: float) -> float:
    return score if math.isfinite(score) else math.inf
