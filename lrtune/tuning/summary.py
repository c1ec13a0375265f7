"""The result of a comparison: a winner or a tie, and whether the horizons agree."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from lrtune.analysis.curves import FAILED_OUTCOMES, end_level
from lrtune.analysis.paired import PairedResult, compare_paired, kendall_tau, seeds_needed
from lrtune.analysis.plateau import early_level, plateau
from lrtune.analysis.scores import COARSE, Scale
from lrtune.errors import SearchError
from lrtune.results import ComparisonResult
from lrtune.results.schema import CANDIDATES, PATHS, RANKING, STABILITY, as_table
from lrtune.tuning.candidates import BENCHMARK_LOSS_RATIO, Round, Rounds

LEAST_TAU = 0.5  # two horizons disagree where the whole interval of Kendall's tau lies below this


def summarize(
    rounds: Rounds, final: Round, steps: int, manifest: dict[str, str], scale: Scale
) -> ComparisonResult:
    """Rank the schedules by the last round, which ran with fresh seeds."""
    scores = final.best_scores()
    paired = compare_paired(scores, family=True)
    if paired is None:
        raise SearchError(
            f"each of {len(scores)} schedules diverged in some seed within {final.horizon} steps. "
            "Give a lower lr."
        )
    ranking = _ranking(rounds, final, paired)
    start, best = _fall(final, ranking["early"])
    ranking["early"] = scale.decrease(ranking["early"], start, best)
    tied = ranking.loc[ranking["tied"], "schedule"].tolist()
    order = {schedule.name: schedule.tie_order for schedule in rounds.schedules}
    name = min(tied, key=order.__getitem__)
    horizons = sorted({selected.horizon for selected in rounds.selection})
    taus = [(h, *kendall_tau(rounds.selection_at(h).best_scores(), scores)) for h in horizons]
    stability = as_table(taus, STABILITY)
    shorter = stability[stability["horizon"] < final.horizon]
    agree = _horizons_agree(rounds, shorter, name, alone=len(tied) == 1)
    recommended = ranking.set_index("schedule").loc[name]
    return ComparisonResult(
        winner=name if len(tied) == 1 and agree else "",
        schedule=name,
        call=str(recommended["call"]),
        lr=float(recommended["lr"]),
        because=_because(name, tied, scores.shape, agree=agree),
        notes=(
            *_seeds_note(ranking, paired),
            *_horizon_notes(ranking, shorter, final.horizon, steps, agree=agree),
            *_lowered_note(final),
            *_coarse_note(scale, start, best),
        ),
        steps=steps,
        horizon=final.horizon,
        manifest=manifest,
        table=ranking,
        stability=stability,
        candidates=_candidates(rounds),
        paths=_paths(final),
    )


def _horizons_agree(rounds: Rounds, shorter: pd.DataFrame, name: str, *, alone: bool) -> bool:
    """Whether the horizon before the last contradicts neither the ranking nor the winner."""
    if shorter.empty:
        return True
    # A low tau alone means nothing, as equal schedules rank by chance.
    if shorter["high"].iloc[-1] < LEAST_TAU:
        return False
    # And a winner must not have been clearly behind with runs half as long.
    before = rounds.selection_at(shorter["horizon"].iloc[-1]).best_scores()
    paired = compare_paired(before, family=True)
    return not alone or paired is None or bool(paired.frame.loc[name, "tied"])


def _ranking(rounds: Rounds, final: Round, paired: PairedResult) -> pd.DataFrame:
    """One row per schedule, the lowest final loss first; of equal ones, the simplest."""
    complexity = {schedule.name: schedule.complexity for schedule in rounds.schedules}
    cost = dict.fromkeys(complexity, 0)
    for trained in rounds.trained:
        for run in trained.trace.runs.itertuples():
            cost[trained.candidates[trained.rows[run.run]].schedule] += run.steps
    runs = final.trace.runs
    failed = runs["outcome"].isin(FAILED_OUTCOMES).groupby(runs["run"].map(final.rows)).sum()
    rows = [
        {
            "schedule": name,
            "call": repr(final.candidates[row].shape),
            "lr": final.candidates[row].lr,
            "final": paired.frame.loc[name, "mean"],
            **paired.frame.loc[name, ["difference", "low", "high", "tied"]],
            **_phases(final, row),
            "failed": failed[row],
            "cost": cost[name],
            "complexity": complexity[name],
        }
        for name, row in final.best().items()
    ]
    frame = pd.DataFrame(rows).sort_values(["final", "complexity"], kind="stable")
    return as_table(frame.assign(rank=range(1, len(frame) + 1)), RANKING)


def _fall(final: Round, early: pd.Series) -> tuple[float, float]:
    """The mean training loss before training, and the lowest mean, at the end or early."""
    ranked = final.trace.frame["run"].map(final.rows).isin(final.best().values())
    losses = final.trace.frame[ranked].groupby("run", sort=False)["loss"]
    ends = losses.agg(end_level).groupby(final.rows).mean()
    means = np.array([*ends, *early])
    return float(losses.first().mean()), float(means[np.isfinite(means)].min())


def _phases(final: Round, row: int) -> dict[str, object]:
    """The early level, a mean over the seeds, as `early`; and the plateau of the mean curve."""
    frame = final.trace.frame[final.trace.frame["run"].map(final.rows) == row]
    losses = [run["loss"].to_numpy() for _, run in frame.groupby("run", sort=False)]
    early = float(np.mean([early_level(each, steps=final.horizon) for each in losses]))
    by_step = frame.groupby("step")[["loss", "lr"]].mean()
    flat = plateau(by_step["loss"].to_numpy(), by_step["lr"].to_numpy())
    numbers = {name: getattr(flat, name, np.nan) for name in ("onset", "level", "noise", "slope")}
    released = {True: "yes", False: "no", None: ""}[flat.released if flat else None]
    return {"early": early, **numbers, "released": released}


def _candidates(rounds: Rounds) -> pd.DataFrame:
    """One row per candidate of each round."""
    rows = [
        (trained.horizon, candidate.schedule, repr(candidate.shape), candidate.lr, mean)
        for trained in rounds.trained
        for candidate, mean in zip(trained.candidates, trained.means, strict=True)
    ]
    return as_table(rows, CANDIDATES)


def _paths(final: Round) -> pd.DataFrame:
    """The curves of each schedule's best candidate."""
    run = final.trace.frame["run"]
    names = {row: name for name, row in final.best().items()}
    seeds = final.trace.runs.set_index("run")["seed"]
    frame = final.trace.frame.assign(schedule=run.map(final.rows).map(names), seed=run.map(seeds))
    return as_table(frame.dropna(subset="schedule"), PATHS)


