"""range_test(): sweep the rate once through every decade, and read where it becomes too high."""

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome
from lrtune.analysis.sweep_rules import RULES, Suggestion, ensemble, read, suggest
from lrtune.errors import ArgumentError
from lrtune.results import RangeTestResult, Trace
from lrtune.results.manifest import manifest
from lrtune.results.runs import Run, positive, seed_list, whole
from lrtune.results.schema import ANSWERS, STOPS, SWEEP
from lrtune.results.serialization import table
from lrtune.schedules import Schedule, growth
from lrtune.task.task import Task
from lrtune.training import Evaluate, Evaluator, Progress

REASONS = {
    Outcome.FINISHED: "reached the end",
    Outcome.DIVERGED: "diverged",
    Outcome.NONFINITE: "non-finite",
}
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

    What is swept is the multiplier of the rates, so parameter groups keep their ratios. Each seed
    sweeps a model of its own, beside a twin that never learns and sees the same batches: the
    twin's loss tells which batches were hard, and takes that noise out. Each loss is paired with
    the rate that produced it, that of the update before it. Read the answer as a place to begin:
    `search` judges rates by training with them.

    Args:
        task: What is trained; it stays as it is.
        low: First rate, > 0.
        high: The rate that the sweep approaches, > low.
        steps: Updates of each sweep, >= 2. Below ten per decade a sweep sees too late that a rate
            is too high.
        seeds: How many sweeps.
        seed: The first seed; the others follow it.
        progress: Told the stage, the updates done and the total.
        evaluate: What trains runs and returns their trace; an `Evaluator` of the task when None.

    Returns:
        A `RangeTestResult`: `suggestion`, `frame`, `answers`, `stops`, `notes`.

    Raises:
        ArgumentError: A number is out of its range; nothing has trained.

    >>> from lrtune.testing import bowl
    >>> sweep = range_test(bowl(curvature=4.0))  # diverges above 0.5
    >>> print(f"{sweep.suggestion.lr:.1g}", sweep.stops["reason"].unique().tolist())
    0.07 ['diverged']

    Source: Smith 2017, arXiv:1506.01186, section 3.3.
    """
    low, high = positive("low", low), positive("high", high)
    if low >= high:
        raise ArgumentError(f"low={low:g} must lie below high={high:g}. Swap them.")
    whole("steps", steps, least=2)
    chosen = seed_list(seeds, seed)
    sweep = growth(low / high)
    runs = [Run(f"sweep/{s}", high, sweep, s) for s in chosen]
    twins = [Run(f"untrained/{s}", high, UNTRAINED, s) for s in chosen]
    evaluate = evaluate or Evaluator(task, progress=progress)
    trace = evaluate([*runs, *twins], steps + 1, stage="range test", validate=False)
    frame = pd.concat([_paired(trace, s) for s in chosen], ignore_index=True)
    answers, stops = _answers(frame), _stops(trace, frame)
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
        frame=table(frame, SWEEP),
        stops=stops,
        answers=answers,
    )


def _paired(trace: Trace, seed: int) -> pd.DataFrame:
    """Each rate with the loss right after its update; and the twin's loss on the same batch."""
    by_run = trace.frame.groupby("run", sort=False)
    swept = by_run.get_group(f"sweep/{seed}")
    untrained = by_run.get_group(f"untrained/{seed}")["loss"].to_numpy()
    rates, losses = swept["lr"].to_numpy()[:-1], swept["loss"].to_numpy()[1:]
    if not len(losses):  # not even the untrained model has a finite loss on this seed's batch
        rates, losses = swept["lr"].to_numpy()[:1], np.array([np.nan])
    control = np.full(len(losses), np.nan)
    seen = untrained[1 : len(losses) + 1]
    control[: len(seen)] = seen
    sweep = read(rates, losses, control)
    smooth = np.full(len(losses), np.nan)
    if sweep is not None:
        smooth[: len(sweep.curve)] = sweep.curve
    return pd.DataFrame(
        {"seed": seed, "lr": rates, "loss": losses, "untrained": control, "smooth": smooth}
    )


def _answers(frame: pd.DataFrame) -> pd.DataFrame:
    rows = [
        (one.rule, seed, one.lr, one.because)
        for seed, sweep in frame.groupby("seed")
        for one in (suggest(rule, sweep["lr"], sweep["loss"], sweep["untrained"]) for rule in RULES)
    ]
    return table(pd.DataFrame(rows, columns=list(ANSWERS)), ANSWERS)


def _stops(trace: Trace, frame: pd.DataFrame) -> pd.DataFrame:
    outcomes = trace.runs.set_index("run")["outcome"]
    rows = []
    for seed, swept in frame.groupby("seed"):
        sweep = read(swept["lr"], swept["loss"], swept["untrained"])
        edge = np.nan if sweep is None else sweep.lr[sweep.edge]
        reason = REASONS[Outcome[outcomes[f"sweep/{seed}"]]]
        rows.append((seed, reason, swept["lr"].iloc[-1], edge))
    return table(pd.DataFrame(rows, columns=list(STOPS)), STOPS)


def _notes(suggestion: Suggestion, stops: pd.DataFrame, density: float) -> tuple[str, ...]:
    notes = [f"seed {s.seed}: the sweep {_stopped(s.reason, s.lr)}" for s in stops.itertuples()]
    if "disagree" in suggestion.because:
        notes.append(suggestion.because)
    ends = stops[(stops["reason"] == "reached the end") & (stops["edge"] >= 0.9 * stops["lr"])]
    if len(ends):
        notes.append(
            f"in {len(ends)} of {len(stops)} sweeps the loss was still at its lowest at the last "
            "rate: raise `high`"
        )
    if density < 10:
        notes.append(
            f"the sweep has {density:.1f} steps per decade; below 10 it sees too late that a rate "
            "is too high: raise `steps`"
        )
    return tuple(notes)


def _stopped(reason: str, lr: float) -> str:
    return {
        "reached the end": f"reached the end at {lr:.2g}",
        "diverged": f"diverged by {lr:.2g}",
        "non-finite": f"met a loss that is not finite at {lr:.2g}",
    }[reason]
