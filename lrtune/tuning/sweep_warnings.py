"""What counts against the suggestion of a range test, in sentences."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome
from lrtune.analysis.sweep_rules import Suggestion
from lrtune.errors import quantity
from lrtune.tuning.scoring import ENDLESS_CAUSES, endless

APART = 10.0  # by convention: rates that differ by this factor are far apart
LEAST_DENSITY = 10  # steps per decade; with fewer a sweep notices too late that a rate is too high


def endless_warnings(floor: float | None, losses: pd.Series) -> Iterator[str]:
    """Whether training losses, the first one first, show that there is no lowest one."""
    finite = losses[np.isfinite(losses)]
    if len(finite) and endless(floor, finite.iloc[0], finite.min()):
        yield (
            f"The loss falls without end, from {finite.iloc[0]:.4g} to {finite.min():.4g}, so no "
            f"rate can be read from it; expected one that has a lowest value. {ENDLESS_CAUSES}"
        )


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
