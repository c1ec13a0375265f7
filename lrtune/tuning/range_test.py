"""range_test(): sweep the rate once through every decade, and read where it becomes too high."""

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome
from lrtune.analysis.sweep_rules import RULES, Suggestion, ensemble, read_sweep, suggest
from lrtune.errors import ArgumentError, positive_number, whole_number
from lrtune.results import RangeTestResult, Trace
from lrtune.results.manifest import manifest
from lrtune.results.runs import Run, seed_list
from lrtune.results.schema import ANSWERS, STOPS, SWEEP, as_table
from lrtune.schedules import Schedule, growth
from lrtune.task.task import Task
from lrtune.training import Evaluate, Evaluator, Progress

STOPPED = {
    Outcome.FINISHED: "reached the last rate, lr =",
    Outcome.DIVERGED: "diverged at lr =",
    Outcome.NONFINITE: "the loss was not finite at lr =",
}
LEAST_DENSITY = 10
"""Steps per decade; with fewer a sweep notices too late that a rate is too high."""

UNTRAINED = Schedule("untrained()", lambda _progress: 0.0)


def range_test(
    task: Task,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 200,
    seeds: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
    evaluate: Evaluate | None = None,
) -> RangeTestResult:
    """Raise the rate exponentially from `low` towards `high`, and see when the loss stops falling.

    Each seed trains one sweep, beside a control run that never learns: the control's loss tells how
    hard each batch is, and is subtracted as noise. Each loss is paired with the rate of the update
    before it. The sweep scales all rates, so parameter groups keep their ratios. The answer is a
    place to begin; `search` trains with the rates.

    Args:
        task: What is trained; it stays as it is.
        low: First rate, > 0.
        high: The rate that the sweep approaches, > low.
        steps: Updates of each sweep, >= 2; use at least ten per decade.
        seeds: How many sweeps.
        seed: The first seed; the others follow it.
        progress: Called with the stage, the updates done and the total.
        evaluate: The function that trains runs; an `Evaluator` of the task when None.

    Returns:
        A `RangeTestResult`: `suggestion`, `frame`, `answers`, `stops`, `notes`.

    Raises:
        ArgumentError: A number is out of its range; nothing has trained.

    >>> from lrtune.testing import bowl
    >>> sweep = range_test(bowl(curvature=4.0))  # diverges above 0.5
    >>> print(f"{sweep.suggestion.lr:.1g}", sweep.stops["outcome"].unique().tolist())
    0.07 ['DIVERGED']

    Source: Smith 2017, arXiv:1506.01186, section 3.3.
    """
    low, high = positive_number("low", low), positive_number("high", high)
    if low >= high:
        raise ArgumentError(f"low={low:g} must lie below high={high:g}. Swap them.")
    whole_number("steps", steps, least=2)
    chosen, growing = seed_list(seeds, seed), growth(low / high)
    sweeps = {s: Run(f"sweep/{s}", high, growing, s) for s in chosen}
    controls = {s: Run(f"untrained/{s}", high, UNTRAINED, s) for s in chosen}
    evaluate = evaluate or Evaluator(task, progress=progress)
    runs = [*sweeps.values(), *controls.values()]
    trace = evaluate(runs, steps + 1, stage="range test", validate=False)
    frame = pd.concat(
        [_pair_losses(trace, s, sweeps[s].name, controls[s].name) for s in chosen],
        ignore_index=True,
    )
    answers = _answers(frame)
    stops = _stops(trace, frame, sweeps)
    suggestion = ensemble(
        {
            str(rule): [
                Suggestion(r.lr, str(rule), r.because, (r.lr, r.lr)) for r in each.itertuples()
            ]
            for rule, each in answers.groupby("rule", sort=False)
        }
    )
    return RangeTestResult(
        suggestion=suggestion,
        notes=_notes(suggestion, stops, steps / np.log10(high / low)),
        manifest=manifest(task.describe(), low=low, high=high, steps=steps, seeds=seeds, seed=seed),
        frame=as_table(frame, SWEEP),
        stops=stops,
        answers=answers,
    )


def _pair_losses(trace: Trace, seed: int, sweep: str, control: str) -> pd.DataFrame:
    """Pair each rate with the loss right after its update, and with the control's loss."""
    by_run = trace.frame.groupby("run", sort=False)
    swept = by_run.get_group(sweep)
    untrained = by_run.get_group(control)["loss"].to_numpy()
    rates, losses = swept["lr"].to_numpy()[:-1], swept["loss"].to_numpy()[1:]
    if not len(losses):  # not even the untrained model has a finite loss on this seed's batch
        rates, losses = swept["lr"].to_numpy()[:1], np.array([np.nan])
    batch_losses = np.full(len(losses), np.nan)
    known = untrained[1 : len(losses) + 1]
    batch_losses[: len(known)] = known
    readable = read_sweep(rates, losses, batch_losses)
    smooth = np.full(len(losses), np.nan)
    if readable is not None:
        smooth[: len(readable.curve)] = readable.curve
    return pd.DataFrame(
        {"seed": seed, "lr": rates, "loss": losses, "untrained": batch_losses, "smooth": smooth}
    )


def _answers(frame: pd.DataFrame) -> pd.DataFrame:
    rows = [
        (answer.rule, seed, answer.lr, answer.because)
        for seed, sweep in frame.groupby("seed")
        for rule in RULES
        for answer in [suggest(rule, sweep["lr"], sweep["loss"], sweep["untrained"])]
    ]
    return as_table(pd.DataFrame(rows, columns=list(ANSWERS)), ANSWERS)


def _stops(trace: Trace, frame: pd.DataFrame, sweeps: dict[int, Run]) -> pd.DataFrame:
    """Where the sweep of each seed ended, and how."""
    outcomes = trace.runs.set_index("run")["outcome"]
    rows = []
    for seed, swept in frame.groupby("seed"):
        sweep = read_sweep(swept["lr"], swept["loss"], swept["untrained"])
        edge = np.nan if sweep is None else sweep.lr[sweep.edge]
        rows.append((seed, outcomes[sweeps[seed].name], swept["lr"].iloc[-1], edge))
    return as_table(pd.DataFrame(rows, columns=list(STOPS)), STOPS)


def _notes(suggestion: Suggestion, stops: pd.DataFrame, density: float) -> tuple[str, ...]:
    notes = [f"seed {s.seed}: {STOPPED[Outcome[s.outcome]]} {s.lr:.2g}" for s in stops.itertuples()]
    if not suggestion.agree:
        notes.append("the rules disagree: look at the curve")
    finished = stops["outcome"] == Outcome.FINISHED.name
    falling = int((finished & (stops["edge"] >= 0.9 * stops["lr"])).sum())
    if falling:
        notes.append(
            f"the loss was lowest at the last rate in {falling} of {len(stops)} sweeps: raise "
            "`high`"
        )
    if density < LEAST_DENSITY:
        notes.append(
            f"the sweep has {density:.1f} steps per decade, and needs {LEAST_DENSITY} to notice in "
            "time that a rate is too high: raise `steps`"
        )
    return tuple(notes)
