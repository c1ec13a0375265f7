"""How well intervals of paired differences to the best cover, all of them at once, by simulation.

    python benchmarks/intervals.py [--draws 1000]

Candidates have levels of their own, seeds move all alike, and each score has noise: normal,
heavy-tailed (Student's t with 3 degrees of freedom), or of a different size for each candidate.
Compared are plain Student intervals and the moderated ones of `lrtune.analysis.paired` (both with
Bonferroni's correction), and a studentised max-t bootstrap over the seeds. All should cover 90 %.
The last column is how often a single winner is named where all candidates are equal.
"""

import argparse

import numpy as np
import pandas as pd
from scipy import stats

from lrtune.analysis.paired import half_width, moderated_spread

LEVEL = 0.9


def plain(differences: np.ndarray) -> np.ndarray:
    candidates, seeds = differences.shape
    quantile = stats.t.ppf(1 - (1 - LEVEL) / 2 / candidates, seeds - 1)
    return quantile * differences.std(axis=1, ddof=1) / np.sqrt(seeds)


def moderated(differences: np.ndarray) -> np.ndarray:
    candidates, seeds = differences.shape
    spread = moderated_spread(pd.DataFrame(differences)).to_numpy()
    return spread * half_width(LEVEL, (candidates + 1, seeds), family=True)


def bootstrap(differences: np.ndarray, draws: int = 500) -> np.ndarray:
    seeds = differences.shape[1]
    random = np.random.default_rng(0)
    rest = differences - differences.mean(axis=1, keepdims=True)
    drawn = rest[:, random.integers(0, seeds, (draws, seeds))]
    spread = drawn.std(axis=2, ddof=1) / np.sqrt(seeds)
    ratios = np.abs(drawn.mean(axis=2)) / np.maximum(spread, 1e-9 * differences.std())
    quantile = np.quantile(ratios.max(axis=0), LEVEL)
    return quantile * differences.std(axis=1, ddof=1) / np.sqrt(seeds)


METHODS = {"plain": plain, "moderated": moderated, "bootstrap": bootstrap}


def noise(random: np.random.Generator, kind: str, candidates: int, seeds: int) -> np.ndarray:
    if kind == "normal":
        return random.normal(size=(candidates, seeds))
    if kind == "heavy-tailed":
        return random.standard_t(3, size=(candidates, seeds))
    return (
        random.normal(size=(candidates, seeds))
        * np.exp(0.7 * random.normal(size=candidates))[:, None]
    )


def simulate(kind: str, candidates: int, seeds: int, draws: int) -> pd.DataFrame:
    random = np.random.default_rng(1)
    rows = []
    for draw in range(draws):
        levels = random.normal(size=candidates) if draw % 2 else np.zeros(candidates)
        scores = (
            levels[:, None] + 2 * random.normal(size=seeds) + noise(random, kind, candidates, seeds)
        )
        leader = scores.mean(axis=1).argmin()
        others = np.arange(candidates) != leader
        differences = scores[others] - scores[leader]
        truth = levels[others] - levels[leader]
        for name, method in METHODS.items():
            reach, mean = method(differences), differences.mean(axis=1)
            covered = (np.abs(mean - truth) <= reach).all()
            alone = (mean > reach).all() if not draw % 2 else np.nan
            rows.append((name, covered, np.median(reach), alone))
    frame = pd.DataFrame(rows, columns=["method", "covers", "half width", "false winner"])
    return frame.groupby("method", sort=False).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    given = parser.parse_args()
    tables = {
        (kind, seeds): simulate(kind, candidates=12, seeds=seeds, draws=given.draws)
        for kind in ("normal", "heavy-tailed", "unequal")
        for seeds in (3, 5, 8)
    }
    print(pd.concat(tables, names=["noise", "seeds"]).round(3).to_string())


if __name__ == "__main__":
    main()
