"""Compare candidates by the differences of their scores on the same seeds."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from lrtune.analysis.fitted import fitted

LEVEL = 0.9  # by convention: every interval of lrtune is a 90 % interval
PRIOR = fitted("paired_prior")


@dataclass(frozen=True, eq=False)
class PairedResult:
    """The difference of each candidate to the best one, with its interval.

    Attributes:
        leader: The candidate with the lowest mean score.
        frame: One row per candidate, in the order of the index: `mean` score; `difference` to the
            leader, the mean over the seeds; `low` and `high`, its interval; `spread`, the standard
            deviation of one seed's difference; `tied`, whether the interval holds zero or less,
            so that the two cannot be told apart.
    """

    leader: object
    frame: pd.DataFrame


def compare_paired(
    scores: pd.DataFrame, level: float = LEVEL, *, family: bool = False
) -> PairedResult | None:
    """Intervals of each candidate's difference to the leader, paired by seed.

    They are Student's, with moderated variances: three seeds tell little about one difference, but
    all candidates together tell how much differences scatter, so each variance is drawn towards
    their median as if that were worth four more seeds. `docs/decisions/0003-ties.md` shows how
    well these intervals cover, beside the bootstrap's. With one seed nothing is known about the
    scatter, and only equal scores are tied.

    Args:
        scores: Candidates as index, seeds as columns; lower is better. A candidate with a score
            that is not finite in some seed is left out, and its row holds NaN.
        level: Coverage of each interval, or of all of them at once, in (0, 1).
        family: All of them at once (Bonferroni): for naming a winner among many.

    Returns:
        The result; None when no candidate is finite in every seed.

    >>> scores = pd.DataFrame({0: [1.0, 1.2, 3.0], 1: [2.0, 1.9, 4.3]}, index=[0.1, 0.2, 0.4])
    >>> compare_paired(scores).frame.round(2)
         mean  difference   low  high  spread   tied
    0.1  1.50        0.00  0.00  0.00     0.0   True
    0.2  1.55        0.05 -0.37  0.47     0.3   True
    0.4  3.65        2.15  1.73  2.57     0.3  False

    Source: Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3 (1), 3
    (moderated t), with a fixed prior.
    """
    raced = scores[np.isfinite(scores).all(axis=1)]
    if raced.empty:
        return None
    leader = raced.mean(axis=1).idxmin()
    differences = raced.sub(raced.loc[leader], axis=1)
    spread = _spread(differences.drop(leader)).reindex(raced.index, fill_value=0.0)
    reach = spread * _quantile(level, differences.shape, family=family)
    mean = differences.mean(axis=1)
    frame = pd.DataFrame(
        {
            "mean": raced.mean(axis=1),
            "difference": mean,
            "low": mean - reach,
            "high": mean + reach,
            "spread": spread,
            "tied": mean - reach <= 0,
        }
    )
    full = frame.reindex(scores.index)
    return PairedResult(leader, full.assign(tied=full["tied"].eq(other=True)))


def seeds_needed(difference: float, spread: float, others: int, level: float = LEVEL) -> int:
    """The number of seeds that show a difference of this size, among `others` compared at once.

    >>> seeds_needed(difference=0.1, spread=0.2, others=10)
    27
    """
    if not (difference > 0 and spread > 0):
        return 10**6 if difference <= 0 else 2
    quantile = stats.norm.ppf(1 - (1 - level) / 2 / max(others, 1))
    return max(2, int(np.ceil((quantile * spread / difference) ** 2)))


def _spread(differences: pd.DataFrame) -> pd.Series:
    """Moderated standard deviation of each row; 0 where there is one column."""
    free = differences.shape[1] - 1
    if free < 1 or differences.empty:
        return pd.Series(0.0, index=differences.index)
    own = differences.var(axis=1)
    common = own.median() / (stats.chi2.ppf(0.5, free) / free)
    return np.sqrt((PRIOR * common + free * own) / (PRIOR + free))


def _quantile(level: float, shape: tuple[int, int], *, family: bool) -> float:
    """Half the width of an interval of the mean, in standard deviations of one difference."""
    candidates, seeds = shape
    comparisons = max(candidates - 1, 1) if family else 1
    tail = (1 - level) / 2 / comparisons
    return float(stats.t.ppf(1 - tail, PRIOR + seeds - 1) / np.sqrt(seeds))
