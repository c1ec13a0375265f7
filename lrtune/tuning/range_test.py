"""range_test(): sweep the rate once through every decade, and read where it becomes too high."""

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome
from lrtune.analysis.sweep_rules import RULES, Suggestion, ensemble, read_sweep, suggest
from lrtune.errors import ArgumentError, positive_rate, whole_number
from lrtune.results import RangeTestResult, Trace
from lrtune.results.runs import Run, seed_list
from lrtune.results.schema import ANSWERS, STOPS, SWEEP, as_table
from lrtune.results.serialization import manifest
from lrtune.schedules import Schedule, growth
from lrtune.task.task import Task
from lrtune.training import Evaluate, Progress, as_evaluate

STOPPED = {
    Outcome.FINISHED: "reached the last rate, lr =",
    Outcome.DIVERGED: "diverged at lr =",
    Outcome.NONFINITE: "the loss was not finite at lr =",
}
LEAST_DENSITY = 10  # steps per decade; with fewer a sweep notices too late that a rate is too high
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
        progress: Called with the stage, the updates done and the total.
        max_runs: The most runs to train at once; when None what memory allows. Where that runs out,
            it is halved.
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
    low, high = positive_rate("low", low), positive_rate("high", high)
    if low >= high:
        raise ArgumentError(f"low={low:g} must lie below high={high:g}. Swap them.")
    whole_number("steps", steps, least=2)
    chosen, start = seed_list(seeds, seed), low / high
    growing = Schedule(f"sweep(start={start!r})", growth(start), sweeps=True)
    sweeps = {s: Run(f"sweep/{s}", high, growing, s) for s in chosen}
    controls = {s: Run(f"untrained/{s}", high, UNTRAINED, s) for s in chosen}
    trained = as_evaluate(task, evaluate, max_runs=max_runs, progress=progress)
    runs = [*sweeps.values(), *controls.values()]
    # The loss after the last update takes one step more.
    trace = trained(runs, steps + 1, stage="range test", validate=0)
    step = task.loss_kind.resolution
    swept = {s: _pair_losses(trace, sweeps[s].name, controls[s].name, step) for s in chosen}
    said = {
        (s, rule): suggest(rule, frame["lr"], frame["loss"], frame["untrained"], step)
        for s, frame in swept.items()
        for rule in RULES
    }
    suggestion = ensemble({rule: [said[s, rule] for s in chosen] for rule in RULES})
    answers = [(rule, s, one.lr, one.because) for (s, rule), one in said.items()]
    stops = _stops(trace, swept, sweeps, step)
    return RangeTestResult(
        suggestion=suggestion,
        notes=_notes(suggestion, stops, steps / np.log10(high / low)),
        manifest=manifest(task.describe(), low=low, high=high, steps=steps, seeds=seeds, seed=seed),
        frame=as_table(pd.concat([f.assign(seed=s) for s, f in swept.items()]), SWEEP),
        stops=stops,
        answers=as_table(answers, ANSWERS),
        floor=task.loss_kind.floor,
    )


def _pair_losses(trace: Trace, sweep: str, control: str, step: float) -> pd.DataFrame:
    """Pair each rate with the loss right after its update, and with the control's loss.

    `step` is the smallest step between two losses.
    """
    by_run = trace.frame.groupby("run", sort=False)
    swept = by_run.get_group(sweep)
    rates, losses = swept["lr"].to_numpy()[:-1], swept["loss"].to_numpy()[1:]
    if not len(losses):  # not even the untrained model has a finite loss on this seed's batch
        rates, losses = swept["lr"].to_numpy()[:1], np.array([np.nan])
    known = by_run.get_group(control)["loss"].to_numpy()[1 : len(losses) + 1]
    untrained, smooth = np.full((2, len(losses)), np.nan)
    untrained[: len(known)] = known
    if readable := read_sweep(rates, losses, untrained, step):
        smooth[: len(readable.curve)] = readable.curve
    return pd.DataFrame({"lr": rates, "loss": losses, "untrained": untrained, "smooth": smooth})


def _stops(
    trace: Trace, swept: dict[int, pd.DataFrame], sweeps: dict[int, Run], step: float
) -> pd.DataFrame:
    """Where the sweep of each seed ended, and how: columns `STOPS`."""
    outcomes = trace.runs.set_index("run")["outcome"]
    rows = []
    for seed, frame in swept.items():
        sweep = read_sweep(frame["lr"], frame["loss"], frame["untrained"], step)
        edge = sweep.lr[sweep.edge] if sweep else np.nan
        rows.append((seed, outcomes[sweeps[seed].name], frame["lr"].iloc[-1], edge))
    return as_table(rows, STOPS)


def _notes(suggestion: Suggestion, stops: pd.DataFrame, density: float) -> tuple[str, ...]:
    """Where each sweep stopped, and what to change; `density` is in steps per decade."""
    notes = [f"seed {s.seed}: {STOPPED[Outcome[s.outcome]]} {s.lr:.2g}" for s in stops.itertuples()]
    if not suggestion.agree:
        notes.append("the rules disagree: look at the curve")
    finished = stops["outcome"] == Outcome.FINISHED.name
    # A sweep that ends near its edge has not shown which rate is too high.
    if falling := int((finished & (stops["edge"] >= 0.9 * stops["lr"])).sum()):
        sweeps = f"{falling} of {len(stops)} sweeps"
        notes.append(f"the loss was lowest at the last rate in {sweeps}: raise `high`")
    if density < LEAST_DENSITY:
        notes.append(
            f"the sweep has {density:.1f} steps per decade, and needs {LEAST_DENSITY} to notice in "
            "time that a rate is too high: raise `steps`"
        )
    return tuple(notes)
