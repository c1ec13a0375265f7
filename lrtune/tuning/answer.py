"""From what a search has measured to its result: verdicts, the kept training, and the words."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Floats
from lrtune.analysis.next_run import next_score, usual_spread
from lrtune.analysis.scores import Scale
from lrtune.analysis.surrogate import SHAPE, Surrogate
from lrtune.errors import quantity
from lrtune.results import SearchResult
from lrtune.results.schema import RATES, as_table
from lrtune.results.trained import BestRun, Retrained, Trained
from lrtune.schedules.registry import schedule_text
from lrtune.tuning.coarse import clip
from lrtune.tuning.history import Measured
from lrtune.tuning.rate_search import RateSearch
from lrtune.tuning.scoring import Scoring
from lrtune.tuning.settings import Setting

NOT_VERIFIED = {
    "rate only": "as only the rate was asked for",
    "time": "as the time limit left no room for one",
    "interrupted": "as the search was interrupted",
    "budget": "as the budget held none: give a larger one",
}
"""Why no whole training was made, by `SearchResult.stopped`."""

SAME = 0.02  # rates this close are one rate, to people
MANY = 3  # peaks that a sentence lists; of more it gives the range

NEAR = 1.5  # whole trainings at peaks within this factor tell what the recommended one reaches


def assemble(
    strategy: RateSearch, setting: Setting, stopped: str, manifest: dict[str, str]
) -> SearchResult:
    """The result of a search that has an answer."""
    surrogate, history = strategy.surrogate, strategy.experiment.history
    lowest, highest = setting.limits

    def printed(rate: float) -> float:  # a rounded limit may lie beyond the limit itself
        return min(max(clip(rate, setting.limits), lowest), highest)

    lr = printed(surrogate.best_rate())
    low, high = map(printed, surrogate.interval())
    good = tuple(map(printed, surrogate.good_range()))
    if setting.adapts_rate:
        lr = low = high = 1.0
        good = (1.0, 1.0)
    best = best_run(strategy.whole)
    found = SearchResult(
        lr=lr,
        schedule=schedule_text(setting.schedule),
        interval=(low, high),
        good_range=(good[0], good[1]),
        steps=setting.steps,
        best=best,
        retrained=expected(strategy.whole, strategy.scoring, surrogate, lr),
        because=because(strategy, setting),
        confidence=confidence(strategy, setting, lr, (low, high), stopped),
        notes=(*strategy.experiment.notes, *_note_on_edge(strategy), *_note_on_current(strategy)),
        stopped=stopped,
        budget=setting.plan.budget,
        cost=strategy.experiment.spent,
        scores=setting.kind,
        manifest=manifest,
        frame=rates_table(list(history.runs.values()), (min(low, good[0]), max(high, good[1]))),
        runs=history.table(),
        curves=history.curves(),
        spending=strategy.experiment.spending(setting.plan),
        floor=setting.scale.floor,
    )
    found.keep_schedule(setting.schedule)
    return found


def best_run(whole: Sequence[Measured]) -> BestRun | None:
    """The whole training with the lowest loss on the data that select; None without any."""
    good = [one for one in whole if one.finished]
    if not good:
        return None
    best = min(good, key=lambda one: one.loss())
    test = best.validations.get("test", (math.nan, math.nan, 0))
    selection = best.validations.get("selection", (math.nan, math.nan, 0))
    return BestRun(
        lr=best.run.lr,
        schedule=schedule_text(best.run.schedule),
        seed=best.run.seed,
        selected=best.loss(),
        loss=test[0],
        stderr=test[1],
        samples=test[2],
        of=test[2] + selection[2],
        checkpoint=best.checkpoint,
    )


def expected(
    whole: Sequence[Measured], scoring: Scoring, surrogate: Surrogate, lr: float
) -> Retrained | None:
    """What a new training at this peak is expected to end at, from the whole trainings near it.

    Where none is near, from all of them, with what is believed of the way from their peaks to it.
    """
    good = [one for one in whole if one.finished]
    if not good:
        return None
    noise = surrogate.prior.noise
    near = [one for one in good if 1 / NEAR <= one.run.lr / lr <= NEAR]
    if near:
        return one_more(near, scoring, noise)
    rates = [one.run.lr for one in good]
    return one_more(good, scoring, noise, moved(surrogate, rates, lr))


def moved(surrogate: Surrogate, rates: Sequence[float], lr: float) -> tuple[Floats, float]:
    """The expected score at this peak less that at each of these, and the error of their mean."""
    excess = surrogate.prior.excess
    logs = np.log([lr, *rates])[:, None] - surrogate.places
    rise = excess(logs[:1]) - excess(logs[1:])  # a row for each of the rates
    shifts = rise @ surrogate.weights
    mean = rise.mean(axis=0)
    place = float((mean - shifts.mean()) ** 2 @ surrogate.weights)
    shape = float((SHAPE * mean) ** 2 @ surrogate.weights)
    return shifts, math.sqrt(place + shape)


def one_more(
    runs: Sequence[Measured],
    scoring: Scoring,
    noise: float,
    shift: tuple[Floats, float] | None = None,
) -> Retrained:
    """What one more run like these is expected to end at, judged by the same data as they were.

    So the error of these data counts only as far as it differs between runs.

    Args:
        runs: They ended, and differ by their seeds.
        scoring: How losses become scores.
        noise: The usual standard deviation of a score between seeds.
        shift: What a run at the peak in question scores more than each of these, and the error of
            their mean; None where they are at that peak.
    """
    part = "test" if all("test" in one.validations for one in runs) else "selection"
    losses = np.array([one.loss(part) for one in runs])
    errors = np.array([one.stderr(part) for one in runs])
    scale, best = scoring.scale, float(losses.min())
    if scale.floor is not None and best <= scale.floor:
        scale = Scale(None)  # the log of no loss says nothing of the next one
    start = scoring.start if scoring.start > best else best + (abs(best) or 1.0)
    sampling = scale.stderr(errors, losses, start, best)
    sampling = sampling[np.isfinite(sampling)]
    spread = usual_spread(noise, float(np.median(sampling)) if len(sampling) else 0.0)
    shifts, shared = (0.0, 0.0) if shift is None else shift
    scores = scale.scores(losses, start, best) + shifts
    middle, reach = next_score(scores.tolist(), spread, shared)
    ends = scale.losses([middle, middle - reach, middle + reach], start, best)
    if scoring.scale.floor is not None:
        ends = np.maximum(ends, scoring.scale.floor)
    expect, low, high = map(float, ends)
    return Retrained(expect, low, high, len(runs), shift is None)


def _note_on_edge(strategy: RateSearch) -> Iterator[str]:
    """Whether the best whole training had the lowest or the highest peak of several."""
    good = [one for one in strategy.whole if one.finished]
    peaks = sorted({one.run.lr for one in good})
    if len(peaks) < 3:  # of two peaks, one is always at the edge
        return
    best = min(good, key=lambda one: one.loss()).run.lr
    for edge, at, beyond in (("lowest", peaks[0], "lower"), ("highest", peaks[-1], "higher")):
        if best == at:
            yield (
                f"the best whole training had the {edge} peak that was tried, {best:.3g}: the best "
                f"peak may lie {beyond} still"
            )


def _note_on_current(strategy: RateSearch) -> Iterator[str]:
    """How the user's present setting compares with the whole trainings of the search."""
    current = strategy.current
    others = [one for one in strategy.whole if one is not current and one.finished]
    if current is None or not others:
        return
    setting = f"lr {current.run.lr:.3g} with {schedule_text(current.run.schedule)}"
    if current.failed:
        yield f"your present setting, {setting}, diverged"
        return
    losses = [one.loss() for one in others]
    validated = "selection" in current.validations
    what = "on the validation data that choose" if validated else "by training loss"
    count = f"{quantity(len(others), 'training')} of the search" if len(others) > 1 else "training"
    searched = f"{count} {_at_peaks(others, 'peak')}"
    verdict = "yours lies among them"
    if current.loss() <= min(losses):
        verdict = "yours is the best"
    elif current.loss() > max(losses):
        verdict = "yours is the worst"
    ends = f"{min(losses):.4g}" + f" to {max(losses):.4g}" * (len(losses) > 1)
    yield (
        f"your present setting, {setting}, ended at {current.loss():.4g} {what}; the {searched} "
        f"ended at {ends}: {verdict}"
    )


