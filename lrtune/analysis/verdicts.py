"""Which of these loss curves would you pick? A verdict on the rate of each, from its losses.

They are the four curves that every course draws: with a rate that is `too low` the loss falls in a
slow line, with a `good` one fast and in a bend, with a `high` one it falls fast and stalls above
the others, with a `very high` one it rises. A constant added to all losses changes no verdict, and
neither does a positive factor.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrtune.analysis.curve_reading import (
    Curve,
    Reading,
    early_moves,
    ends_apart,
    failed_at,
    read_curve,
)

TOO_LOW, GOOD, HIGH, VERY_HIGH = VERDICTS = ("too low", "good", "high", "very high")

MIN_LOSSES = 4  # by definition: a start, an end, and a bend between them
CLOSE = 0.05  # by convention: a curve is as good as the best that lacks no more of its fall
LOST = 0.5  # by convention: a high rate is very high that loses half of the best fall
GAP = 12.0  # by convention: neighbours within a decade, and what people round, leave no gap
ERRORS = 3  # by convention: ends differ that are so many standard errors apart
MOVED = 3  # by convention: a curve has moved that ends so many times its noise from its start
JUMPED = 6  # by convention: a loss has jumped up that lies so many times the noise above the start
STEADY = 0.5  # by convention: a curve that ends half as steep as it fell on average falls in a line
BACK = 0.05  # by convention: a curve rises again that loses this share of its fall
EARLY = 1 / 6  # by convention: a stall is early that begins in the first sixth
NOISY = 0.1  # by convention: noise is large at this share of the fall
NEARER = 0.8  # by convention: what moves less at first, by so much, has the lower rate


@dataclass(frozen=True)
class Verdict:
    """What a curve says about its rate.

    Attributes:
        verdict: One of `VERDICTS`.
        certain: Whether the curve fails, or rates on both sides within a decade show it.
        reason: Why, in a sentence with its numbers.
        left: The share of the best fall that is left at its end; NaN where there is none.
        read: The numbers of the curve.
    """

    verdict: str
    certain: bool
    reason: str
    left: float
    read: Reading


def judge_curves(curves: Mapping[str, Curve]) -> dict[str, Verdict]:
    """The verdict on each curve; those that did not fail are compared where the shortest ends.

    Args:
        curves: Names to curves of at least one finite loss, which comes first. With their rates,
            neighbours on both sides make a verdict certain; without them the early moves tell
            which rates are lower. A single one is judged by its shape, which seldom shows that a
            rate is high.

    >>> step = np.arange(100.0)
    >>> losses = {0.001: 2 - 0.002 * step, 0.01: 2 * np.exp(-step / 20), 0.1: 9 + 0 * step}
    >>> losses[0.1][0] = 2.0
    >>> judged = judge_curves({f"{lr:g}": Curve(step, y, lr) for lr, y in losses.items()})
    >>> {name: one.verdict for name, one in judged.items()}
    {'0.001': 'too low', '0.01': 'good', '0.1': 'very high'}
    """
    lost = _lost(curves)
    end = min((one.steps[-1] for name, one in curves.items() if name not in lost), default=0.0)
    sound = {name: one.until(end) for name, one in curves.items() if name not in lost}
    if not sound:
        return lost
    group = _Group(sound, lost_rates=[curves[name].lr for name in lost])
    return {name: lost[name] if name in lost else group.verdict(name) for name in curves}


def _lost(curves: Mapping[str, Curve]) -> dict[str, Verdict]:
    """The curves that failed, and those that were stopped early, above their start."""
    longest = max(float(curve.steps[-1]) for curve in curves.values())
    lost = {}
    for name, curve in curves.items():
        read, step = read_curve(curve), failed_at(curve)
        if not math.isnan(step):
            what = "became NaN or infinite" if not np.isfinite(curve.losses).all() else "diverged"
            lost[name] = Verdict(
                VERY_HIGH, True, f"The loss {what} at step {step:,.0f}.", math.nan, read
            )
        elif curve.steps[-1] < longest / 2 and read.end > read.start:
            reason = (
                f"It was stopped at step {curve.steps[-1]:,.0f} of {longest:,.0f}, at "
                f"{read.end:.4g}, above its start of {read.start:.4g}."
            )
            lost[name] = Verdict(VERY_HIGH, True, reason, math.nan, read)
    return lost


class _Group:
    """Curves that did not fail, up to a common end: each stands beside the best of them."""

    def __init__(self, curves: dict[str, Curve], lost_rates: Sequence[float]) -> None:
        self._curves = curves
        self._read = {name: read_curve(curve) for name, curve in curves.items()}
        self._best = min(self._read, key=lambda name: self._read[name].end)
        start = float(np.median([one.start for one in self._read.values()]))
        self._whole = start - self._read[self._best].end
        self._known = all(math.isfinite(lr) for lr in [*self._rates(curves), *lost_rates])
        moves = early_moves(curves)
        self._apart = {}  # the names of those that end above the best, and their verdicts
        for name in filter(self._ends_above, curves):
            low = moves[name] < NEARER * moves[self._best]
            if self._known:
                low = curves[name].lr < curves[self._best].lr
            high = HIGH if self._left(name) <= LOST else VERY_HIGH
            self._apart[name] = TOO_LOW if low else high
        some = self._apart.items()
        self._low = self._rates(name for name, verdict in some if verdict == TOO_LOW)
        self._high = [*self._rates(n for n, verdict in some if verdict != TOO_LOW), *lost_rates]

    def verdict(self, name: str) -> Verdict:
        """The verdict on a curve, with its reason."""
        if name in self._apart:
            verdict, certain, reason = self._apart[name], self._known, self._beside(name)
        else:
            verdict, certain, reason = self._near(name)
        return Verdict(verdict, certain, reason, self._left(name), self._read[name])

    def _rates(self, names: Iterable[str]) -> list[float]:
        return [self._curves[name].lr for name in names]

    def _left(self, name: str) -> float:
        """The share of the best fall that is left."""
        if self._whole <= 0:
            return math.nan
        return (self._read[name].end - self._read[self._best].end) / self._whole

    def _ends_above(self, name: str) -> bool:
        """Whether a curve ends above the best one by more than what does not matter, and noise."""
        if name == self._best or self._whole <= MOVED * self._read[self._best].noise:
            return False
        above, error = ends_apart(self._curves[name], self._curves[self._best])
        return above > max(CLOSE * self._whole, ERRORS * error)

    def _near(self, name: str) -> tuple[str, bool, str]:
        """The verdict on the best curve, and on those that end as low: by what lies around them."""
        lr, one = self._curves[name].lr, self._read[name]
        below = min((lr / other for other in self._low if other < lr), default=math.inf)
        above = min((other / lr for other in self._high if other > lr), default=math.inf)
        if not self._known:
            below, above = (1.0 if some else math.inf for some in (self._low, self._high))
        verdict, reason = shape_of(one, self._curves[name])
        if (verdict == TOO_LOW and above <= GAP) or (verdict in {HIGH, VERY_HIGH} and below <= GAP):
            verdict = GOOD
        certain = self._known and below <= GAP and above <= GAP
        if verdict == GOOD and len(self._curves) + len(self._high) > 1:
            reason = self._lowest(name, below, above)
        elif len(self._curves) == 1:
            reason += " One curve does not show whether another rate ends lower."
        return (GOOD if certain else verdict), certain, reason

    def _lowest(self, name: str, below: float, above: float) -> str:
        """Why a curve is good that ends lowest, or as low."""
        end, lowest = self._read[name].end, self._read[self._best].end
        text = f"It ends lowest, at {end:.4g}"
        if name != self._best:
            text = (
                f"It ends at {end:.4g}, as good as {self._best!r} at {lowest:.4g} but for the noise"
                f" or {100 * CLOSE:.0f} % of the fall"
            )
        missing = [word for word, gap in (("lower", below), ("higher", above)) if gap > GAP]
        if not missing:
            return f"{text}; lower and higher rates end higher."
        return f"{text}; no {' and no '.join(missing)} rate within a decade is there to compare."

    def _beside(self, name: str) -> str:
        """Why a curve is not good: where it ends, and where the best one does."""
        one, top = self._read[name], self._read[self._best]
        text = (
            f"It ends at {one.end:.4g}, {self._best!r} at {top.end:.4g}: "
            f"{100 * min(self._left(name), 1):.0f} % of that fall is left"
        )
        low = self._apart[name] == TOO_LOW
        if self._known:
            text += f", at a {'lower' if low else 'higher'} rate ({self._curves[name].lr:g})."
        else:
            text += f", and it moves {'less' if low else 'as much'} at first."
        stalls = not low and not math.isnan(one.stalls)
        return f"{text} It stalls from step {one.stalls:,.0f}." if stalls else text


def shape_of(one: Reading, curve: Curve) -> tuple[str, str]:
    """The verdict on a curve by its shape alone, and the reason."""
    single, fell = math.hypot(one.noise, one.error), one.start - one.end
    where = f"It starts at {one.start:.4g} and ends at {one.end:.4g}"
    if fell <= MOVED * single:
        if one.rise > JUMPED * one.noise or -fell > MOVED * single:
            return VERY_HIGH, f"{where}; it rose to {one.start + one.rise:.4g} at first."
        return TOO_LOW, f"{where}: it has hardly moved, beside a noise of {one.noise:.2g}."
    if one.pace >= STEADY:
        return TOO_LOW, (
            f"{where}, and falls almost in a line: at the end {one.pace:.2g} times as fast as on "
            "average."
        )
    if one.back > max(BACK * one.fall, ERRORS * one.error):
        return HIGH, f"{where}, {one.back:.2g} above its lowest level."
    begin, end = float(curve.steps[0]), float(curve.steps[-1])
    early = one.stalls <= begin + EARLY * (end - begin)
    if early and one.noise > NOISY * one.fall and not curve.decays:
        stall = f"{one.stalls:,.0f}, with a noise of {one.noise:.2g}"
        return HIGH, f"{where}; it stalls from step {stall}."
    bend = f"at the end it falls {max(one.pace, 0):.2g} times as fast as on average"
    return GOOD, f"{where}, and bends: {bend}."
