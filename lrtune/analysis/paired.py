"""Rank candidates by their scores: candidates as index, seeds as columns, lower is better."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy import stats

from lrtune.analysis.curves import Floats
from lrtune.analysis.fitted import fitted

LEVEL = 0.9  # by convention: every interval of lrtune is a 90 % interval
PRIOR = fitted("paired_prior")
DRAWS = 500  # by convention: enough for the ends of a 90 % interval


@dataclass(frozen=True, eq=False)
class PairedResult:
    """The best of several candidates, and each candidate's difference to it with an interval.

    The frame has one row per candidate: `mean` score; mean `difference` to the leader; `low` and
    `high`, its interval; `spread`, the standard deviation of one seed's difference; `tied`, whether
    the interval holds zero or less, so that the two cannot be told apart.
    """

    leader: object
    frame: pd.DataFrame


def compare_paired(
    scores: pd.DataFrame, level: float = LEVEL, *, family: bool = False
) -> PairedResult | None:
    """Intervals of each candidate's difference to the leader, paired by seed.

    They are Student's, with moderated variances; `docs/decisions/0003-ties.md` shows how well they
    cover. `level` is the coverage of each of them, or with `family` of all at once (Bonferroni),
    for naming a winner among many. With one seed only equal scores are tied. A candidate with a
    score that is not finite gets a row of NaN; the result is None when all of them have one.

    >>> scores = pd.DataFrame({0: [1.0, 1.2, 3.0], 1: [2.0, 1.9, 4.3]}, index=[0.1, 0.2, 0.4])
    >>> compare_paired(scores).frame.round(2)
         mean  difference   low  high  spread   tied
    0.1  1.50        0.00  0.00  0.00     0.0   True
    0.2  1.55        0.05 -0.37  0.47     0.3   True
    0.4  3.65        2.15  1.73  2.57     0.3  False

    Source: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3 (1), 3 (moderated t), with a fixed prior.
    """
    finite = scores[np.isfinite(scores).all(axis=1)]
    if finite.empty:
        return None
    leader = finite.mean(axis=1).idxmin()
    differences = finite.sub(finite.loc[leader], axis=1)
    spread = moderated_spread(differences.drop(leader)).reindex(finite.index, fill_value=0.0)
    reach = spread * half_width(level, differences.shape, family=family)
    mean = differences.mean(axis=1)
    frame = pd.DataFrame({
        "mean": finite.mean(axis=1),
        "difference": mean,
        "low": mean - reach,
        "high": mean + reach,
        "spread": spread,
    }).reindex(scores.index)  # fmt: skip
    return PairedResult(leader, frame.assign(tied=frame["low"] <= 0))


def moderated_spread(differences: pd.DataFrame) -> pd.Series:
    """Moderated standard deviation of each row; 0 where there is one column."""
    free = differences.shape[1] - 1
    if free < 1 or differences.empty:
        return pd.Series(0.0, index=differences.index)
    # Three seeds tell little about one difference, but all candidates together tell how much
    # differences scatter: each variance is drawn towards their median, as if worth PRIOR seeds.
    own = differences.var(axis=1)
    common = own.median() / (stats.chi2.ppf(0.5, free) / free)
    return np.sqrt((PRIOR * common + free * own) / (PRIOR + free))


def half_width(level: float, shape: tuple[int, int], *, family: bool) -> float:
    """Half the width of an interval of the mean, in standard deviations of one difference."""
    candidates, seeds = shape
    tail = (1 - level) / 2 / (max(candidates - 1, 1) if family else 1)
    return float(stats.t.ppf(1 - tail, PRIOR + seeds - 1) / np.sqrt(seeds))


def seeds_needed(difference: float, spread: float, others: int) -> int:
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


Candidate = TypeVar("Candidate", bound=Hashable)


def survivors(
    scores: Mapping[Candidate, float], groups: Mapping[Candidate, str], eta: float = 2.0
) -> set[Candidate]:
    """The best ceil(K / eta) of K candidates, evenly over their groups; at least one per group.

    First the best of every group goes on, then every second best, and so on; within a round the
    better score comes first; NaN and infinity are worst. A schedule that decays late, and is behind
    on the short horizons for that reason alone, is thus never out.

    >>> scores = {"a1": 1.0, "a2": 1.1, "a3": 1.2, "b1": 5.0, "b2": 6.0}
    >>> sorted(survivors(scores, {name: name[0] for name in scores}))
    ['a1', 'a2', 'b1']
    """
    worst = {one: score if math.isfinite(score) else math.inf for one, score in scores.items()}
    ranked = sorted(scores, key=lambda one: (worst[one], repr(one)))
    place: dict[Candidate, int] = {}
    size = Counter[str]()
    for candidate in ranked:
        place[candidate] = size[groups[candidate]]
        size[groups[candidate]] += 1
    count = max(math.ceil(len(scores) / eta), len(size))
    return set(sorted(ranked, key=place.__getitem__)[:count])  # stable: the better one first
