"""Paired comparison: same seed, weights and batches, so differences are compared, not means."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.9
"""Coverage of the intervals of a paired difference."""


@dataclass(frozen=True, eq=False)
class Standing:
    """Where candidates stand against the best of them.

    Attributes:
        leader: The candidate with the lowest mean score.
        frame: One row per candidate, in the order of the index: `mean` score; `difference` to the
            leader, the mean over the seeds; `low` and `high`, its interval; `tied`, whether the
            interval holds zero or less, so that the two cannot be told apart.
    """

    leader: float
    frame: pd.DataFrame


def stand(scores: pd.DataFrame, level: float = LEVEL) -> Standing | None:
    """Compare candidates over seeds, each with the leader, by Student's interval of the difference.

    With one seed nothing is known about the spread, and only equal scores are tied.

    Args:
        scores: Candidates as index, seeds as columns; lower is better. A candidate with a score
            that is not finite, in any seed, is out of the race, and its row holds NaN.
        level: Coverage of the intervals, in (0, 1).

    Returns:
        The standing; None when no candidate is finite in every seed.

    >>> scores = pd.DataFrame({0: [1.0, 1.2, 3.0], 1: [2.0, 1.9, 4.0]}, index=[0.1, 0.2, 0.4])
    >>> stand(scores).frame.round(2)
         mean  difference  low  high   tied
    0.1  1.50        0.00  0.0   0.0   True
    0.2  1.55        0.05 -0.9   1.0   True
    0.4  3.50        2.00  2.0   2.0  False
    """
    raced = scores[np.isfinite(scores).all(axis=1)]
    if raced.empty:
        return None
    leader = raced.mean(axis=1).idxmin()
    differences = raced.sub(raced.loc[leader], axis=1)
    mean, seeds = differences.mean(axis=1), scores.shape[1]
    reach = 0.0 * mean
    if seeds > 1:
        quantile = stats.t.ppf((1 + level) / 2, seeds - 1)
        reach = quantile * differences.std(axis=1) / np.sqrt(seeds)
    frame = pd.DataFrame(
        {
            "mean": raced.mean(axis=1),
            "difference": mean,
            "low": mean - reach,
            "high": mean + reach,
            "tied": mean - reach <= 0,
        }
    )
    full = frame.reindex(scores.index)
    return Standing(float(leader), full.assign(tied=full["tied"].eq(other=True)))


def level_ground(standing: Standing) -> list[float]:
    """The tied candidates next to the leader in the order of the index, the leader among them.

    A tie behind one that lost does not count: at a far rate it is a sign of noise.

    >>> scores = pd.DataFrame({0: [9.0, 1.3, 1.0, 3.0, 1.1], 1: [9.0, 2.0, 1.9, 4.0, 2.1]})
    >>> level_ground(stand(scores))
    [1.0, 2.0]
    """
    rates = sorted(standing.frame.index)
    tied = standing.frame["tied"]
    low = high = rates.index(standing.leader)
    while low > 0 and tied[rates[low - 1]]:
        low -= 1
    while high < len(rates) - 1 and tied[rates[high + 1]]:
        high += 1
    return [float(rate) for rate in rates[low : high + 1]]
