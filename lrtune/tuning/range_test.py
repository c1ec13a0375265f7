"""range_test(): sweep the rate once through every decade, and read where it becomes too high."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome, drifts
from lrtune.analysis.sweep_rules import RULES, Suggestion, Sweep, answer, ensemble, read_sweep
from lrtune.diagnosis.check import look
from lrtune.diagnosis.registry import OF_VALIDATION
from lrtune.errors import ArgumentError, positive_rate, warn_about, whole_number
from lrtune.results import RangeTestResult, Trace
from lrtune.results.runs import Run, seed_list
from lrtune.results.schema import ANSWERS, STOPS, SWEEP, as_table
from lrtune.results.serialization import manifest
from lrtune.schedules import Schedule, growth
from lrtune.task.task import Task
from lrtune.training import UNTRAINED, Evaluate, Progress, as_evaluate, said_of
from lrtune.tuning.answer_warnings import drift_warnings
from lrtune.tuning.sweep_warnings import endless_warnings, sweep_warnings

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
        A `RangeTestResult`: `suggestion`, `warnings`, `frame`, `answers`, `stops`, `notes`. The
        suggestion is None where no rate is shown to train, as for a model that is trained already.

    What counts against the suggestion is in `warnings`, and an `AnswerWarning` says it.

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
    runs, odd = [*sweeps.values(), *controls.values()], look(task, without=OF_VALIDATION).warnings
    # The loss after the last update takes one step more.
    trace = trained(runs, steps + 1, stage="range test", validate=0)
    swept = {s: _Swept.of(trace, sweeps[s].name, controls[s].name, task) for s in chosen}
    said = [(s, one.answer(rule)) for s, one in swept.items() for rule in RULES]
    answers = as_table([(one.rule, s, one.lr, one.because) for s, one in said], ANSWERS)
    suggestion, stops = _suggestion(swept), as_table([(s, *swept[s].stop) for s in chosen], STOPS)
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
    found = RangeTestResult(
        suggestion=suggestion,
        warnings=tuple(dict.fromkeys(against)),
        notes=tuple(_notes(stops, falls)),
        manifest=manifest(task.describe(), low=low, high=high, steps=steps, seeds=seeds, seed=seed),
        frame=as_table(pd.concat([one.frame.assign(seed=s) for s, one in swept.items()]), SWEEP),
        stops=stops,
        answers=answers,
        floor=task.loss_kind.floor,
    )
    warn_about(found.warnings)
    return found


@dataclass(frozen=True, eq=False)
class _Swept:
    """The sweep of one seed: its losses, what can be read of them, and how it ended."""

    frame: pd.DataFrame  # lr, loss, untrained, smooth
    curve: Sweep | None
    outcome: str

    @classmethod
    def of(cls, trace: Trace, sweep: str, control: str, task: Task) -> "_Swept":
        """Pair each rate with the loss right after its update, and with the control's loss.

        Both are taken without what changes by itself.
        """
        by_run, step = trace.frame.groupby("run", sort=False), task.loss_kind.resolution
        swept, twin = by_run.get_group(sweep), by_run.get_group(control)["loss"].to_numpy()
        rates, losses = swept["lr"].to_numpy()[:-1], swept["loss"].to_numpy()
        known = twin
        # What begins later than a task has tried shows in the control.
        drift = task.drift_within(len(twin)) if drifts(twin, step) else task.drift
        if drift is not None:
            losses, known = (drift.without(one, twin=twin) for one in (losses, twin))
        losses = losses[1:]
        known = known[1 : len(losses) + 1]
        if not len(losses):  # not even the untrained model has a finite loss on this seed's batch
            rates, losses = swept["lr"].to_numpy()[:1], np.array([np.nan])
        untrained, smooth = np.full((2, len(losses)), np.nan)
        untrained[: len(known)] = known
        if curve := read_sweep(rates, losses, untrained, step):
            smooth[: len(curve.curve)] = curve.curve
        columns = {"lr": rates, "loss": losses, "untrained": untrained, "smooth": smooth}
        outcome = trace.runs.set_index("run").loc[sweep, "outcome"]
        return cls(pd.DataFrame(columns), curve, str(outcome))

    @property
    def falls(self) -> bool:
        """Whether its loss fell clear of its noise."""
        return self.curve is not None and self.curve.falls

    @property
    def stop(self) -> tuple[str, float, float]:
        """Its outcome, its last rate, and the last one at which the loss had not risen again."""
        edge = self.curve.lr[self.curve.edge] if self.curve else np.nan
        return self.outcome, self.frame["lr"].iloc[-1], edge

    def answer(self, rule: str) -> Suggestion:
        """What a rule suggests."""
        return answer(rule, self.curve, float(self.frame["lr"].iloc[0]))


def _suggestion(swept: Mapping[int, _Swept]) -> Suggestion | None:
    """The ensemble of the rules; None where most sweeps have seen nothing fall.

    Then the medians over the seeds rest on noise.
    """
    if 2 * sum(one.falls for one in swept.values()) < len(swept):
        return None
    return ensemble({rule: [one.answer(rule) for one in swept.values()] for rule in RULES})


def _notes(stops: pd.DataFrame, falls: Mapping[int, bool]) -> Iterator[str]:
    """Where each sweep stopped, and whether it saw the loss fall."""
    for stop in stops.itertuples():
        yield f"seed {stop.seed}: {STOPPED[Outcome[stop.outcome]]} {stop.lr:.2g}"
        if not falls[stop.seed]:
            yield f"seed {stop.seed}: the loss never fell clear of its noise"
