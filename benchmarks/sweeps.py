"""How good the range test's rules are: on bowls with a known limit, and on digits with an oracle.

    python benchmarks/sweeps.py [--steps 200] [--seeds 4] [--length 400]

Bowls: the share of answers (median over the seeds) that lie below 2 / h and within a factor of 20
of it. Digits: a CNN without and with BatchNorm, three optimizers, two batch sizes; regret is the
validation loss after a training of `--length` steps at the answer, over that of the best of 21
rates from 1e-4 to 10 (two seeds; interpolated between rates, in log space; a rate that fails
counts as the loss of guessing). It takes some ten minutes on one core.
"""

import argparse
import functools
import itertools
import math

import numpy as np
import pandas as pd
import torch
from torch import nn

from lrtune import RangeTestResult, Task, range_test, train
from lrtune.analysis import sweep_rules
from lrtune.demo import SmallCNN, images
from lrtune.results.runs import grid, validation_losses
from lrtune.testing import bowl

GUESSING = math.log(10)
OPTIMIZERS = {
    "SGD": torch.optim.SGD,
    "SGD momentum": functools.partial(torch.optim.SGD, momentum=0.9),
    "AdamW": torch.optim.AdamW,
}


class NormCNN(nn.Sequential):
    """The small CNN with BatchNorm."""

    def __init__(self) -> None:
        parts = list(SmallCNN())
        super().__init__(parts[0], nn.BatchNorm2d(8), *parts[1:4], nn.BatchNorm2d(16), *parts[4:])


VARIANTS = {
    "as it is": {},
    "without the twin": {"twin": False},
    "edge: the lowest point": {"risen": 0.0},
    "edge: 5 % lost": {"risen": 0.05},
    "edge: 50 % lost": {"risen": 0.5},
}


def answers(sweep: RangeTestResult, *, twin: bool = True, risen: float = sweep_rules.RISEN) -> dict:
    """The median over the seeds of each rule's answer, and the ensemble."""
    before, sweep_rules.RISEN = sweep_rules.RISEN, risen
    try:
        said = {
            rule: [
                sweep_rules.suggest(
                    rule, one["lr"], one["loss"], one["untrained"] if twin else None
                )
                for _, one in sweep.frame.groupby("seed")
            ]
            for rule in sweep_rules.RULES
        }
    finally:
        sweep_rules.RISEN = before
    medians = {
        rule: 10 ** np.median(np.log10([one.lr for one in each])) for rule, each in said.items()
    }
    return medians | {"ensemble": sweep_rules.ensemble(said).lr}


def bowls(steps: int, seeds: int) -> pd.DataFrame:
    rows = []
    for curvature, noise in itertools.product((0.5, 4.0, 37.0, 900.0), (0.0, 0.03, 0.1, 0.3, 1.0)):
        sweep = range_test(bowl(curvature, noise), steps=steps, seeds=seeds)
        for variant, settings in VARIANTS.items():
            for rule, lr in answers(sweep, **settings).items():
                rows.append((variant, rule, noise, 1 < 2 / curvature / lr < 20))
    return pd.DataFrame(rows, columns=["variant", "rule", "noise", "holds"])


def oracle(task: Task, length: int) -> pd.Series:
    rates = [10 ** (k / 4) for k in range(-16, 5)]
    trace = train(task, grid(rates, [0, 1]), length)
    runs = trace.runs.assign(loss=trace.runs["run"].map(validation_losses(trace.validations)))
    return runs["loss"].fillna(GUESSING).clip(upper=GUESSING).groupby(runs["lr"]).mean()


def digits(steps: int, seeds: int, length: int) -> pd.DataFrame:
    data, val = images()
    rows = []
    for model, (name, optimizer), size in itertools.product(
        (SmallCNN, NormCNN), OPTIMIZERS.items(), (8, 64)
    ):
        task = Task(model, data, val=val, optimizer=optimizer, batch_size=size, device="cpu")
        loss = oracle(task, length)
        sweep = range_test(task, steps=steps, seeds=seeds)
        for variant, settings in VARIANTS.items():
            for rule, lr in answers(sweep, **settings).items():
                reached = np.interp(math.log10(lr), np.log10(loss.index), loss)
                rows.append(
                    (variant, rule, f"{model.__name__}, {name}, {size}", lr, reached / loss.min())
                )
    return pd.DataFrame(rows, columns=["variant", "rule", "task", "lr", "regret"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--length", type=int, default=400)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}; sweeps of {given.steps} steps, {given.seeds} seeds\n")
    held = bowls(given.steps, given.seeds)
    as_it_is = held[held["variant"] == "as it is"]
    print("Bowls: share of answers in (2 / h / 20, 2 / h), by the noise of the gradient:")
    print(as_it_is.pivot_table("holds", "rule", "noise", sort=False).to_string(), "\n")
    table = digits(given.steps, given.seeds, given.length)
    as_it_is = table[table["variant"] == "as it is"]
    print(as_it_is.pivot_table("lr", "task", "rule", sort=False).map("{:.2g}".format), "\n")
    print(f"Regret after {given.length} steps at the answer, {table['task'].nunique()} tasks,")
    print("and on bowls the share of answers where they should be:")
    by = table.groupby(["variant", "rule"], sort=False)["regret"]
    summary = pd.DataFrame(
        {"mean": by.apply(lambda r: np.exp(np.log(r).mean())), "worst": by.max()}
    )
    summary["bowls"] = held.groupby(["variant", "rule"], sort=False)["holds"].mean()
    print(summary.round(2).to_string())


if __name__ == "__main__":
    main()
