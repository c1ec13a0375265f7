"""The table of a comparison, and what its notes say."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from lrtune.analysis.paired import Paired, seeds_needed
from lrtune.analysis.prior import REFERENCE
from lrtune.analysis.prior_table import known_tasks
from lrtune.analysis.scores import COARSE, Scale
from lrtune.errors import quantity
from lrtune.results.schema import RANKING, as_table
from lrtune.schedules.registry import schedule_text
from lrtune.tuning.contest_plan import amount
from lrtune.tuning.phases import phases, runs_of
from lrtune.tuning.standing import Standing

RANK_BY = ("final", "early", "plateau")
MANY = 1000  # a tie of nearly equal losses would ask for millions of trainings
FEW = 3  # ties that a note lists


def ranking(
    standing: Standing,
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    costs: Mapping[str, float],
    *,
    steps: int,
    rank_by: str,
) -> pd.DataFrame:
    """One row per schedule, the best first: columns `RANKING`.

    Args:
        standing: The candidates, and what was measured of them.
        runs: One row per run: columns `TRIED`.
        curves: Their training losses: columns `CURVES`.
        costs: What was spent on each candidate, in full trainings.
        steps: The length of a whole training.
        rank_by: "final", "early" or "plateau".
    """
    rows, estimates = [], standing.final()
    for name, one in standing.candidates.items():
        estimate, whole = estimates[name], list(standing.evidence.whole.get(name, {}).values())
        rows.append({
            "schedule": name,
            "call": schedule_text(one.named.shape),
            "lr": one.lr,
            "verdict": estimate.verdict,
            "estimate": estimate.mean,
            "low": estimate.low,
            "high": estimate.high,
            "prior": estimate.prior,
            "tasks": int(one.prior.tasks),
            "final": standing.final_loss(name),
            "runs": len(standing.compared(name)),
            "horizon": estimate.horizon,
            **phases(one, runs_of(one, runs, steps), curves),
            "failed": sum(run.failed for run in whole),
            "cost": costs.get(name, 0.0),
            "order": estimate.order,
            "score": one.prior.score,
        })  # fmt: skip
    frame = pd.DataFrame(rows)
    shares = standing.scale.decrease(frame["early"], *fall(frame, runs))
    frame["early"] = np.where(frame["early"].isna(), math.nan, shares)
    by = {"final": frame["order"], "early": -frame["early"], "plateau": frame["level"]}[rank_by]
    frame["by"] = by.fillna(math.inf)
    keys = ["by", "order", "failed", "score", "schedule"]
    frame = frame.sort_values(keys, kind="stable")
    return as_table(frame.assign(rank=range(1, len(frame) + 1)), RANKING)


def fall(frame: pd.DataFrame, runs: pd.DataFrame) -> tuple[float, float]:
    """The mean training loss before training, and the lowest mean, at the end or early."""
    levels = frame[["end", "early"]].to_numpy()
    lowest = levels[np.isfinite(levels)]
    starts = runs["start"][np.isfinite(runs["start"])]
    return float(starts.mean()), float(lowest.min()) if len(lowest) else math.nan


# --- in words


def because(standing: Standing, table: pd.DataFrame, steps: int) -> str:
    """Why the recommended schedule, in a sentence."""
    best, reference = standing.recommended(), standing.reference
    if best != reference:
        lead = standing.against(reference)[best]
        how = "of which a run failed" if math.isinf(lead.mean) else _range(lead.pairs, standing)
        return f"Trained for all {quantity(steps, 'step')}, {best} ends below {reference}, {how}."
    said = table["verdict"].value_counts()
    trained = int(said.reindex(["behind", "tied"]).sum())
    if not trained:
        return (
            f"{reference} stays, as no other schedule was trained for all "
            f"{quantity(steps, 'step')}; the ranking is that on other tasks"
            + (" and of shorter runs." if table["horizon"].notna().sum() > 1 else ".")
        )
    parts = {"behind": "behind it", "tied": "tied with it"}
    for_all = f"trained for all {quantity(steps, 'step')}"
    if trained == 1:
        how = next(text for name, text in parts.items() if said.get(name))
        return f"{reference} stays: the only rival {for_all} is {how}."
    counts = [
        f"{said[name]} {'is' if said[name] == 1 else 'are'} {text}"
        for name, text in parts.items()
        if said.get(name)
    ]
    return f"{reference} stays: of {trained} rivals {for_all}, {' and '.join(counts)}."


def _range(pairs: Paired | None, standing: Standing) -> str:
    assert pairs is not None, "whole trainings showed it ahead"
    reach = pairs.reach(standing.rivals)
    low, high = (amount(-pairs.mean + sign * reach, standing.scale) for sign in (-1, 1))
    return f"by {amount(-pairs.mean, standing.scale)} (90 % interval {low} to {high})"


def trained(standing: Standing, steps: int) -> Iterator[str]:
    """Which rivals were trained to the end."""
    reference, whole = standing.reference, standing.evidence.whole
    rivals = [name for name in standing.candidates if name != reference and name in whole]
    if rivals:
        seeds = max(len(whole[name]) for name in rivals)
        yield (
            f"trained for all {quantity(steps, 'step')} with {quantity(seeds, 'seed')} each, "
            f"against {reference}: {', '.join(rivals)}"
        )


def notes(standing: Standing, table: pd.DataFrame, runs: pd.DataFrame) -> Iterator[str]:
    """What would settle the ties, what failed, and what the table rests on."""
    yield from _ties(standing)
    if failed := table.loc[table["failed"] > 0, "schedule"].tolist():
        yield f"diverged in a whole training: {', '.join(failed)}"
    known = table[(table["tasks"] > 0) & (table["schedule"] != REFERENCE)]
    if len(known):
        yield f"the differences on other tasks come from {known_tasks(known)} of them"
    starts = runs["start"][np.isfinite(runs["start"])]
    if len(starts) and table["early"].notna().any():
        yield from _coarse(standing.scale, float(starts.mean()), float(runs["train"].min()))


def _ties(standing: Standing) -> Iterator[str]:
    """How many more trainings would tell the tied ones apart, if they differ at all."""
    ties = []
    for name, one in standing.final().items():
        if one.verdict != "tied" or one.pairs is None:
            continue
        seeds = seeds_needed(abs(one.pairs.mean), one.pairs.spread, standing.rivals)
        more = 2 * max(1, seeds - one.runs)
        ties.append((more, name, f"{more:,}" if more <= MANY else f"more than {MANY:,}"))
    if ties:
        _, names, counts = zip(*sorted(ties)[:FEW], strict=True)
        yield (
            f"tied with {standing.recommended()}: {', '.join(names)}; if the differences are as "
            f"measured, about {', '.join(counts)} more trainings would show them"
        )


def _coarse(scale: Scale, start: float, best: float) -> Iterator[str]:
    """Whether the digits of the losses hide how they differ."""
    share = scale.coarseness(start, best)
    if COARSE < share < math.inf:
        yield (
            f"near {start:.6g} the losses have steps of {scale.resolution:.2g}, "
            f"{100 * share:.0f} % of their whole fall, which hide smaller differences: take the "
            "constant out of the loss, or compute it in float64"
        )
