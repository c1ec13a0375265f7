"""How well intervals of paired differences to one reference cover, by simulation.

    python benchmarks/intervals.py [--draws 1000]

Seeds move all alike, and each score has noise: normal, heavy-tailed (Student's t with 3 degrees of
freedom), or of a size of its own for each rival. How much a task's noise differs from that of other
tasks is drawn as well, by a factor of 1.5 (one standard deviation).
Compared are plain Student intervals and those of `lrtune.analysis.paired`, with the noise of other
tasks known and unknown. All should cover 90 %, for all rivals at once (Bonferroni).
"""

import argparse

import numpy as np
import pandas as pd
from scipy import stats

from lrtune.analysis.paired import LEVEL, paired

SPREAD = 1.5  # factor between the noise of two tasks, one standard deviation
KINDS = ("normal", "heavy-tailed", "unequal")


def plain(differences: np.ndarray) -> np.ndarray:
    rivals, seeds = differences.shape
    quantile = stats.t.ppf(1 - (1 - LEVEL) / 2 / rivals, seeds - 1)
    return quantile * differences.std(axis=1, ddof=1) / np.sqrt(seeds)


def moderated(differences: np.ndarray, known: float | None) -> np.ndarray:
    rows = {str(row): some for row, some in enumerate(differences)}
    read = paired(rows, None if known is None else dict.fromkeys(rows, known))
    return np.array([one.reach(len(rows)) for one in read.values()])


METHODS = {
    "plain": plain,
    "moderated": lambda differences: moderated(differences, None),
    "moderated, noise known": lambda differences: moderated(differences, 1.0),
}


def noise(random: np.random.Generator, kind: str, rivals: int, seeds: int) -> np.ndarray:
    shape = (rivals + 1, seeds)
    if kind == "heavy-tailed":
        return random.standard_t(3, size=shape) / np.sqrt(3)
    sizes = (
        np.exp(0.4 * random.normal(size=rivals + 1)) if kind == "unequal" else np.ones(rivals + 1)
    )
    return sizes[:, None] * random.normal(size=shape)


def simulate(kind: str, rivals: int, seeds: int, draws: int) -> pd.DataFrame:
    random = np.random.default_rng(1)
    rows = []
    for _ in range(draws):
        task = np.exp(np.log(SPREAD) * random.normal()) / np.sqrt(2)
        scores = 2 * random.normal(size=seeds) + task * noise(random, kind, rivals, seeds)
        differences = scores[1:] - scores[0]
        for name, method in METHODS.items():
            reach = method(differences)
            covered = np.abs(differences.mean(axis=1)) <= reach
            rows.append((name, covered.all(), np.median(reach)))
    frame = pd.DataFrame(rows, columns=["method", "covers", "half width"])
    return frame.groupby("method", sort=False).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    given = parser.parse_args()
    tables = {
        (kind, rivals, seeds): simulate(kind, rivals, seeds, given.draws)
        for kind in KINDS
        for rivals in (1, 3)
        for seeds in (2, 3, 5)
    }
    for method, table in pd.concat(tables, names=["noise", "rivals", "seeds"]).groupby("method"):
        print(f"{method}\n{table.droplevel('method').round(2).to_string()}")


if __name__ == "__main__":
    main()
