"""What counts against an answer, in sentences: the `warnings` of a result."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress

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
STILL = 0.9  # by convention: a schedule hardly moves that stays within this factor

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
    elif len(rates) > 1 and min(rates) > STILL * highest and _moves_later(shape, steps, highest):
        yield (
            f"The schedule {name} hardly moves while the progress goes from 0 to 1 ({rates[0]:.3g} "
            f"to {rates[-1]:.3g}), and far more beyond: it seems to take the step or the epoch. "
            f"Where f is yours and takes the step, write lambda progress: f(progress * {steps})."
        )


def _moves_later(shape: Schedule, steps: int, value: float) -> bool:
    """Whether a schedule leaves its value where its number is a step, and no progress."""
    with suppress(Exception):  # it is the user's, and takes no such number
        return any(
            not STILL * value < float(shape(step)) < value / STILL for step in range(2, steps)
        )
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
    yield from _away_from_hint(strategy)
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


def _away_from_hint(strategy: RateSearch) -> Iterator[str]:
    """Whether the best rate still lies beyond those that were tried near the user's own."""
    good = [one for one in strategy.whole if one.finished]
    rates = sorted({one.run.lr for one in strategy.whole})
    if strategy.setting.around is None or not good or len(rates) < 2:
        return
    best = min(good, key=lambda one: one.loss()).run.lr
    for at, edge, beyond in ((rates[0], "lowest", "lower"), (rates[-1], "highest", "higher")):
        if best == at:
            yield (
                f"The search began near {strategy.setting.around:.3g}, as asked for, and its best "
                f"whole training has the {edge} peak that was tried, {best:.3g}: an even {beyond} "
                "one may be better. Leave `around` out, or give another rate."
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