def _because(name: str, tied: Sequence[str], shape: tuple[int, int], *, agree: bool) -> str:
    """Why this schedule is recommended, of those that are tied with the best."""
    schedules, seeds = shape
    fresh = f"{seeds} fresh seed{'s' * (seeds > 1)}"
    among = f"{schedules} schedules, each at its own peak rate, with {fresh}"
    others = [one for one in tied if one != name]
    if not others:
        unsure = "" if agree else ", but the ranking changes with the horizon"
        return f"{'The winner' if agree else 'The best'} of {among}{unsure}."
    listed = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    known = sum(one in BENCHMARK_LOSS_RATIO for one in tied)
    if not known:
        preferred = f"{name} is the simplest of them"
    elif known == len(tied):
        preferred = f"{name} had the lowest loss of them in the benchmark"
    else:
        preferred = f"of the {known} that are in the benchmark, {name} had the lowest loss there"
    return f"Tied with {listed} (of {among}); {preferred}."


def _seeds_note(ranking: pd.DataFrame, paired: PairedResult) -> Iterator[str]:
    """How many seeds a tie needs."""
    tied = ranking.loc[ranking["tied"], "schedule"]
    if len(tied) > 1:
        second = paired.frame.loc[tied.iloc[1]]
        needed = seeds_needed(second["difference"], second["spread"], len(ranking) - 1)
        # A tie of nearly equal losses would ask for millions.
        seeds = f"about {needed}" if needed <= 1000 else "more than 1,000"
        first, second = tied.iloc[:2]
        yield f"to tell {first} from {second} takes {seeds} seeds, if they differ at all"


def _horizon_notes(
    ranking: pd.DataFrame, shorter: pd.DataFrame, horizon: int, steps: int, *, agree: bool
) -> Iterator[str]:
    """How well the horizons agree, which schedules diverged, and what length the ranking is for."""
    if shorter.empty:
        yield (
            f"within {horizon} steps the loss has only begun to fall, so no shorter horizon was "
            "compared: choose a longer one"
        )
    elif math.isnan(shorter["tau"].iloc[-1]):
        yield "all schedules end with the same loss, so there is no ranking"
    else:
        before, tau, low, high = shorter.iloc[-1]
        yield (
            f"Kendall's tau between the rankings at {int(before)} and {horizon} steps: "
            f"{tau:.2f} (90 % interval {low:.2f} to {high:.2f})"
        )
    if not agree:
        yield (
            "the ranking changes with the horizon, so no winner is named: compare again with "
            f"longer runs (in Python, horizon={min(2 * horizon, steps)})"
        )
    if failed := ranking.loc[ranking["failed"] > 0, "schedule"].tolist():
        yield f"diverged with some fresh seed: {', '.join(failed)}"
    yield (
        f"ranked by complete runs of {horizon} steps, for a training of {steps}: whether the "
        "ranking holds for that length was not measured"
        if horizon < steps
        else f"ranked by complete runs of the full length, {steps} steps"
    )


def _lowered_note(final: Round) -> Iterator[str]:
    """Which schedules are ranked at a lower rate than the selected one."""
    # The candidates at the selected rates come first; stepped down ones follow.
    selected = {one.schedule: one.lr for one in reversed(final.candidates)}
    ranked = {name: final.candidates[row].lr for name, row in final.best().items()}
    lowered = [
        f"{name} from {selected[name]:.3g} to {ranked[name]:.3g}"
        for name in dict.fromkeys(one.schedule for one in final.candidates)
        if ranked[name] < selected[name]
    ]
    if lowered:
        yield f"lowered, as the higher rate diverged with some fresh seed: {', '.join(lowered)}"


def _coarse_note(scale: Scale, start: float, best: float) -> Iterator[str]:
    """Whether the digits of the losses hide how they differ."""
    share = scale.coarseness(start, best)
    if COARSE < share < math.inf:
        yield (
            f"near {start:.6g} the losses have steps of {scale.resolution:.2g}, "
            f"{100 * share:.0f} % of their whole fall, which hide smaller differences: take the "
            "constant out of the loss, or compute it in float64"
        )
