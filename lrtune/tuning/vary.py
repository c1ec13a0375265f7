"""Sweeps with other settings: weight decay, momentum, batch size, on the batches of the others."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Floats
from lrtune.analysis.paired import paired
from lrtune.errors import ArgumentError, positive_number, quantity, shown
from lrtune.results.runs import Run
from lrtune.results.schema import VARIED, VARIED_SWEEPS, as_table
from lrtune.task.group_settings import SETTINGS
from lrtune.task.task import Task
from lrtune.task.variants import setting_of
from lrtune.training import Evaluate, Variation, evaluate_like
from lrtune.tuning.sweep_warnings import LEAST_DENSITY
from lrtune.tuning.swept import Swept, suggestion_of

Vary = Mapping[str, Sequence[float]]
"""Settings to the values that are swept: `weight_decay`, `momentum`, `batch_size`."""

BATCH_SIZE = "batch_size"
LEAST_UPDATES = 10  # by convention: a sweep of fewer shows no rate at all
NAMES = (*SETTINGS, BATCH_SIZE)
SUCH_AS = "{'weight_decay': [0, 1e-4, 1e-3]}"


@dataclass(frozen=True)
class Value:
    """One value of a setting that is varied alone; `own` is the task's."""

    setting: str
    value: float
    own: bool
    variation: Variation = field(compare=False)


class Varied(NamedTuple):
    """What the sweeps of all values show: two tables of a `RangeTestResult`, and sentences."""

    table: pd.DataFrame
    sweeps: pd.DataFrame
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


NOTHING = Varied(as_table([], VARIED), as_table([], VARIED_SWEEPS), (), ())


def values_of(task: Task, vary: Vary) -> list[Value]:
    """Every value to sweep, and the task's own of each setting, in ascending order.

    Raises:
        ArgumentError: There is no such setting, the optimizer does not have it, or a value is out
            of its range.
    """
    if not isinstance(vary, Mapping) or not vary:
        raise ArgumentError(
            f"vary={shown(vary)}; expected settings with the values to sweep. Give {SUCH_AS}."
        )
    found: list[Value] = []
    for name, values in vary.items():
        if name not in NAMES:
            raise ArgumentError(
                f"vary has the setting {shown(name)}; expected one of {', '.join(NAMES)}. Give "
                f"{SUCH_AS}."
            )
        own = float(task.batch_examples) if name == BATCH_SIZE else setting_of(task, name)
        given = {_checked(name, value, own) for value in _several(name, values)}
        found += [
            Value(name, value, value == own, _variation(name, value, own))
            for value in sorted(given | {own})
        ]
    return found


def _several(name: str, values: Sequence[float]) -> list[float]:
    if isinstance(values, str | Mapping) or not isinstance(values, Sequence) or not len(values):
        raise ArgumentError(
            f"vary={{{name!r}: {shown(values)}}}; expected a list of values. Give one such as "
            f"{SUCH_AS}."
        )
    return list(values)


def _checked(name: str, value: float, own: float) -> float:
    """The value as a float, after a check."""
    if name == BATCH_SIZE:
        size = positive_number("a batch size of vary", value, such_as=f"{2 * own:g}")
        if size % own:
            raise ArgumentError(
                f"vary={{'batch_size': ...}} has {size:g}; expected multiples of the task's own "
                f"batch size, {own:g}, as batches are put together of its batches. Give "
                f"{own:g}, {2 * own:g}, {4 * own:g} ..., or make the task with a smaller batch."
            )
        return size
    number = 0.0 if value in (0, 0.0) else _positive(name, value)
    if name == "momentum" and number >= 1:
        raise ArgumentError(
            f"vary={{'momentum': ...}} has {number:g}; expected numbers from 0 to below 1. Give "
            "one such as 0.95."
        )
    return number


def _positive(name: str, value: float) -> float:
    try:
        return positive_number(name, value)
    except ArgumentError:
        raise ArgumentError(
            f"vary={{{name!r}: ...}} has {shown(value)}; expected finite numbers >= 0. Give "
            f"{SUCH_AS}."
        ) from None


