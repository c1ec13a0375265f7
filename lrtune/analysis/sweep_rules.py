"""Rules that suggest a rate from the losses of a learning-rate sweep.

Every rule gets the rates of a sweep, increasing, and the raw loss that each of them produced, as
an array that may hold NaN and infinities, and may be negative. Adding a constant to the losses, or
multiplying them by a positive number, changes no answer.

All rules look below the *edge*, the last rate at which the loss had not risen again, and each of
them answers within the *band* from a tenth to a quarter of it. On a quadratic bowl the fastest
rate is half of the largest stable one; the other factor of two is there because a sweep sees too
late that a rate is too high. `docs/decisions/0002-sweeps.md` tells how they were measured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lrtune.analysis.curves import Floats, diverged_at, leading, noise, smooth
from lrtune.analysis.fitted import fitted
from lrtune.errors import ArgumentError, quantity

WIDTH = fitted("sweep_width")
RISEN = fitted("sweep_risen")
BAND = (fitted("sweep_band_low"), fitted("sweep_band_high"))

FEW = 5  # by definition: fewer losses than a median of five make no curve
HUGE = 1e100  # by definition: products of smaller losses do not overflow
AGREEMENT = 0.5  # by convention: half a decade, the step of a usual grid


@dataclass(frozen=True)
class Suggestion:
    """A suggested rate, its 90 % interval, the rule that gave it, and the reason."""

    lr: float
    rule: str  # a name in `RULES`, or `ensemble`
    because: str
    interval: tuple[float, float]  # (lr, lr) for a single rule
    agree: bool = True  # whether the rules agree within half a decade

    def __str__(self) -> str:
        """The rate with its interval and the reason, rounded."""
        low, high = self.interval
        between = f" ({low:.3g} to {high:.3g})" * (low < high)
        return f"lr {self.lr:.3g}{between}: {self.because}"


@dataclass(frozen=True, eq=False)
class Sweep:
    """The losses of a range test over its rates, smoothed, and cut off where they diverge."""

    lr: Floats
    decades: Floats  # log10 of the rates
    curve: Floats  # the smoothed losses
    slope: Floats  # of the curve, per decade
    noise: float  # standard deviation of the losses around the curve
    start: float  # level of the loss before the sweep bites
    bottom: int  # index where the curve is lowest
    edge: int  # index of the last rate at which the loss had not risen again

    @property
    def drop(self) -> float:
        """How far the smoothed loss falls."""
        return self.start - float(self.curve[self.bottom])

    @property
    def falls(self) -> bool:
        """Whether the loss falls: by more than three times its noise, as noise alone does not."""
        return self.drop > 3 * self.noise


Rule = Callable[[Sweep], tuple[float, str]]  # to the rate, and why


def read_sweep(
    lr: ArrayLike, loss: ArrayLike, control: ArrayLike | None = None, resolution: float = 0.0
) -> Sweep | None:
    """The usable part of a sweep; None with fewer than five finite losses.

    The `control`, the untrained model's losses on the same batches, takes out most of the noise.
    The `resolution` is the smallest step between two losses.
    """
    rates, losses = np.asarray(lr, float), np.asarray(loss, float)
    control = None if control is None else np.asarray(control, float)
    usable = np.abs(losses) < HUGE
    if control is not None:
        usable &= np.abs(control) < HUGE
    end = leading(usable)
    diverged = diverged_at(losses[:end], resolution)
    if diverged is not None:
        end = diverged + 1
    if end < FEW:
        return None
    rates, losses, control = rates[:end], losses[:end], None if control is None else control[:end]
    untrained = losses[: max(3, end // 10)] if control is None else control
    start = float(np.median(untrained))
    # What blows up is bounded first, or it would bend the curve before it.
    fallen = min(float(losses.min()), start)  # where all of it blows up, nothing has fallen
    bounded = np.minimum(losses, untrained.max() + start - fallen + noise(untrained))
    decades = np.log10(rates)
    fit = smooth(decades, bounded, WIDTH, control)
    bottom = int(fit.value.argmin())
    lowest = float(fit.value[bottom])
    low = np.flatnonzero(fit.value <= lowest + RISEN * max(start - lowest, 0.0))
    edge = min(int(low[-1]), _last_low(losses))
    spread = max(fit.noise, resolution)
    return Sweep(rates, decades, fit.value, fit.slope, spread, start, bottom, edge)


def _last_low(losses: Floats) -> int:
    """The last index at which the median of three is within the local noise of its lowest."""
    # It sees a rise from 1e-20 to 1e-10, which the smoothed curve does not.
    padded = np.concatenate([losses[:1], losses, losses[-1:]])
    level = np.median(np.lib.stride_tricks.sliding_window_view(padded, 3), axis=1)
    lowest = int(level.argmin())
    near = losses[max(0, lowest - 4) : lowest + 5]
    return int(np.flatnonzero(level <= level[lowest] + 2 * noise(near))[-1])


def steepest(sweep: Sweep) -> tuple[float, str]:
    """The rate at which the remaining loss shrinks fastest per decade."""
    # By the slope alone, the answer would depend on the length of the sweep: in a long one, the low
    # rates at the beginning use the loss up.
    remaining = sweep.curve - sweep.curve[sweep.bottom]
    floor = max(2 * sweep.noise, 0.05 * sweep.drop, np.finfo(float).tiny)
    with np.errstate(over="ignore"):
        speed = -sweep.slope / (remaining + floor)
    band = sweep.lr[sweep.edge] * np.array(BAND)
    low, high = np.searchsorted(sweep.lr, band)
    best = int(low + speed[low : max(high, low + 1)].argmax())
    because = f"the loss falls by {-sweep.slope[best]:.2g} per decade here"
    return float(np.clip(sweep.lr[best], *band)), because


def valley(sweep: Sweep) -> tuple[float, str]:
    """The middle, on the logarithmic scale, of the descent from its first tenth to the edge."""
    high = np.flatnonzero(sweep.curve[: sweep.bottom + 1] > sweep.start - 0.1 * sweep.drop)
    top = min(int(high[-1]) if len(high) else 0, sweep.edge)
    middle = 10 ** ((sweep.decades[top] + sweep.decades[sweep.edge]) / 2)
    because = f"the middle of the descent from {sweep.lr[top]:.2g} to {sweep.lr[sweep.edge]:.2g}"
    return float(np.clip(middle, *(share * sweep.lr[sweep.edge] for share in BAND))), because


def minimum(sweep: Sweep) -> tuple[float, str]:
    """A tenth of the rate at the right end of the minimum, the usual rule."""
    edge = float(sweep.lr[sweep.edge])
    return edge / 10, f"a tenth of {edge:.2g}, the right end of the minimum"


def last_stable(sweep: Sweep) -> tuple[float, str]:
    """A fifth of the last rate before the loss rises again."""
    edge = float(sweep.lr[sweep.edge])
    return edge / 5, f"a fifth of {edge:.2g}, the last rate before the loss rises again"


RULES: Mapping[str, Rule] = {
    "steepest": steepest,
    "valley": valley,
    "minimum/10": minimum,
    "last stable": last_stable,
}


def suggest(
    rule: str,
    lr: ArrayLike,
    loss: ArrayLike,
    control: ArrayLike | None = None,
    resolution: float = 0.0,
) -> Suggestion:
    """The suggestion of one of the `RULES` for one sweep; the others as in `read_sweep`.

    >>> lr = np.geomspace(1e-5, 10, 61)
    >>> loss = 2.3 - 2 / (1 + (0.02 / lr) ** 2) + lr**2
    >>> suggest("minimum/10", lr, loss).because
    'a tenth of 0.32, the right end of the minimum'
    """
    if not np.size(lr):
        raise ArgumentError("a sweep has at least one rate, got none. Pass its rates and losses.")
    return answer(rule, read_sweep(lr, loss, control, resolution), float(np.asarray(lr, float)[0]))


def answer(rule: str, sweep: Sweep | None, lowest: float) -> Suggestion:
    """The suggestion of one of the `RULES` for a sweep; None is one that has no usable part.

    Args:
        rule: The name of the rule.
        sweep: What `read_sweep` returned.
        lowest: The lowest rate of the sweep.
    """
    if sweep is None:
        because = (
            "the loss was not finite, or exploded, from the first rates on, so nothing at or "
            f"above {lowest:.2g} is usable: sweep lower rates"
        )
        return Suggestion(lowest / 10, rule, because, (lowest / 10, lowest / 10))
    rate, because = RULES[rule](sweep)
    if not sweep.falls:
        because += "; but the loss never fell clear of its noise: train longer, or sweep higher"
    return Suggestion(rate, rule, because, (rate, rate))


def ensemble(suggestions: Mapping[str, list[Suggestion]]) -> Suggestion:
    """The mean of the rules in log space; each rule counts once, by its median over seeds.

    Its interval holds nine tenths of all the suggestions, which are one per seed for each rule.
    """
    decades = {rule: np.log10([one.lr for one in each]) for rule, each in suggestions.items()}
    middles = [float(np.median(each)) for each in decades.values()]
    low, high = np.quantile(np.concatenate(list(decades.values())), [0.05, 0.95])
    lr = 10 ** float(np.mean(middles))
    apart = max(middles) - min(middles)
    seeds = max(len(each) for each in decades.values())
    agree = apart <= AGREEMENT
    rules = f"{len(decades)} rules over {quantity(seeds, 'seed')}"
    because = f"the geometric mean of {rules}, which {'agree within' if agree else 'disagree by'} "
    because += f"a factor of {10**apart:.2g}" + ("" if agree else ": look at the curve")
    interval = min(float(10**low), lr), max(float(10**high), lr)
    return Suggestion(lr, "ensemble", because, interval, agree)