def _at_peaks(runs: Sequence[Measured], word: str) -> str:
    """At which peaks some runs were trained: a list of a few, or the range of many."""
    rates = list(dict.fromkeys(f"{rate:.3g}" for rate in sorted(one.run.lr for one in runs)))
    if len(rates) == 1:
        return f"at the {word} {rates[0]}"
    if len(rates) > MANY:
        return f"at {word}s from {rates[0]} to {rates[-1]}"
    return f"at the {word}s {', '.join(rates[:-1])} and {rates[-1]}"


def rates_table(runs: list[Measured], good: tuple[float, float]) -> pd.DataFrame:
    """One row per rate, with its verdict: columns `RATES`."""
    rows = []
    for lr in sorted({one.run.lr for one in runs if one.stage != "before"}):
        here = [one for one in runs if one.run.lr == lr and one.stage != "before"]
        longest = max(
            here,
            key=lambda one: (one.steps, one.until) if one.stage != "coarse" else (0, one.until),
        )
        alike = [
            one
            for one in here
            if (one.steps, one.until, one.stage) == (longest.steps, longest.until, longest.stage)
        ]
        failed = sum(one.failed for one in here)
        loss = (
            float(np.mean([one.loss() for one in alike]))
            if not any(o.failed for o in alike)
            else math.nan
        )
        rows.append({
            "lr": lr,
            "stage": here[0].stage,
            "verdict": verdict(lr, good, failed=failed > 0),
            "schedule": schedule_text(longest.run.schedule),
            "steps": longest.until,
            "loss": loss,
            "runs": len(alike),
            "failed": failed,
        })  # fmt: skip
    return as_table(pd.DataFrame(rows, columns=list(RATES)), RATES)


