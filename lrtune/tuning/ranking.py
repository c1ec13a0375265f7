"""The result of a comparison: a winner or a tie, and whether the horizons agree."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lrtune.analysis.curves import FAILED_OUTCOMES
from lrtune.analysis.plateau import early_decrease, plateau
from lrtune.analysis.ranks import PairedResult, compare_paired, kendall_tau, seeds_needed
from lrtune.errors import SearchError
from lrtune.results import ComparisonResult
from lrtune.results.schema import CANDIDATES, PATHS, RANKING, STABILITY, as_table
from lrtune.tuning.candidates import ComparedSchedule
from lrtune.tuning.rounds import Round, Rounds

LEAST_TAU = 0.5
"""Two horizons disagree where the whole interval of Kendall's tau lies below this."""


def summarize(
    rounds: Rounds,
    final: Round,
    compared: Sequence[ComparedSchedule],
    steps: int,
    manifest: dict[str, str],
) -> ComparisonResult:
    """Rank the schedules by the last round, which ran with fresh seeds.

    Raises:
        SearchError: Every schedule failed there.
    """
    scores = final.best_scores()
    paired = compare_paired(scores, family=True)
    if paired is None:
        raise SearchError(
            f"each of {len(scores)} schedules diverged in some seed within {final.horizon} steps. "
            "Give a lower lr."
        )
    stability = _stability(rounds, scores)
    ranking = _ranking(rounds, final, paired, compared)
    shorter = stability[stability["horizon"] < final.horizon]
    by_name = {schedule.name: schedule for schedule in compared}
    tied = [by_name[name] for name in ranking.loc[ranking["tied"], "schedule"]]
    name = min(tied, key=lambda schedule: schedule.tie_order).name
    agree = _horizons_agree(rounds, shorter, name, alone=len(tied) == 1)
    recommended = ranking.set_index("schedule").loc[name]
    return ComparisonResult(
        winner=name if len(tied) == 1 and agree else "",
        schedule=name,
        call=str(recommended["call"]),
        lr=float(recommended["lr"]),
        because=_because(name, tied, scores.shape, agree=agree),
        notes=(
            *_noise_notes(ranking, paired, shorter, final.horizon),
            *_horizon_notes(ranking, final.horizon, steps, agree=agree),
            *_lowered(final),
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
    """Whether the horizon before the last contradicts neither the ranking nor the winner.

    A low tau alone means nothing, as equal schedules rank by chance; its whole interval must be
    low. And a winner must not have been clearly behind with runs half as long.
    """
    if shorter.empty:
        return True
    if shorter["high"].iloc[-1] < LEAST_TAU:
        return False
    before = rounds.selection_at(shorter["horizon"].iloc[-1]).best_scores()
    paired = compare_paired(before, family=True)
    return not alone or paired is None or bool(paired.frame.loc[name, "tied"])


def _stability(rounds: Rounds, final: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau of each horizon's ranking with that of the fresh seeds."""
    horizons = sorted({selected.horizon for selected in rounds.selection})
    rows = [(h, *kendall_tau(rounds.selection_at(h).best_scores(), final)) for h in horizons]
    return as_table(pd.DataFrame(rows, columns=list(STABILITY)), STABILITY)


def _ranking(
    rounds: Rounds, final: Round, paired: PairedResult, compared: Sequence[ComparedSchedule]
) -> pd.DataFrame:
    cost = dict.fromkeys(paired.frame.index, 0)
    for trained in rounds.trained:
        for run in trained.trace.runs.itertuples():
            cost[trained.candidates[trained.rows[run.run]].schedule] += run.steps
    runs = final.trace.runs
    failed = runs["outcome"].isin(FAILED_OUTCOMES).groupby(runs["run"].map(final.rows)).sum()
    complexity = {schedule.name: schedule.complexity for schedule in compared}
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
    order = ["final", "complexity"]
    frame = pd.DataFrame(rows).sort_values(order, kind="stable", na_position="last")
    return as_table(frame.assign(rank=range(1, len(frame) + 1)), RANKING)


def _phases(final: Round, row: int) -> dict[str, object]:
    """Early decrease, the mean over the seeds; and the plateau of the mean curve."""
    frame = final.trace.frame[final.trace.frame["run"].map(final.rows) == row]
    early = [
        early_decrease(run["loss"].to_numpy(), steps=final.horizon)
        for _, run in frame.groupby("run")
    ]
    by_step = frame.groupby("step")[["loss", "lr"]].mean()
    flat = plateau(by_step["loss"].to_numpy(), by_step["lr"].to_numpy())
    released = {True: "yes", False: "no", None: ""}
    return {
        "early": float(np.mean(early)),
        "onset": np.nan if flat is None else float(flat.onset),
        "level": np.nan if flat is None else flat.level,
        "noise": np.nan if flat is None else flat.noise,
        "slope": np.nan if flat is None else flat.slope,
        "released": "" if flat is None else released[flat.released],
    }


def _candidates(rounds: Rounds) -> pd.DataFrame:
    rows = [
        (trained.horizon, candidate.schedule, repr(candidate.shape), candidate.lr, mean)
        for trained in rounds.trained
        for candidate, mean in zip(
            trained.candidates, trained.scores.mean(axis=1, skipna=False), strict=True
        )
    ]
    return as_table(pd.DataFrame(rows, columns=list(CANDIDATES)), CANDIDATES)


def _paths(final: Round) -> pd.DataFrame:
    """The curves of each schedule's best candidate."""
    names = {row: name for name, row in final.best().items()}
    seeds = final.trace.runs.set_index("run")["seed"]
    frame = final.trace.frame.assign(
        schedule=final.trace.frame["run"].map(final.rows).map(names),
        seed=final.trace.frame["run"].map(seeds),
    )
    return as_table(frame.dropna(subset="schedule"), PATHS)


def _because(
    name: str, tied: Sequence[ComparedSchedule], shape: tuple[int, int], *, agree: bool
) -> str:
    schedules, seeds = shape
    among = f"{schedules} schedules, each at its own peak rate, with {seeds} fresh seeds"
    if len(tied) == 1:
        unsure = "" if agree else ", but the ranking changes with the horizon"
        return f"{'The winner' if agree else 'The best'} of {among}{unsure}."
    others = [schedule.name for schedule in tied if schedule.name != name]
    listed = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    known = sum(schedule.in_benchmark for schedule in tied)
    if not known:
        preferred = f"{name} is the simplest of them"
    elif known == len(tied):
        preferred = f"{name} had the lowest loss of them in the benchmark"
    else:
        preferred = f"of the {known} that are in the benchmark, {name} had the lowest loss there"
    return f"Tied with {listed} (of {among}); {preferred}."


def _noise_notes(
    ranking: pd.DataFrame, paired: PairedResult, shorter: pd.DataFrame, horizon: int
) -> list[str]:
    """How many seeds a tie needs, and how well the horizons agree."""
    notes = []
    tied = ranking.loc[ranking["tied"], "schedule"]
    if len(tied) > 1:
        second = paired.frame.loc[tied.iloc[1]]
        needed = seeds_needed(second["difference"], second["spread"], len(ranking) - 1)
        seeds = f"about {needed}" if needed <= 1000 else "more than 1,000"
        notes.append(f"to tell the first two apart takes {seeds} seeds, if they differ at all")
    if shorter.empty:
        notes.append(
            f"within {horizon} steps the loss has only begun to fall, so no shorter horizon was "
            "compared: choose a longer one"
        )
        return notes
    last = shorter.iloc[-1]
    if math.isnan(last["tau"]):
        notes.append("all schedules end with the same loss, so there is no ranking")
    else:
        notes.append(
            f"Kendall's tau between the rankings at {int(last['horizon'])} and {horizon} steps: "
            f"{last['tau']:.2f} (90 % interval {last['low']:.2f} to {last['high']:.2f})"
        )
    return notes


def _horizon_notes(ranking: pd.DataFrame, horizon: int, steps: int, *, agree: bool) -> list[str]:
    """What the ranking says about the full length, and which schedules diverged."""
    notes = []
    if not agree:
        notes.append(
            "the ranking changes with the horizon, so no winner is named: compare again with a "
            f"horizon of {min(2 * horizon, steps)} steps or more"
        )
    failed = ranking.loc[ranking["failed"] > 0, "schedule"].tolist()
    if failed:
        notes.append(f"diverged with some fresh seed: {', '.join(failed)}")
    notes.append(
        f"ranked by complete runs of {horizon} steps, for a training of {steps}: whether the "
        "ranking holds for that length was not measured"
        if horizon < steps
        else f"ranked by complete runs of the full length, {steps} steps"
    )
    return notes


def _lowered(final: Round) -> list[str]:
    """A note on the schedules that are ranked at a lower rate than the selected one."""
    selected: dict[str, float] = {}
    for candidate in final.candidates:
        selected.setdefault(candidate.schedule, candidate.lr)
    ranked = {name: final.candidates[row].lr for name, row in final.best().items()}
    lowered = [
        f"{name} from {lr:.3g} to {ranked[name]:.3g}"
        for name, lr in selected.items()
        if ranked[name] < lr
    ]
    if not lowered:
        return []
    return [f"lowered, as the higher rate diverged with some fresh seed: {', '.join(lowered)}"]
