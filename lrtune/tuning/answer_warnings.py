"""What counts against an answer, in sentences: the `warnings` of a result."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome
from lrtune.analysis.sweep_rules import Suggestion
from lrtune.diagnosis.check import look
from lrtune.diagnosis.checks.loss import shared_counter
from lrtune.errors import SearchError, quantity
from lrtune.results.runs import Shape
from lrtune.schedules import Schedule, multipliers
from lrtune.schedules.registry import schedule_text
from lrtune.task.drift import TRIAL, Drift, in_every_run
from lrtune.task.task import Task
from lrtune.tuning.experiment import Experiment
from lrtune.tuning.history import Measured
from lrtune.tuning.limits import SLACK
from lrtune.tuning.rate_search import RateSearch
from lrtune.tuning.scoring import Scoring
from lrtune.tuning.sentences import NOT_VERIFIED

FAR = 2.0  # by convention: the largest multiplier of a schedule is 1, within this factor
NEAR = 1.5  # whole trainings at peaks within this factor tell what the recommended one reaches
APART = 10.0  # by convention: rates that differ by this factor are far apart
LEAST_DENSITY = 10  # steps per decade; with fewer a sweep notices too late that a rate is too high

OFFER = (
    "lrtune.diagnose(task), or `lrtune diagnose` with the same task, looks for the reason: it "
    "trains on one batch, and continues a run."
)

NOTICED = 0.01  # by convention: a change of less than this share of the fall is none to speak of


def drift_warnings(drift: Drift | None, steps: int, fall: float) -> Iterator[str]:
    """Whether a loss changes by itself, and by how much.

    Args:
        drift: How it does.
        steps: Within how many steps.
        fall: How far training lowers the loss.
    """
    if drift is None:
        return
    if drift.shared:
        yield shared_counter(drift).sentence
    elif not abs(change := drift.within(steps)) < NOTICED * fall:
        yield (
            f"The loss changes by itself, while nothing is trained, by {change:+.3g} within "
            f"{steps:,} steps: training losses are judged without that change."
        )


def peak_warnings(name: str, shape: Shape, steps: int, lr: float) -> Iterator[str]:
    """Whether the largest multiplier of a schedule is far from 1, so that `lr` is not its peak."""
    if not isinstance(shape, Schedule):
        return
    rates = multipliers(shape, steps)
    highest = max(rates)
    if not 1 / FAR <= highest <= FAR:
        yield (
            f"The largest multiplier of the schedule {name} is {highest:.3g}, not 1, so the "
            f"highest rate is {lr * highest:.3g} where lr is {lr:.3g}. A schedule multiplies lr, "
            "and takes the progress (0 ... 1), not the step."
        )
    elif len(rates) > 1 and min(rates) == highest and _differs_later(shape, steps, highest):
        yield (
            f"The schedule {name} is {highest:.3g} at any progress from 0 to 1, and changes only "
            f"beyond: it seems to take the step. Where f is yours, write lambda progress: "
            f"f(progress * {steps})."
        )


def _differs_later(shape: Schedule, steps: int, value: float) -> bool:
    """Whether a schedule has another value where its number is a step, and no progress."""
    with suppress(Exception):  # it is the user's, and takes no such number
        return any(float(shape(step)) != value for step in range(2, steps))
    return False


def add_reasons(
    error: SearchError,
    task: Task | None,
    steps: int,
    whole: Sequence[Measured],
    said: Sequence[str] = (),
) -> None:
    """Note in an error what is odd about the task, or was `said` of losses: that may be the reason.

    Where all `whole` trainings failed, the change may begin later than a task has tried.
    """
    for sentence in said:
        error.add_note(sentence)
    if task is None:
        return
    drift = known = task.drift
    if known is None and whole and all(one.failed for one in whole):
        drift = task.drift_within(steps)
    odd = (*look(task).warnings, *drift_warnings(drift, steps, math.nan))
    for sentence in dict.fromkeys(odd):
        error.add_note(sentence)
    error.add_note(OFFER)
    if in_every_run(drift) and known is None:
        error.add_note(
            f"But it does not within the first {TRIAL}, by which this is known beforehand: let the "
            "change begin with the first step."
        )


# --- range tests


def sweep_warnings(
    suggestion: Suggestion | None,
    answers: pd.DataFrame,
    stops: pd.DataFrame,
    *,
    falls: Mapping[int, bool],
    low: float,
    density: float,
) -> Iterator[str]:
    """What counts against the suggestion of a range test, or why there is none.

    Args:
        suggestion: The ensemble of the rules.
        answers: One row per rule and seed: columns `ANSWERS`.
        stops: One row per seed: columns `STOPS`.
        falls: Whether the loss of each seed's sweep fell clear of its noise.
        low: The lowest rate of the sweeps.
        density: Steps per decade of the rate.
    """
    yield from _blind(suggestion, stops, falls, low)
    if suggestion is not None:
        yield from _disagreement(suggestion, answers)
        if suggestion.lr < low:
            yield (
                f"The suggested rate, {suggestion.lr:.2g}, lies below the lowest one that was "
                f"swept, {low:.2g}: lower `low`."
            )
    # A sweep that ends near its edge has not shown which rate is too high.
    ended = (stops["outcome"] == Outcome.FINISHED.name) & (stops["edge"] >= 0.9 * stops["lr"])
    if falling := int((ended & stops["seed"].map(falls)).sum()):
        yield (
            f"The loss was lowest at the last rate in {falling} of "
            f"{quantity(len(stops), 'sweep')}, so it is "
            "not shown which rate is too high: raise `high`."
        )
    if density < LEAST_DENSITY:
        yield (
            f"The sweep has {density:.1f} steps per decade, and needs {LEAST_DENSITY} to notice in "
            "time that a rate is too high: raise `steps`."
        )


def _blind(
    suggestion: Suggestion | None, stops: pd.DataFrame, falls: Mapping[int, bool], low: float
) -> Iterator[str]:
    """In how many sweeps nothing was learned that the noise would not explain, if in half of them.

    Fewer decide nothing: the suggestion rests on medians.
    """
    if 2 * sum(falls.values()) > len(falls):
        return
    blind = stops[~stops["seed"].map(falls)]
    ended = blind["outcome"] == Outcome.FINISHED.name
    exploded = blind["edge"].isna() | (~ended & (blind["lr"] < APART * low))
    of, reasons = f"of {quantity(len(falls), 'sweep')}", []
    if count := int(exploded.sum()):
        reasons.append(
            f"in {count} {of} the loss was not finite, or exploded, from the first rates on (lower "
            "`low`)"
        )
    if count := int((~exploded).sum()):
        higher = " or `high`" * bool((ended & ~exploded).any())
        reasons.append(
            f"in {count} {of} the loss never fell clear of its noise (the model may be trained "
            f"already; otherwise raise `steps`{higher})"
        )
    if reasons:
        said = " and ".join(reasons)
        yield f"{said[:1].upper()}{said[1:]}." if suggestion else f"There is no rate: {said}."


def _disagreement(suggestion: Suggestion, answers: pd.DataFrame) -> Iterator[str]:
    """Whether the seeds, or the rules, give answers that lie far apart."""
    decades = answers.assign(lr=np.log10(answers["lr"])).groupby("seed")["lr"].mean()
    lowest, highest = decades.idxmin(), decades.idxmax()
    if decades[highest] - decades[lowest] >= np.log10(APART):
        yield (
            f"The seeds disagree: seed {lowest} suggests {10 ** decades[lowest]:.2g}, and seed "
            f"{highest} {10 ** decades[highest]:.2g}. Raise `steps`, or search."
        )
    if not suggestion.agree:
        yield "The rules disagree by more than half a decade: look at the curve."


# --- searches and comparisons

WIDE = 100.0  # by convention: an interval of two decades leaves the rate open
LOST = 0.5  # by convention: seeds disagree where one of them has so much of the fall still to go
TENTH = 0.05  # by convention: a factor of ten counts if it is at least this share of the fall


def search_warnings(
    strategy: RateSearch, lr: float, interval: tuple[float, float], stopped: str
) -> Iterator[str]:
    """What counts against the answer of a search.

    Args:
        strategy: What was measured.
        lr: The recommended rate.
        interval: Of the best rate.
        stopped: Why the search ended.
    """
    setting, runs = strategy.setting, list(strategy.experiment.history.runs.values())
    yield from drift_warnings(setting.drift, setting.steps, fall_of(runs, strategy.scoring.start))
    if stopped == "interrupted":
        yield interruption("search", strategy.experiment, setting.plan.cost)
    if not strategy.whole and stopped != "rate only":
        why = NOT_VERIFIED.get(stopped, NOT_VERIFIED["budget"])
        yield f"No whole training was made to verify the answer, {why}."
    yield from _at_limit(strategy, lr)
    low, high = interval
    if high >= WIDE * low:
        yield f"The best rate is hardly known: its 90 % interval is {low:.2g} to {high:.2g}."
    yield from seed_warnings(strategy.whole, strategy.scoring, lr)
    yield from _no_better(strategy)
    schedule = setting.schedule
    yield from peak_warnings(schedule_text(schedule), schedule, setting.steps, lr)


def fall_of(runs: Sequence[Measured], start: float) -> float:
    """How far the lowest training loss of some runs lies below that before training."""
    return start - min((one.train for one in runs), default=math.nan)


def interruption(what: str, experiment: Experiment, planned: float) -> str:
    """That a search or a comparison was interrupted."""
    return (
        f"The {what} was interrupted after {experiment.spent:.2f} of {planned:.2f} trainings: this "
        "is what it knows so far. With a study the same call goes on."
    )


def _at_limit(strategy: RateSearch, lr: float) -> Iterator[str]:
    """Whether the best rate is the lowest or the highest one allowed."""
    if strategy.setting.adapts_rate:
        return
    reading = None if strategy.coarse is None else strategy.coarse.reading
    for edge, limit in zip(("low", "high"), strategy.setting.limits, strict=True):
        if math.isclose(lr, limit, rel_tol=SLACK) or (reading and reading.at_limit == edge):
            yield (
                f"The best rate lies at the {edge}est one allowed, {limit:.3g}, and may lie "
                "beyond: widen `limits`."
            )


def seed_warnings(whole: Sequence[Measured], scoring: Scoring, lr: float) -> Iterator[str]:
    """Whether whole trainings near a rate failed, learned nothing, or end far apart."""
    near = [one for one in whole if 1 / NEAR <= one.run.lr / lr <= NEAR]
    count = f"{quantity(len(near), 'whole training')} near lr {lr:.3g}"
    if failed := sum(one.failed for one in near):
        yield f"{failed} of {count} diverged."
    good = [one for one in near if not one.failed]
    idle = [one for one in good if not scoring.learned(one)]
    if 0 < len(idle) < len(good):
        yield f"{len(idle)} of {count} learned nothing: it depends on the seed."
        return
    losses = sorted(one.loss() for one in good)
    if len(losses) > 1 and _far_apart(
        losses[0], losses[-1], scoring.start_of(good, losses[0]), scoring
    ):
        yield (
            f"The seeds disagree: of {count} the best ended at {losses[0]:.3g}, and the worst at "
            f"{losses[-1]:.3g}."
        )


def _far_apart(best: float, worst: float, start: float, scoring: Scoring) -> bool:
    """Whether two losses differ by a factor of ten, or for want of a zero by half a fall."""
    fall, floor = start - best, scoring.scale.floor
    share = (worst - best) / fall if fall > 0 else 0.0
    if floor is None:
        return share >= LOST
    return share >= TENTH and worst - floor >= APART * (best - floor)


def _no_better(strategy: RateSearch) -> Iterator[str]:
    """Whether whole trainings leave a model that was trained already where it was."""
    before, good = strategy.before, [one for one in strategy.whole if one.finished]
    if before is None or not before.validations or not good or strategy.scoring.guess is None:
        return
    best = min(good, key=lambda one: one.loss())
    if best.loss() > before.loss() - best.stderr():
        yield (
            f"No whole training ended clearly below the loss before training, {before.loss():.3g}: "
            f"the best ended at {best.loss():.3g}. The model may be trained already."
        )