def verdict(rate: float, good: tuple[float, float], *, failed: bool = False) -> str:
    """The verdict on a peak: too low, good, high or diverged; good where it may be the best one.

    >>> [verdict(rate, (0.01, 0.02)) for rate in (0.001, 0.01, 0.1)]
    ['too low', 'good', 'high']
    """
    if failed:
        return "diverged"
    if rate < good[0]:
        return "too low"
    return "good" if rate <= good[1] else "high"


def because(strategy: RateSearch, setting: Setting) -> str:
    """Why this rate, in a sentence."""
    parts = []
    if setting.adapts_rate:
        return "The optimizer estimates its own rate, and lr is a factor of it."
    if setting.around is not None:
        parts.append(f"Begun at {setting.around:.3g}, as asked for")
    elif strategy.coarse is not None and strategy.coarse.reading is not None:
        rates = sum(one.stage == "coarse" for one in strategy.experiment.history.runs.values())
        reading = strategy.coarse.reading
        parts.append(
            f"{quantity(rates, 'constant rate')} {'were' if rates > 1 else 'was'} tried for up to "
            f"{quantity(reading.steps, 'step')}; the curve through the training losses is lowest "
            f"near {reading.rate:.2g}"
        )
    if strategy.whole:
        whole = quantity(len(strategy.whole), "whole training")
        parts.append(f"{whole} followed {_at_peaks(strategy.whole, kind_of_rate(setting))}")
    return "; ".join(parts) + "."


def kind_of_rate(setting: Setting) -> str:
    """What the rate of a search is, in a word: that of a constant schedule has no peak."""
    return "rate" if setting.name == "constant" else "peak"


def confidence(
    strategy: RateSearch,
    setting: Setting,
    lr: float,
    interval: tuple[float, float],
    stopped: str,
) -> str:
    """The interval, and what was trained to the end."""
    whole, failed = strategy.whole, sum(one.failed for one in strategy.whole)
    between = f"{interval[0]:.2g} to {interval[1]:.2g}"
    said = [f"90 % interval of the best {kind_of_rate(setting)}: {between}."]
    if not whole:
        why = NOT_VERIFIED.get(stopped, NOT_VERIFIED["budget"])
        return " ".join([*said, f"No whole training was made to verify it, {why}."])
    runs = quantity(len(whole), "whole training")
    if strategy.current is not None and strategy.current not in whole:
        runs += " besides that of your present setting"
    if failed:
        said.append(f"{failed} of {runs} diverged.")
    elif len(whole) == 1:
        said.append(f"{runs}, which did not diverge.")
    else:
        said.append(f"{runs}, each with its own seed; none diverged.")
    trained = any(abs(one.run.lr / lr - 1) < SAME for one in whole)
    if not trained and not setting.adapts_rate:
        said.append(
            f"The {kind_of_rate(setting)} {lr:.3g} itself was not trained: the answer weighs all "
            "runs, as a single one may be lucky."
        )
    return " ".join(said)


def attach(result: Trained, task: Any, evaluate: Any) -> Trained:
    """Let the result hand out what was trained: its weights, and a model that they fit."""
    load, best = getattr(evaluate, "checkpoint", None), result.best
    if load is not None and best is not None and best.checkpoint:
        name, file_of = best.checkpoint, getattr(evaluate, "checkpoint_file", None)
        result.attach(lambda: load(name), None if task is None else task.new_model)
        if file_of is not None and (file := file_of(name)):  # so that it is found from JSON, too
            result.name_file(file)
    return result
