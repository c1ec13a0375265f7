"""How candidates stand against the recommended one: estimates, verdicts, the recommendation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from lrtune.analysis.curves import Floats
from lrtune.analysis.paired import LEAST, NORMAL, Paired, combined, paired
from lrtune.analysis.prior import horizon_error
from lrtune.tuning.candidates import Candidate
from lrtune.tuning.history import Measured
from lrtune.tuning.scoring import Scoring

Key = TypeVar("Key")


@dataclass(frozen=True)
class Evidence:
    """What was measured of each candidate, by name.

    Attributes:
        short: Its run of the horizon.
        whole: Its whole trainings, by seed.
    """

    short: Mapping[str, Measured]
    whole: Mapping[str, Mapping[int, Measured]]


@dataclass(frozen=True)
class Estimate:
    """The score of a candidate at full length, less that of the reference.

    Attributes:
        prior: The difference on other tasks; NaN if unknown.
        horizon: The difference at the horizon; NaN without one.
        pairs: The differences of whole trainings; None without them, or where one failed.
        runs: How many pairs there are.
        failed: In how many of them it failed.
        mean: What the pairs say; without two of them what all else says; NaN where nothing does.
        low: Where its 90 % interval begins.
        high: Where it ends.
        verdict: recommended; behind, ahead or tied by whole trainings; or not trained. Behind and
            ahead are those whose pairs alone exclude a difference of zero (with 90 % probability
            for all rivals at once), and together with all else that is known.
    """

    prior: float
    horizon: float
    pairs: Paired | None = None
    runs: int = 0
    failed: int = 0
    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    verdict: str = "not trained"

    @property
    def order(self) -> float:
        """Lower is better: the mean; or without one the difference at the horizon, or before."""
        known = (self.mean, self.horizon, self.prior)
        return next((value for value in known if not math.isnan(value)), math.inf)


class Standing:
    """Holds every candidate against one of them.

    Args:
        candidates: All of them.
        evidence: What was measured of them.
        scoring: How losses become scores.
        horizon: The length of their short runs.
        reference: The name of the recommended one.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        evidence: Evidence,
        scoring: Scoring,
        horizon: int,
        reference: str,
    ) -> None:
        self.candidates = {one.name: one for one in candidates}
        self.evidence, self.reference = evidence, reference
        self.scale, self._horizon = scoring.scale, horizon
        whole = {(name, s): one for name, runs in evidence.whole.items() for s, one in runs.items()}
        self._whole = _scores(whole, scoring)
        self._short = _scores(dict(evidence.short), scoring)

    @property
    def rivals(self) -> int:
        """How many candidates were trained in pairs with the reference."""
        return sum(len(self._pairs(name, self.reference)) >= LEAST for name in self.candidates) - 1

    def compared(self, name: str) -> dict[int, Measured]:
        """The whole trainings of a candidate on seeds that another one has; all without these."""
        runs, whole = self.evidence.whole.get(name, {}), self.evidence.whole
        shared = {seed for other, some in whole.items() if other != name for seed in some}
        return {seed: runs[seed] for seed in runs if seed in shared} or dict(runs)

    def final_loss(self, name: str) -> float:
        """The loss whose score is the mean score of these trainings, so that its order is theirs.

        A geometric mean above the floor, or where that is unknown, the mean; NaN without any, or
        where one failed.
        """
        runs = self.compared(name)
        if not runs or any(one.failed for one in runs.values()):
            return math.nan
        if self.scale.floor is None:
            return float(np.mean([one.loss() for one in runs.values()]))
        mean = float(np.mean([self._whole[name, seed] for seed in runs]))
        return float(self.scale.losses(mean, math.nan, math.nan))

    def recommended(self) -> str:
        """The reference; or of those that are ahead of it by whole trainings the lowest."""
        estimates = self.against(self.reference)
        ahead = [name for name, one in estimates.items() if one.verdict == "ahead"]
        return min(ahead, key=lambda name: (estimates[name].mean, name), default=self.reference)

    def final(self) -> dict[str, Estimate]:
        """Differences to the recommended candidate, with verdicts on all others.

        Where it is not the reference, these seeds have chosen it, so that intervals count for all
        pairs of candidates at once. The reference is behind it, and so is what is behind either.
        """
        best, first = self.recommended(), self.against(self.reference)
        if best == self.reference:
            return first
        last = self.against(best, others=self.rivals * (self.rivals + 1) // 2)
        behind = {
            name for each in (first, last) for name, one in each.items() if one.verdict == "behind"
        }
        behind.add(self.reference)
        return {
            name: replace(one, verdict="behind") if name in behind and name != best else one
            for name, one in last.items()
        }

    def against(self, base: str, others: int | None = None) -> dict[str, Estimate]:
        """Differences to one candidate, with verdicts for so many at once, or for all rivals."""
        others = self.rivals if others is None else others
        pairs = {name: self._pairs(name, base) for name in self.candidates if name != base}
        finite = {
            name: both[:, 0] - both[:, 1]
            for name, both in pairs.items()
            if len(both) and np.isfinite(both).all()
        }
        known = None
        if self.scale.floor is not None:
            known = {name: self.candidates[name].prior.paired for name in finite}
        read = paired(finite, known)
        short = 0.0 if math.isfinite(self._short.get(base, math.nan)) else math.nan
        found = {base: Estimate(0.0, short, mean=0.0, low=0.0, high=0.0, verdict="recommended")}
        for name, both in pairs.items():
            found[name] = self._estimate(name, base, both, read.get(name), others)
        return {name: found[name] for name in self.candidates}

    def _estimate(
        self, name: str, base: str, both: Floats, pairs: Paired | None, others: int
    ) -> Estimate:
        prior, spread = self.candidates[name].known_difference(self.candidates[base])
        short = self._short_difference(name, base)
        lost = (~np.isfinite(both)).sum(axis=0)
        estimate = Estimate(prior, short, pairs, len(both), int(lost[0]))
        if lost.any() or math.isinf(short):
            return _failed(estimate, int(lost[1]))
        parts = [(pairs.mean, pairs.error)] if pairs else []
        if self.scale.floor is not None:  # what other tasks tell is of log losses
            parts.append((prior, spread))
            parts.append((short, horizon_error(self._horizon) if self._horizon else math.inf))
        mean, error = combined([part for part in parts if math.isfinite(part[0])])
        reach = NORMAL * error
        if pairs is None or pairs.count < LEAST:
            return replace(estimate, mean=mean, low=mean - reach, high=mean + reach)
        shown = abs(pairs.mean) > pairs.reach(others) and abs(mean) > reach
        # What is shown is what was measured, so that it agrees with the losses.
        low, high = (pairs.mean + sign * pairs.reach() for sign in (-1, 1))
        verdict = _verdict(pairs.mean if shown else 0.0)
        return replace(estimate, mean=pairs.mean, low=low, high=high, verdict=verdict)

    def _short_difference(self, name: str, base: str) -> float:
        """The difference at the horizon; infinite where the candidate failed, NaN if unknown."""
        mine, theirs = (self._short.get(one, math.nan) for one in (name, base))
        return mine - theirs if math.isfinite(theirs) else math.nan

    def _pairs(self, name: str, base: str) -> Floats:
        """Scores of a candidate and of another one: a row for each seed of both."""
        seeds = self.evidence.whole.get(name, {}).keys() & self.evidence.whole.get(base, {}).keys()
        rows = [(self._whole[name, seed], self._whole[base, seed]) for seed in sorted(seeds)]
        return np.array(rows, float).reshape(-1, 2)


def _failed(estimate: Estimate, theirs: int) -> Estimate:
    """Of two candidates that failed, the one that failed more often is behind."""
    sign = float(estimate.failed - theirs) if estimate.runs else 1.0  # at the horizon it failed
    mean = math.copysign(math.inf, sign) if sign else math.nan
    verdict = _verdict(sign) if estimate.runs >= LEAST else "not trained"
    return replace(estimate, mean=mean, verdict=verdict)


def _verdict(difference: float) -> str:
    return "behind" if difference > 0 else "ahead" if difference < 0 else "tied"


def scored(runs: Sequence[Measured], scoring: Scoring) -> Scoring:
    """The scoring with the mean loss of these runs before training."""
    first = [one.losses[0] for one in runs if len(one.losses)]
    return replace(scoring, start=float(np.mean(first)) if first else math.nan)


def _scores(runs: Mapping[Key, Measured], scoring: Scoring) -> dict[Key, float]:
    """The scores of runs, held against one loss before training and one best loss."""
    every = list(runs.values())
    return dict(zip(runs, map(float, scored(every, scoring).scores(every)), strict=True))
