"""Runs, and the trace of a cohort: what training its runs recorded."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, cast

import numpy as np
import pandas as pd

from lrtune import figures
from lrtune.analysis.curves import Floats, Outcome, diverged_at
from lrtune.errors import ArgumentError, positive_rate, whole_number
from lrtune.results.schema import COSTS, RUNS, SELECTION, TRACE, VALIDATIONS, as_table, table_field
from lrtune.results.serialization import Serializable
from lrtune.schedules import Curve, Feedback, Schedule, as_schedule, constant, multipliers, replay
from lrtune.schedules.feedback import validation_interval

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Shape = Curve | Schedule | Feedback[Any]
"""Everything that a run takes as its schedule."""


@dataclass(frozen=True, init=False)
class Run:
    """One training: a peak rate, a schedule, a seed.

    Attributes:
        name: Unique among the runs that are trained together.
        lr: Peak learning rate, > 0; parameter groups keep their ratios to it.
        schedule: Progress to a multiplier of the peak rate; any function of one number will do.
            Or one that reacts to the loss, such as `schedules.ReduceOnPlateau()`.
        seed: Decides the order of the data, the random layers, and the initial weights where the
            task has a model factory.

    Raises:
        ArgumentError: The rate is not a finite number > 0, or the seed is negative.

    >>> Run("a", 0.1, lambda progress: 1 - progress).schedule(0.25)
    0.75
    """

    name: str
    lr: float
    schedule: Schedule | Feedback[Any]
    seed: int

    def __init__(self, name: str, lr: float, schedule: Shape = constant(), seed: int = 0) -> None:
        """Check the rate and the seed, and make a schedule of any function of progress."""
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "lr", positive_rate("lr", lr))
        object.__setattr__(self, "schedule", as_shape(schedule))
        object.__setattr__(self, "seed", whole_number("seed", seed, least=0))


def as_shape(shape: Shape) -> Schedule | Feedback[Any]:
    """A schedule of any function of progress; what has the methods of `Feedback` stays as it is."""
    if isinstance(shape, Schedule):
        return shape
    if callable(getattr(shape, "next", None)) and callable(getattr(shape, "start", None)):
        return cast("Feedback[Any]", shape)
    return as_schedule(cast("Curve", shape))


def grid(rates: Iterable[float], seeds: Sequence[int], schedule: Shape = constant()) -> list[Run]:
    """Runs of every rate with every seed, each with a unique name.

    >>> [run.name for run in grid([0.1, 0.01], seeds=[0, 1])]
    ['0.1/0', '0.1/1', '0.01/0', '0.01/1']
    """
    return [Run(f"{rate:.6g}/{seed}", rate, schedule, seed) for rate in rates for seed in seeds]


def seed_list(seeds: int, first: int) -> list[int]:
    """Consecutive seeds, as many as asked for, from the first one on.

    >>> seed_list(3, 7)
    [7, 8, 9]
    """
    whole_number("seed", first, least=0)
    return list(range(first, first + whole_number("seeds", seeds, least=1)))


def checked_runs(runs: Sequence[Run]) -> list[Run]:
    """The runs as a list, after a check: at least one, with unique names."""
    runs = list(runs)
    if not runs:
        raise ArgumentError("a cohort needs at least one run, got none. Pass [Run('a', 0.1)].")
    ((name, count),) = Counter(run.name for run in runs).most_common(1)
    if count > 1:
        raise ArgumentError(
            f"the runs of a cohort need unique names; {name!r} is there {count} times. Rename one."
        )
    return runs


class Validation(NamedTuple):
    """The loss of a run on one part of the validation data."""

    part: str  # selection or test
    loss: float  # mean per example
    stderr: float  # its standard error; NaN with fewer than two batches
    samples: int  # that were measured


@dataclass(frozen=True)
class Cost:
    """The cost of a call to an evaluator."""

    updates: int  # made by the optimizer, discarded ones included
    val_samples: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Trace(Serializable):
    """What was recorded while some runs trained: their losses, outcomes, validations and costs.

    Attributes:
        steps: The horizon.
        frame: One row per run and recorded step: `run`, `step`, `lr`, `loss`, `batch`.
        runs: One row per run: `run`, `lr` (peak), `schedule`, `seed`, `outcome`, `steps`,
            `checkpoint` (its name where one was asked for, else empty).
        validations: One row per run, step and part of the validation data (selection, test):
            `run`, `step`, `part`, `loss` (mean per example), `stderr`, `samples`.
        costs: One row per run: `run`, `updates`, `val_samples`, `seconds`, as this call made them;
            empty where what trained the runs does not count them.
        floor: The number below which the losses cannot fall; None where it is unknown.
    """

    kind: ClassVar[str] = "trace"

    steps: int
    frame: pd.DataFrame = table_field(TRACE)
    runs: pd.DataFrame = table_field(RUNS)
    validations: pd.DataFrame = table_field(VALIDATIONS)
    costs: pd.DataFrame = table_field(COSTS, optional=True)
    floor: float | None = None

    @classmethod
    def of(
        cls,
        runs: Sequence[Run],
        steps: int,
        losses: Mapping[str, Sequence[float]],
        validation: Mapping[str, float] = MappingProxyType({}),
        *,
        floor: float | None = None,
    ) -> Self:
        """A trace of runs that a training loop of your own has trained; see `search(evaluate=)`.

        Args:
            runs: The runs, as they were asked for.
            steps: Their horizon, as it was asked for.
            losses: Training losses by the name of the run, one per update from the first on. A run
                that failed ends with NaN or infinity, and may be shorter than the others.
            validation: Validation losses by the name of the run, where they were measured.
            floor: The number below which the losses cannot fall; None where it is unknown.

        Raises:
            ArgumentError: A run is missing, or has no losses, more than `steps`, or fewer than
                another one without having failed; or a loss lies below `floor`.

        >>> runs = [Run("low", 0.1), Run("high", 9.0)]
        >>> trace = Trace.of(runs, 3, {"low": [2.0, 1.0, 0.5], "high": [2.0, math.inf]})
        >>> trace.runs[["run", "outcome", "steps"]].to_numpy().tolist()
        [['low', 'FINISHED', 3], ['high', 'NONFINITE', 2]]
        """
        runs = checked_runs(runs)
        whole_number("steps", steps, least=1)
        curves = {run.name: _curve(run.name, losses, steps) for run in runs}
        ends = {name: _ending(curve, steps) for name, curve in curves.items()}
        until = max(len(curve) for curve in curves.values())
        for name, (length, outcome) in ends.items():
            if outcome is Outcome.PAUSED and length < until:
                raise ArgumentError(
                    f"losses[{name!r}] has {length} numbers, that of another run {until}. Train "
                    "all runs to one step; a run that failed ends with a loss of NaN or infinity."
                )
        lowest = min(curves, key=lambda name: np.nanmin([*curves[name], math.inf]))
        if floor is not None and (loss := np.nanmin([*curves[lowest], math.inf])) < floor:
            raise ArgumentError(
                f"floor={floor:g}, but losses[{lowest!r}] falls to {loss:.6g}; expected a number "
                "below which the losses cannot fall. Give a lower one, or leave it out."
            )
        ended = [(run, *ends[run.name]) for run in runs]
        rows = [_rows(run, curves[run.name][:length], steps) for run, length, _ in ended]
        about = [(r.name, r.lr, repr(r.schedule), r.seed, end.name, n) for r, n, end in ended]
        measured = [
            (name, length, SELECTION, float(validation[name]), math.nan, 0)
            for name, (length, _) in ends.items()
            if name in validation
        ]
        return cls(
            steps=steps,
            frame=pd.concat(rows, ignore_index=True),
            runs=as_table(about, RUNS),
            validations=as_table(measured, VALIDATIONS),
            floor=floor,
        )

    @property
    def cost(self) -> Cost:
        """The cost of all runs."""
        updates, val_samples = self.costs[["updates", "val_samples"]].sum()
        return Cost(int(updates), int(val_samples), float(self.costs["seconds"].sum()))

    def select(self, names: Sequence[str]) -> "Trace":
        """The rows of these runs, in this order."""
        if list(self.runs["run"]) == list(names):
            return self
        order = {name: index for index, name in enumerate(names)}
        tables = {
            name: table[table["run"].isin(names)].sort_values(
                "run", key=lambda run: run.map(order), kind="stable", ignore_index=True
            )
            for name, table in _tables(self).items()
        }
        return replace(self, **tables)

    def figure(self) -> "Figure":
        """Losses over steps, one line per run."""
        return figures.trace_figure(self.frame, self.floor)


def concat_traces(traces: Sequence[Trace]) -> Trace:
    """Concatenate traces of different runs over one horizon."""
    tables = {
        name: pd.concat([getattr(trace, name) for trace in traces], ignore_index=True)
        for name in _tables(traces[0])
    }
    return replace(traces[0], **tables)


def validation_losses(validations: pd.DataFrame, by: Sequence[str] = ("run",)) -> pd.Series:
    """The mean validation loss over both parts, weighted by samples.

    Args:
        validations: The table of a trace.
        by: What has a loss of its own: each run; or each run and step.

    >>> from lrtune.results.schema import as_table
    >>> rows = [("a", 9, "selection", 1.0, 0.1, 30), ("a", 9, "test", 3.0, 0.1, 10)]
    >>> validation_losses(as_table(rows, VALIDATIONS)).to_dict()
    {'a': 1.5}
    """
    # A user's own evaluator may count no samples. A plain sum would leave NaN losses out.
    weighted = validations.assign(samples=validations["samples"].clip(lower=1))
    losses = {
        key[0] if len(by) == 1 else key: np.average(rows["loss"], weights=rows["samples"])
        for key, rows in weighted.groupby(list(by), sort=False)
    }
    return pd.Series(losses, dtype="float64")


def _tables(trace: Trace) -> dict[str, pd.DataFrame]:
    return {name: getattr(trace, name) for name in ("frame", "runs", "validations", "costs")}


def _curve(name: str, losses: Mapping[str, Sequence[float]], steps: int) -> Floats:
    """The losses of one run, after a check."""
    if name not in losses:
        there = ", ".join(map(repr, losses)) or "none"
        raise ArgumentError(
            f"losses has no run {name!r}; it has {there}. Expected a sequence of training losses "
            "for the name of every run: {'a': [2.3, 1.9, ...], ...}."
        )
    try:
        curve = np.asarray(losses[name], float)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"losses[{name!r}] holds something other than numbers ({error}). Expected one float "
            "per update; `loss.item()` of torch gives one."
        ) from error
    if curve.ndim != 1 or not 1 <= len(curve) <= steps:
        raise ArgumentError(
            f"losses[{name!r}] has the shape {curve.shape}. Expected one loss per update, so from "
            f"(1,) to ({steps},)."
        )
    return curve


def _ending(curve: Floats, steps: int) -> tuple[int, Outcome]:
    """How many losses of a curve count, and how the run ended."""
    diverged = diverged_at(curve)
    if diverged is not None:
        return diverged + 1, Outcome.DIVERGED
    finite = np.isfinite(curve)
    if not finite.all():
        return int(np.argmin(finite)) + 1, Outcome.NONFINITE
    return len(curve), Outcome.FINISHED if len(curve) == steps else Outcome.PAUSED


def _rows(run: Run, curve: Floats, steps: int) -> pd.DataFrame:
    """The rows of one run: columns `TRACE`."""
    if isinstance(run.schedule, Schedule):
        rates = multipliers(run.schedule, steps)[: len(curve)]
    else:  # where it reacts to the validation loss, only whoever trained the run knows the rates
        known = not validation_interval(run.schedule, steps)
        rates = replay(run.schedule, curve) if known else [math.nan] * len(curve)
    columns = {"run": run.name, "step": range(len(curve)), "lr": np.array(rates) * run.lr}
    return as_table(pd.DataFrame({**columns, "loss": curve, "batch": 0}), TRACE)
