"""Two trainings of real length, on all of Fashion-MNIST, and shorter ones to foretell them by.

Rates lie half a decade apart, and a quarter for constant ones. What is most useful comes first.
"""

import functools
import math
import time

import pandas as pd
from torch.optim import AdamW

from benchmarks.quality import data, nets
from benchmarks.quality.halves import HALVES, Halves
from benchmarks.quality.oracle import SHORT, place, rate
from benchmarks.quality.store import FOLDER, Store
from benchmarks.quality.tasks import MOMENTUM, Spec
from benchmarks.quality.training import FEWER

LENET = Spec("Fashion LeNet", nets.lenet, data.fashion, MOMENTUM, 128, 4690, about="ten epochs")
RESNET = Spec(
    "Fashion ResNet",
    functools.partial(nets.ResNet, 1, 8, 10, stride=2),
    data.fashion,
    functools.partial(AdamW, weight_decay=0.05),
    128,
    2345,
    about="BatchNorm; five epochs",
)

FASHION = Store(FOLDER / "fashion.csv", HALVES.columns, HALVES.keys)
"""As halves.csv."""

SCHEDULES = (
    "one-cycle", "trapezoid", "wsd", "warmup-cosine", "linear", "cosine", "step", "constant",
)  # fmt: skip
FIRST = ("trapezoid", "constant")
"""Those that are trained to the full length at every rate."""

HALF_DECADE = 2
PLACES = {LENET.name: range(-12, -1, HALF_DECADE), RESNET.name: range(-12, -3, HALF_DECADE)}
CONSTANT = {LENET.name: range(-12, -3), RESNET.name: range(-12, -5)}
"""Places of the rates, 0.001 and up; those of the constant ones are added to the former."""

WAY = (20, 30, 40, 60, 80, 120, 150, 200, 293, 586, 1172)
"""Steps at which a constant rate is judged on its way."""

TINY = (40, 80)
"""Lengths of the shortest runs."""


def measure() -> None:
    """Train what is not in the table yet, the two tasks in turns."""
    both = [Halves(spec, FASHION, most=2) for spec in (LENET, RESNET)]
    for part in (long, short, scheduled, repeated, halfway):
        for train in both:
            begin = time.perf_counter()
            part(train)
            seconds = time.perf_counter() - begin
            print(f"{part.__name__:12s} {train.spec.name:20s} {seconds:7.1f} s", flush=True)


def long(train: Halves) -> None:
    """A trapezoid and constant rates, to the full length."""
    name, steps = train.spec.name, train.spec.steps
    train([("trapezoid", rate(k)) for k in PLACES[name]], steps, FEWER[:1])
    constant = sorted({*PLACES[name], *CONSTANT[name]})
    train([("constant", rate(k)) for k in constant], steps, FEWER[:1], WAY)


def short(train: Halves) -> None:
    """Every schedule, whole but short."""
    rates = [rate(k) for k in PLACES[train.spec.name]]
    for share in SHORT:
        pairs = [(name, lr) for name in SCHEDULES for lr in rates]
        train(pairs, round(train.spec.steps / share), FEWER[:1])
    for steps in TINY:
        train([(name, lr) for name in FIRST for lr in rates], steps, FEWER[:2])


def scheduled(train: Halves) -> None:
    """Every schedule to the full length, where its short runs were best; more while on the edge."""
    wanted = _around(train.spec)
    while wanted:
        train(wanted, train.spec.steps, FEWER[:1])
        losses = finals(train.spec, train.spec.steps)
        wanted = [(name, rate(k)) for name in SCHEDULES for k in beyond(losses[name])]


def halfway(train: Halves) -> None:
    """The same, half as long."""
    train(_around(train.spec), round(train.spec.steps / 2), FEWER[:1])


def repeated(train: Halves) -> None:
    """Two seeds more, of each schedule's three best rates."""
    losses = finals(train.spec, train.spec.steps)
    pairs = [(name, lr) for name in SCHEDULES for lr in losses[name].nsmallest(3).index]
    train(pairs, train.spec.steps, FEWER[1:])


def finals(spec: Spec, steps: int) -> pd.Series:
    """The final validation loss of the first seed by (schedule, lr); infinite where it failed."""
    table = FASHION.read()
    some = table[
        (table["task"] == spec.name)
        & (table["steps"] == steps)
        & (table["at"] == steps)
        & (table["seed"] == FEWER[0])
    ].set_index(["schedule", "lr"])
    return some[["val_a", "val_b"]].astype(float).mean(axis=1, skipna=False).fillna(math.inf)


def beyond(losses: pd.Series) -> list[int]:
    """The place to add, where the lowest loss is that of the lowest or the highest rate.

    >>> beyond(pd.Series({0.01: 0.5, 0.0316228: 0.4, 0.1: 0.3}))
    [-2]
    >>> beyond(pd.Series({0.01: 0.5, 0.0316228: 0.4, 0.1: 0.6}))
    []
    """
    best = losses.idxmin()
    lower = [place(best) - HALF_DECADE] if best == losses.index.min() else []
    return lower + ([place(best) + HALF_DECADE] if best == losses.index.max() else [])


def _around(spec: Spec) -> list[tuple[str, float]]:
    """Every schedule at its best rate of a quarter of the length, and half a decade around."""
    losses = finals(spec, round(spec.steps / 4))
    return [
        (name, rate(place(losses[name].idxmin()) + k))
        for name in SCHEDULES
        for k in (0, -HALF_DECADE, HALF_DECADE)
    ]
