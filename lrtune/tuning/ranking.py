"""What a comparison says: a winner or a tie, and how far the short horizons can be trusted."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lrtune.analysis.curves import FAILED
from lrtune.analysis.paired import PairedResult, compare_paired, seeds_needed
from lrtune.analysis.plateau import early_decrease, plateau
from lrtune.analysis.ranks import tau
from lrtune.errors import SearchError
from lrtune.results import ComparisonResult
from lrtune.results.schema import CANDIDATES, PATHS, RANKING, STABILITY
from lrtune.results.serialization import table
from lrtune.tuning.entrants import ELSEWHERE, Entrant
from lrtune.tuning.rounds import Heat, Heats

TRUST = 0.5
"""Horizons disagree where Kendall's tau surely lies below this."""


def concluded(
    heats: Heats, final: Heat, entrants: Sequence[Entrant], steps: int, manifest: dict[str, str]
) -> ComparisonResult:
    """Read all heats; `final` is on fresh seeds.

    Raises:
        SearchError: Every schedule failed there.
    """
    scores = by_entrant(final)
    standing = compare_paired(scores, family=True)
    if standing is None:
        raise SearchError(
            f"each of {len(scores)} schedules diverged in some seed within {final.horizon} steps. "
            "Give a lower lr."
        )
    stability = _stability(heats, scores)
    known = {one.name: one for one in entrants}
    ranking = _ranking(heats, final, standing, {name: one.rank for name, one in known.items()})
    tied = ranking[ranking["tied"]]
    before = stability[stability["horizon"] < final.horizon]
    alone = len(tied) == 1
    name = min(tied["schedule"], key=lambda one: known[one].order)
    trusted = _trusted(heats, before, name, alone=alone)
    recommended = ranking.set_index("schedule").loc[name]
    return ComparisonResult(
        winner=name if alone and trusted else "",
        schedule=name,
        call=str(recommended["call"]),
        lr=float(recommended["lr"]),
        because=_because(known[name], tied, len(ranking), scores.shape[1], trusted=trusted),
        notes=(
            *_notes(ranking, standing, before, final.horizon, steps, trusted=trusted),
            *_stepped_down(final),
        ),
        steps=steps,
        horizon=final.horizon,
        manifest=manifest,
        table=ranking,
        stability=stability,
        candidates=_candidates(heats),
        paths=_paths(final),
    )


def _stepped_down(final: Heat) -> list[str]:
    """Which schedules were judged at a lower rate than was selected, as that failed."""
    first: dict[str, float] = {}
    for one in final.candidates.values():
        first.setdefault(one.entrant, one.lr)
    judged = {name: final.candidates[key].lr for name, key in final.best().items()}
    lower = [
        f"{name} from {lr:.3g} to {judged[name]:.3g}"
        for name, lr in first.items()
        if judged[name] < lr
    ]
    told = "stepped down, as the higher rate diverged in some fresh seed: " + ", ".join(lower)
    return [told] if lower else []


def _trusted(heats: Heats, before: pd.DataFrame, name: str, *, alone: bool) -> bool:
    """Whether the horizon before the last says nothing against the ranking, or the winner.

    Equal schedules rank by chance, so a low tau alone means nothing; one that is surely low does.
    And a winner must not have been clearly behind half as long a run ago.
    """
    if before.empty:
        return True
    if before["high"].iloc[-1] < TRUST:
        return False
    standing = compare_paired(by_entrant(heats.over(before["horizon"].iloc[-1])), family=True)
    return not alone or standing is None or bool(standing.frame.loc[name, "tied"])


def by_entrant(heat: Heat) -> pd.DataFrame:
    """The scores of each schedule's best candidate: schedules as index, seeds as columns."""
    best = heat.best()
    return heat.scores.loc[list(best.values())].set_axis(list(best), axis=0)


