"""range_test(): sweep the rate once through every decade, and read where it becomes too high."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome
from lrtune.analysis.sweep_rules import RULES
from lrtune.diagnosis.check import look
from lrtune.diagnosis.registry import OF_VALIDATION
from lrtune.errors import ArgumentError, positive_rate, warn_about, whole_number
from lrtune.results import RangeTestResult
from lrtune.results.runs import Run, seed_list
from lrtune.results.schema import ANSWERS, STOPS, SWEEP, as_table
from lrtune.results.serialization import manifest
from lrtune.schedules import Schedule, growth
from lrtune.task.task import Task
from lrtune.training import UNTRAINED, Evaluate, Progress, as_evaluate, said_of
from lrtune.tuning.answer_warnings import drift_warnings
from lrtune.tuning.sweep_warnings import endless_warnings, sweep_warnings
from lrtune.tuning.swept import Swept, suggestion_of
from lrtune.tuning.vary import NOTHING, VariedSweeps, Vary

STOPPED = {
    Outcome.FINISHED: "reached the last rate, lr =",
    Outcome.DIVERGED: "diverged at lr =",
    Outcome.NONFINITE: "the loss was not finite at lr =",
}


def range_test(
    task: Task,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 200,
    seeds: int = 3,
    seed: int = 0,
    vary: Vary | None = None,
    progress: Progress | None = None,
    max_runs: int | None = None,
    evaluate: Evaluate | None = None,
) -> RangeTestResult:
    """Raise the rate exponentially from `low` towards `high`, and see when the loss stops falling.

    Each seed trains one sweep, beside a control run that never learns: the control's loss tells how
    hard each batch is, and is subtracted as noise. Each loss is paired with the rate of the update
    before it. Each parameter group has the rate that the optimizer's factory gives it at that
    rate: ratios stay, and so does a rate that does not follow `lr`. The answer is a place to begin;
    `search` trains with the rates.

    Args:
        task: What is trained; it stays as it is.
        low: First rate, > 0.
        high: The rate that the sweep approaches, > low.
        steps: Updates of each sweep, >= 2; use at least ten per decade.
        seeds: How many sweeps.
        seed: The first seed; the others follow it.
        vary: Settings to the values that are swept as well, on the same batches:
            `{"weight_decay": [0, 1e-4, 1e-3], "momentum": [0.8, 0.9], "batch_size": [64, 256]}`.
            Each is varied alone, and stands against the task's own value. `momentum` is SGD's, or
            Adam's beta1. Batch sizes are multiples of the task's own, made by accumulation, so a
            sweep with k times the batch makes one update for k steps.
        progress: Called with the stage, the updates done and the total.
        max_runs: The most runs to train at once; when None what memory allows. Where that runs out,
            it is halved.
        evaluate: The function that trains runs; an `Evaluator` of the task when None.

    Returns:
        A `RangeTestResult`: `suggestion`, `warnings`, `frame`, `answers`, `stops`, `notes`; with
        `vary` also `varied`, a row for each value. The suggestion, that of the task's own
        settings, is None where no rate is shown to train, as for a model that is trained already.

    What counts against the suggestion is in `warnings`, and an `AnswerWarning` says it.

    Raises:
        ArgumentError: A number is out of its range, or the optimizer lacks a setting to vary;
            nothing has trained.

    >>> from lrtune.testing import bowl
    >>> sweep = range_test(bowl(curvature=4.0))  # diverges above 0.5
    >>> print(f"{sweep.suggestion.lr:.1g}", sweep.stops["outcome"].unique().tolist())
    0.07 ['DIVERGED']

    Source: Smith 2017, arXiv:1506.01186, section 3.3; with `vary` Smith 2018, arXiv:1803.09820,
    section 4.
    """
    low, high = positive_rate("low", low), positive_rate("high", high)
    if low >= high:
        raise ArgumentError(f"low={low:g} must lie below high={high:g}. Swap them.")
    whole_number("steps", steps, least=2)
    chosen, start = seed_list(seeds, seed), low / high
    growing = Schedule(f"sweep(start={start!r})", growth(start), sweeps=True)
    sweeps = {s: Run(f"sweep/{s}", high, growing, s) for s in chosen}
    controls = {s: Run(f"untrained/{s}", high, UNTRAINED, s) for s in chosen}
    trained = as_evaluate(task, evaluate, max_runs=max_runs, progress=progress)
    others = None
    if vary is not None:
        others = VariedSweeps(task, vary, list(sweeps.values()), trained, steps=steps)
    runs, odd = [*sweeps.values(), *controls.values()], look(task, without=OF_VALIDATION).warnings
    # The loss after the last update takes one step more.
    trace = trained(runs, steps + 1, stage="range test", validate=0)
    curves = dict(iter(trace.frame.groupby("run", sort=False)["loss"]))
    twins = {s: curves[run.name].to_numpy() for s, run in controls.items()}
    swept = {s: Swept.of(trace, sweeps[s].name, twins[s], task) for s in chosen}
    answers = as_table(_answers(swept), ANSWERS)
    suggestion, stops = suggestion_of(swept), as_table([(s, *swept[s].stop) for s in chosen], STOPS)
    falls, density = {s: one.falls for s, one in swept.items()}, steps / np.log10(high / low)
    fall = max((one.curve.drop for one in swept.values() if one.curve), default=np.nan)
    frame, swept_names = trace.frame, [one.name for one in sweeps.values()]
    losses = frame.loc[frame["run"].isin(swept_names), "loss"]
    against = [
        *odd,
        *sweep_warnings(suggestion, answers, stops, falls=falls, low=low, density=density),
        *endless_warnings(task.loss_kind.floor, losses),
        *drift_warnings(task.drift, steps, fall),
        *said_of(trained),
    ]
    varied = NOTHING if others is None else others.read(swept, twins, steps, density)
    found = RangeTestResult(
        suggestion=suggestion,
        warnings=tuple(dict.fromkeys([*against, *varied.warnings])),
        notes=(*_notes(stops, falls), *varied.notes),
        manifest=manifest(task.describe(), low=low, high=high, steps=steps, seeds=seeds, seed=seed),
        frame=as_table(pd.concat([one.frame.assign(seed=s) for s, one in swept.items()]), SWEEP),
        stops=stops,
        answers=answers,
        floor=task.loss_kind.floor,
        varied=varied.table,
        varied_sweeps=varied.sweeps,
    )
    warn_about(found.warnings)
    return found


def _answers(swept: Mapping[int, Swept]) -> list[tuple[str, int, float, str]]:
    """What each rule says of each sweep: columns `ANSWERS`."""
    said = [(seed, one.answer(rule)) for seed, one in swept.items() for rule in RULES]
    return [(one.rule, seed, one.lr, one.because) for seed, one in said]


def _notes(stops: pd.DataFrame, falls: Mapping[int, bool]) -> Iterator[str]:
    """Where each sweep stopped, and whether it saw the loss fall."""
    for stop in stops.itertuples():
        yield f"seed {stop.seed}: {STOPPED[Outcome[stop.outcome]]} {stop.lr:.2g}"
        if not falls[stop.seed]:
            yield f"seed {stop.seed}: the loss never fell clear of its noise"