def _variation(name: str, value: float, own: float) -> Variation:
    if value == own:
        return Variation()
    if name == BATCH_SIZE:
        return Variation(accumulate=round(value / own))
    return Variation(settings={name: value})


class VariedSweeps:
    """Trains the sweeps of other settings, and reads them beside those of the task's own.

    Args:
        task: What is trained.
        vary: The settings and their values.
        sweeps: The sweeps of the task's own settings, one for each seed.
        evaluate: Trains the runs of the task.
        steps: Batches of each sweep.

    Raises:
        ArgumentError: As in `values_of`; a batch is so large that a sweep makes hardly an update;
            or `evaluate` trains no runs that vary.
    """

    def __init__(
        self, task: Task, vary: Vary, sweeps: Sequence[Run], evaluate: Evaluate, *, steps: int
    ) -> None:
        self._task, self._values = task, values_of(task, vary)
        _check_updates(self._values, steps, task.batch_examples)
        self._runs = {
            (one, run.seed): replace(run, name=f"{one.setting} {one.value!r}/{run.seed}")
            for one in self._values
            if not one.own
            for run in sweeps
        }
        variations = {run.name: one.variation for (one, _), run in self._runs.items()}
        self._evaluate = evaluate_like(evaluate, task, variations)

    def read(
        self, own: Mapping[int, Swept], twins: Mapping[int, Floats], steps: int, density: float
    ) -> Varied:
        """Train the sweeps, and read them.

        Args:
            own: The sweeps of the task's own settings, by seed.
            twins: The losses of the controls, which learn nothing whatever the setting is.
            steps: Updates of each of the task's own sweeps.
            density: Of these, per decade of the rate.
        """
        swept = {one: dict(own) for one in self._values if one.own}
        if self._runs:
            runs = list(self._runs.values())
            trace = self._evaluate(runs, steps + 1, stage="vary", validate=0)
            for (one, seed), run in self._runs.items():
                count = one.variation.accumulate
                read = Swept.of(trace, run.name, twins[seed], self._task, count)
                swept.setdefault(one, {})[seed] = read
        rows, notes = [], list[str]()
        for name in dict.fromkeys(one.setting for one in self._values):
            some = {one: swept[one] for one in self._values if one.setting == name}
            verdicts = _verdicts(some)
            rows += [_row(one, some[one], verdicts[one], steps) for one in some]
            notes.append(_sentence(name, list(some), verdicts, len(own)))
        sweeps = pd.concat(
            read.frame.assign(setting=one.setting, value=one.value, seed=seed)
            for one, seeds in swept.items()
            for seed, read in seeds.items()
        )
        against = (*_too_coarse(self._values, density), *_without_effect(swept, own))
        return Varied(
            as_table(rows, VARIED), as_table(sweeps, VARIED_SWEEPS), tuple(notes), against
        )