def _stability(heats: Heats, final: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau of each horizon's ranking with that of the fresh seeds."""
    horizons = sorted({heat.horizon for heat in heats.selection})
    rows = [(horizon, *tau(by_entrant(heats.over(horizon)), final)) for horizon in horizons]
    return table(pd.DataFrame(rows, columns=list(STABILITY)), STABILITY)


def _ranking(
    heats: Heats, final: Heat, standing: PairedResult, ranks: Mapping[str, int]
) -> pd.DataFrame:
    candidates = {name: final.candidates[key] for name, key in final.best().items()}
    cost = pd.Series(0, index=list(candidates))
    for heat in heats.all:
        keys = heat.trace.runs["run"].str.rpartition("/")[0]
        entrants = keys.map(lambda key, heat=heat: heat.candidates[key].entrant)
        cost = cost.add(heat.trace.runs["steps"].groupby(entrants).sum(), fill_value=0)
    runs = final.trace.runs
    failed = runs["outcome"].isin(FAILED).groupby(runs["run"].str.rpartition("/")[0]).sum()
    rows = []
    for name, row in standing.frame.iterrows():
        one = candidates[str(name)]
        rows.append(
            {
                "schedule": name,
                "call": repr(one.shape),
                "lr": one.lr,
                "final": row["mean"],
                "difference": row["difference"],
                "low": row["low"],
                "high": row["high"],
                "tied": row["tied"],
                **_phases(final, one.key),
                "failed": failed[one.key],
                "cost": cost[name],
                "simple": ranks[str(name)],
            }
        )
    frame = pd.DataFrame(rows).sort_values(["final", "simple"], kind="stable", na_position="last")
    return table(frame.assign(rank=range(1, len(frame) + 1)), RANKING)


def _phases(heat: Heat, key: str) -> dict[str, object]:
    """Early decrease, the mean over the seeds; and the plateau of the mean curve."""
    frame = heat.trace.frame[heat.trace.frame["run"].str.rpartition("/")[0] == key]
    early = [
        early_decrease(run["loss"].to_numpy(), steps=heat.horizon)
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


def _candidates(heats: Heats) -> pd.DataFrame:
    rows = [
        (heat.horizon, one.entrant, repr(one.shape), one.lr, mean)
        for heat in heats.all
        for one, mean in zip(
            heat.candidates.values(), heat.scores.mean(axis=1, skipna=False), strict=False
        )
    ]
    return table(pd.DataFrame(rows, columns=list(CANDIDATES)), CANDIDATES)


def _paths(heat: Heat) -> pd.DataFrame:
    """The curves of each schedule's candidate."""
    chosen = heat.trace.frame["run"].str.rpartition("/")[0].isin(heat.best().values())
    frame = heat.trace.frame[chosen].merge(heat.trace.runs[["run", "seed"]], on="run")
    return table(frame.assign(schedule=frame["run"].str.rpartition("#")[0]), PATHS)


def _because(one: Entrant, tied: pd.DataFrame, schedules: int, seeds: int, *, trusted: bool) -> str:
    among = f"of {schedules} schedules, each at its own peak rate, on {seeds} fresh seeds"
    if len(tied) > 1:
        others = [other for other in tied["schedule"] if other != one.name]
        told = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        known = tied["schedule"].isin(list(ELSEWHERE))
        best = "did best on other tasks" if known.any() else "is the simplest of them"
        those = "" if known.all() or not known.any() else f", where {known.sum()} of them are known"
        return f"a tie with {told}, {among}; {one.name} {best}{those}"
    if not trusted:
        return f"the best {among}, but the ranking changes with the horizon"
    return f"the winner {among}"


def _notes(
    ranking: pd.DataFrame,
    standing: PairedResult,
    before: pd.DataFrame,
    horizon: int,
    steps: int,
    *,
    trusted: bool,
) -> list[str]:
    notes = []
    tied = ranking[ranking["tied"]]
    if len(tied) > 1:
        second = standing.frame.loc[tied["schedule"].iloc[1]]
        needed = seeds_needed(second["difference"], second["spread"], len(ranking) - 1)
        more = f"some {needed} seeds" if needed <= 1000 else "more than 1,000 seeds"
        notes.append(f"to tell the first two apart, if they differ, would take {more}")
    if len(before):
        last = before.iloc[-1]
        told = f"{last['tau']:.2f} (from {last['low']:.2f} to {last['high']:.2f})"
        notes.append(
            "all schedules end alike, so there is no ranking to speak of"
            if np.isnan(last["tau"])
            else f"the rankings at {int(last['horizon'])} and {horizon} steps agree with Kendall's "
            f"tau {told}"
        )
    else:
        notes.append(
            f"within {horizon} steps the loss has only begun to fall, so there is no shorter "
            "horizon to compare with: a longer one would say more"
        )
    if not trusted:
        notes.append(
            "no winner can be named at this budget, as the ranking changes with the horizon: "
            f"compare again with a horizon of {min(2 * horizon, steps)} steps or more"
        )
    failed = ranking[ranking["failed"] > 0]["schedule"].tolist()
    if failed:
        notes.append(f"diverged in some fresh seed: {', '.join(failed)}")
    notes.append(
        f"judged by complete runs of {horizon} steps, for a training of {steps}; whether the "
        "ranking holds over the full length this cannot tell"
        if horizon < steps
        else f"judged by complete runs of the full length, {steps} steps"
    )
    return notes
