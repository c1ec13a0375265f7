"""From what a search has measured to its result: verdicts, the kept training, and the words."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Floats
from lrtune.analysis.next_run import next_score, usual_spread
from lrtune.analysis.scores import Scale
from lrtune.analysis.surrogate import SHAPE, Surrogate
from lrtune.results import SearchResult
from lrtune.results.schema import RATES, as_table
from lrtune.results.trained import BestRun, Retrained, Trained
from lrtune.schedules.registry import schedule_text
from lrtune.training.run_keys import rank_of_equals
from lrtune.tuning.answer_warnings import NEAR, search_warnings
from lrtune.tuning.history import Measured
from lrtune.tuning.limits import clip
from lrtune.tuning.rate_search import RateSearch
from lrtune.tuning.scoring import Scoring
from lrtune.tuning.sentences import because, confidence, note_on_current, note_on_edge
from lrtune.tuning.settings import Setting


def assemble(
    strategy: RateSearch,
    setting: Setting,
    stopped: str,
    manifest: dict[str, str],
    warnings: Sequence[str] = (),
) -> SearchResult:
    """The result of a search that has an answer; `warnings` are known already, and come first."""
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
    current = [] if strategy.current is None else [strategy.current]
    best = best_run([*strategy.whole, *current])
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
        warnings=tuple(
            dict.fromkeys((*warnings, *search_warnings(strategy, lr, (low, high), stopped)))
        ),
        notes=(*strategy.experiment.notes, *note_on_edge(strategy), *note_on_current(strategy)),
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
    """The whole training with the lowest loss on selection data; None without any.

    The checkpoint of the same one is kept in memory, by the same rank.
    """
    good = [one for one in whole if one.finished]
    if not good:
        return None
    best = min(good, key=lambda one: (one.loss(), rank_of_equals(one.run)))
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
    start = scoring.start_of(runs, best)
    start = start if start > best else best + (abs(best) or 1.0)
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


def attach(result: Trained, task: Any, evaluate: Any) -> Trained:
    """Let the result hand out what was trained: its weights, and a model that they fit."""
    load, best = getattr(evaluate, "checkpoint", None), result.best
    if load is None or best is None or not best.checkpoint:
        return result
    name, file_of = best.checkpoint, getattr(evaluate, "checkpoint_file", None)
    if file_of is not None and (file := file_of(name)):
        result.attach(lambda: load(name), task)
        result.name_file(file)  # so that it is found from JSON, too
    else:
        # The result takes it over: else the next search with the same evaluator, whose trainings
        # may all be worse, would have none kept.
        held = load(name)
        result.attach(lambda: held, task)
        if (prune := getattr(evaluate, "prune", None)) is not None:
            prune(())
    return result