def _check_updates(values: Sequence[Value], steps: int, batch: int) -> None:
    """Refuse batches that are so large that a sweep makes fewer than `LEAST_UPDATES` updates."""
    largest = max(values, key=lambda one: one.variation.accumulate)
    count = largest.variation.accumulate
    if count > 1 and steps // count < LEAST_UPDATES:
        most = batch * max(1, steps // LEAST_UPDATES)
        raise ArgumentError(
            f"vary={{'batch_size': ...}} has {largest.value:g}: a sweep of {steps} steps makes "
            f"{quantity(steps // count, 'update')} with it; expected {LEAST_UPDATES} or more. Give "
            f"batch sizes up to {most}, or steps={LEAST_UPDATES * count}."
        )


Verdicts = Mapping[Value, tuple[str, float]]
"""`lowest`, `tied`, `behind` or `does not train`; and the difference to the lowest loss."""


def _verdicts(swept: Mapping[Value, Mapping[int, Swept]]) -> Verdicts:
    """How the values of one setting stand, by the lowest losses of their sweeps, paired by seed."""
    lows = {
        one: np.array([read.lowest for read in seeds.values()])
        for one, seeds in swept.items()
        if suggestion_of(seeds) is not None
    }
    lows = {one: losses for one, losses in lows.items() if np.isfinite(losses).all()}
    verdicts = dict.fromkeys(swept, ("does not train", math.nan))
    if not lows:
        return verdicts
    best = min(lows, key=lambda one: lows[one].mean())
    others = {repr(one.value): one for one in lows if one is not best}
    differences = paired({name: lows[one] - lows[best] for name, one in others.items()})
    verdicts[best] = ("lowest", 0.0)
    for name, one in others.items():
        apart = differences[name]
        behind = apart.mean > apart.reach(len(others))
        verdicts[one] = ("behind" if behind else "tied", apart.mean)
    return verdicts


def _row(
    one: Value, swept: Mapping[int, Swept], verdict: tuple[str, float], steps: int
) -> tuple[object, ...]:
    """The row of a value in the table: columns `VARIED`."""
    told = suggestion_of(swept)
    rates = (math.nan,) * 3 if told is None else (told.lr, *told.interval)
    edges = np.array([read.stop[2] for read in swept.values()])
    edges = edges[np.isfinite(edges)]
    edge = float(10 ** np.median(np.log10(edges))) if len(edges) else math.nan
    loss = float(np.mean([read.lowest for read in swept.values()]))
    updates = steps // one.variation.accumulate
    return one.setting, one.value, one.own, *rates, edge, loss, verdict[1], verdict[0], updates


def _sentence(name: str, values: Sequence[Value], verdicts: Verdicts, seeds: int) -> str:
    """Which value is the largest that is not behind, and how the others stand."""
    of = {
        kind: [one for one in values if verdicts[one][0] == kind]
        for kind in ("lowest", "tied", "behind", "does not train")
    }
    if not of["lowest"]:
        return f"{name}: no value is shown to train"
    lowest = _numbers(of["lowest"])
    if len(values) > 1 and seeds == 1:
        return (
            f"{name} {lowest} reaches the lowest loss of a sweep, and a single seed does not tell "
            "how much of the differences is noise"
        )
    words = {
        "tied": "tied with",
        "behind": "behind with",
        "does not train": "no rate is shown to train with",
    }
    parts = [f"{said} {_numbers(of[kind])}" for kind, said in words.items() if of[kind]]
    if not of["tied"]:
        others = f" ({', '.join(parts)})" if parts else ""
        return f"{name} {lowest} reaches the lowest loss of a sweep{others}"
    largest = max(of["lowest"] + of["tied"], key=lambda one: one.value)
    return (
        f"{name} {largest.value:g} is the largest that is not shown to train worse (the sweeps "
        f"reach their lowest loss with {lowest}, {', '.join(parts)})"
    )


def _numbers(values: Sequence[Value]) -> str:
    """Numbers in a sentence."""
    *first, last = (f"{one.value:g}" for one in values)
    return f"{', '.join(first)} and {last}" if first else last


def _too_coarse(values: Sequence[Value], density: float) -> Iterator[str]:
    """Batch sizes whose sweeps make few updates for each decade, where the task's own has enough.

    Of too few with the task's own batch size another sentence warns.
    """
    sparse = [
        one for one in values if density >= LEAST_DENSITY > density / one.variation.accumulate
    ]
    if sparse:
        least = density / sparse[-1].variation.accumulate
        yield (
            f"With batch size {_numbers(sparse)} a sweep makes as few as {least:.1f} updates per "
            f"decade, and needs {LEAST_DENSITY} to notice in time that a rate is too high: raise "
            "`steps`."
        )


def _without_effect(
    swept: Mapping[Value, Mapping[int, Swept]], own: Mapping[int, Swept]
) -> Iterator[str]:
    """Settings of which some value changes no loss at all."""
    for one, seeds in swept.items():
        same = (read.frame.equals(own[seed].frame) for seed, read in seeds.items())
        if not one.own and all(same):
            yield (
                f"{one.setting} {one.value:g} changes no loss of any sweep: it is too near the "
                "task's own value, or the optimizer does not read it from its parameter groups."
            )
