"""How often the verdict on a loss curve is right: `python -m benchmarks.verdicts practice`.

Constant rates from 1e-5 to 10, three a decade, are trained on tasks of the quality benchmark; the
constants of `lrtune.analysis.verdicts` were chosen on those for practice. The best rate is the one
whose training loss ends lowest. What is right:

- good: from a third to twice the best rate, or less than 5 % of the best fall is left;
- too low: any lower rate; high: any higher one;
- very high: of these, those that fail or lose half of the best fall.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from benchmarks.quality.practice import PRACTICE
from benchmarks.quality.tasks import TASKS, Spec
from benchmarks.quality.training import lost
from lrtune import Cohort, Run
from lrtune.analysis.curve_reading import Curve
from lrtune.analysis.curves import end_level
from lrtune.analysis.verdicts import CLOSE, GOOD, HIGH, LOST, TOO_LOW, VERY_HIGH, judge_curves
from lrtune.training.engines.fastest import Fastest

RATES = [float(f"{10 ** (k / 3):.4g}") for k in range(-15, 4)]
SEEDS = (0, 1)
LOW, ABOVE = 0.32, 2.0
Curves = Mapping[tuple[float, int], np.ndarray]


def trained(spec: Spec) -> Curves:
    """(rate, seed) to the training losses."""
    task = spec.task()
    runs = [Run(f"{lr:g}/{seed}", lr, seed=seed) for lr in RATES for seed in SEEDS]
    rule = lost(spec.guessing())
    frame = Cohort(task, runs, spec.steps, engine=Fastest(task), retire=rule).advance().trace.frame
    losses = {name: rows["loss"].to_numpy() for name, rows in frame.groupby("run")}
    return {(run.lr, run.seed): losses[run.name] for run in runs}


def right(curves: Curves) -> dict[float, set[str]]:
    """The verdicts on each rate that are right."""
    steps, ends = max(map(len, curves.values())), {}
    for lr in RATES:
        some = [curves[lr, seed] for seed in SEEDS]
        whole = all(len(one) == steps and np.isfinite(one).all() for one in some)
        ends[lr] = float(np.mean([end_level(one) for one in some])) if whole else np.inf
    best = min(ends, key=ends.__getitem__)
    start = float(np.mean([one[0] for one in curves.values()]))
    known = {}
    for lr, end in ends.items():
        ratio, left = lr / best, (end - ends[best]) / (start - ends[best])
        side = TOO_LOW if ratio < 1 else HIGH if left <= LOST else VERY_HIGH
        beyond = not LOW <= ratio <= ABOVE
        known[lr] = {GOOD} if ratio == 1 else {side} if beyond else {GOOD, side}
        if left <= CLOSE:
            known[lr] = {GOOD, side} if beyond else {GOOD}
    return known


def frames(how: str, random: np.random.Generator) -> Iterator[list[tuple[float, int]]]:
    """Which curves are judged together."""
    if how == "every other rate":
        yield from ([(lr, seed) for lr in RATES[seed::2]] for seed in SEEDS)
    elif how == "five rates":
        for _ in range(8):
            places = sorted(random.choice(len(RATES), 5, replace=False).tolist())
            yield [(RATES[place], int(random.integers(2))) for place in places]
    else:
        yield from ([(lr, seed)] for lr in RATES for seed in SEEDS)


def judged(curves: Curves, how: str, random: np.random.Generator, *, rates: bool) -> Counter:
    """(whether it is certain, whether it is right) to the number of verdicts."""
    known, counts = right(curves), Counter()
    for keys in frames(how, random):
        given = {
            f"{lr:g}/{seed}": Curve(np.arange(float(len(curves[lr, seed]))), curves[lr, seed],
                                    lr if rates else np.nan)
            for lr, seed in keys
        }  # fmt: skip
        for (lr, _), one in zip(keys, judge_curves(given).values(), strict=True):
            counts[one.certain, one.verdict in known[lr]] += 1
    return counts


def main() -> None:
    kind, *names = sys.argv[1:] or ["practice"]
    specs = PRACTICE if kind == "practice" else {k: s for k, s in TASKS.items() if not s.held_out}
    grids = []
    for name, spec in specs.items():
        if not names or name in names:
            grids.append(trained(spec))
            print(name, flush=True)
    rows = []
    for how in ("every other rate", "five rates", "a single curve"):
        for rates in (True, False):
            random, total = np.random.default_rng(0), Counter()
            for curves in grids:
                total += judged(curves, how, random, rates=rates)
            certain, other = (total[c, True] + total[c, False] for c in (True, False))
            share = (total[True, True] + total[False, True]) / (certain + other)
            sure = total[True, True] / certain if certain else np.nan
            rows.append((how, rates, certain + other, share, certain, sure))
    columns = ["curves together", "with rates", "verdicts", "right", "certain", "of these right"]
    print(pd.DataFrame(rows, columns=columns).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
