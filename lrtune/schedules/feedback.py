"""Feedback schedules: they look at the loss, so they have a state, which is explicit and immutable.

One is asked once per step, with the loss of the batch before the update, for the multiplier of
that very update. Nothing here knows torch; a plain `Schedule` pays nothing for these.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from lrtune.errors import ArgumentError
from lrtune.schedules.arguments import check_range

S = TypeVar("S")

_WINDOWS = 2  # to a patience; more of them are noisier, and take a slow decrease for a plateau


class Feedback(Protocol[S]):
    """A schedule that reacts to the loss: pure functions of a state that the caller keeps."""

    def start(self, steps: int) -> S:
        """The state before the first step of a run of `steps`."""

    def next(self, state: S, loss: float) -> tuple[float, S]:
        """The multiplier for the update that follows this loss, and the next state."""


@dataclass(frozen=True)
class PlateauWatch:
    """What is remembered to see a plateau: the mean of the open window, and the best so far.

    Attributes:
        length: Steps in a window.
        count: Losses in the open window.
        mean: Their mean.
        first: Mean of the first window with a finite one.
        best: Mean of the window that was last found better.
        idle: Windows closed since then.
    """

    length: int
    count: int = 0
    mean: float = 0.0
    first: float | None = None
    best: float = math.inf
    idle: int = 0


@dataclass(frozen=True)
class ReduceOnPlateauState:
    """State of `ReduceOnPlateau`: the watch, and the drops so far."""

    watch: PlateauWatch
    drops: int = 0


@dataclass(frozen=True)
class GrowUntilPlateauState:
    """State of `GrowUntilPlateau`: the watch, log of the multiplier, its rise per step."""

    watch: PlateauWatch
    height: float
    rise: float


@dataclass(frozen=True)
class ReduceOnPlateau:
    """Times `factor` whenever the loss has not improved for the share `patience` of the run.

    Losses are averaged over windows of half the patience, which evens out the noise of single
    steps. A window is better when its mean is below the best one's by more than `threshold` of the
    whole decrease so far; so neither the scale nor the sign of the loss matters. NaN and infinity
    are no improvement.

    Attributes:
        factor: What each drop leaves of the rate, in (0, 1).
        patience: How long the loss may stand still, as a share of the run, in (0, 1].
        threshold: Least improvement, as a share of the decrease so far, in [0, 1).

    Raises:
        ScheduleError: A number is outside its range.

    >>> replay(ReduceOnPlateau(patience=0.4), [4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1]

    Source: He et al. 2015, arXiv:1512.03385, section 3.4: "divided by 10 when the error plateaus".
    """

    factor: float = 0.1
    patience: float = 0.1
    threshold: float = 0.01

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check("ReduceOnPlateau", self.factor, self.patience, self.threshold)

    def start(self, steps: int) -> ReduceOnPlateauState:
        """At the peak rate."""
        return ReduceOnPlateauState(_watch(steps, self.patience))

    def next(self, state: ReduceOnPlateauState, loss: float) -> tuple[float, ReduceOnPlateauState]:
        """The multiplier for the update that follows this loss, and the next state."""
        watch, plateau = _look(state.watch, loss, self.threshold)
        drops = state.drops + plateau
        return math.pow(self.factor, drops), ReduceOnPlateauState(watch, drops)


@dataclass(frozen=True)
class GrowUntilPlateau:
    """Grow exponentially, and `factor` times as fast after each plateau; it never falls.

    Without a plateau it is end ** p. The multiplier starts at 1 and exceeds it: the rate given to
    the run is the rate it starts with, 0.1 in the paper. For networks whose weights stand before a
    normalisation this is training at a constant rate with weight decay, see `equivalent_growth`;
    hence train it without weight decay, and mind that the weights grow with the rate.

    Attributes:
        end: Multiplier that a run without a plateau would end with, > 1, at most 1e30.
        factor: What each plateau leaves of the exponent, in (0, 1).
        patience: How long the loss may stand still, as a share of the run, in (0, 1].
        threshold: Least improvement, as a share of the decrease so far, in [0, 1).

    Raises:
        ScheduleError: A number is outside its range.

    >>> [round(m, 3) for m in replay(GrowUntilPlateau(end=16.0), [4.0, 3.0, 2.0, 1.0])]
    [1.0, 2.0, 4.0, 8.0]

    Source: Li & Arora 2020, arXiv:1910.07454, section 2.3. Their TEXP lets the rate drop, too,
    where the phases meet; here the exponent alone is lowered.
    """

    end: float = 10.0
    factor: float = 0.1
    patience: float = 0.1
    threshold: float = 0.01

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_range(
            "(1, 1e30]", "GrowUntilPlateau", "a multiplier above 1, such as 10", end=self.end
        )
        _check("GrowUntilPlateau", self.factor, self.patience, self.threshold)

    def start(self, steps: int) -> GrowUntilPlateauState:
        """At the rate given, growing at full speed."""
        return GrowUntilPlateauState(
            _watch(steps, self.patience), height=0.0, rise=math.log(self.end) / steps
        )

    def next(
        self, state: GrowUntilPlateauState, loss: float
    ) -> tuple[float, GrowUntilPlateauState]:
        """The multiplier for the update that follows this loss, and the next state."""
        watch, plateau = _look(state.watch, loss, self.threshold)
        rise = state.rise * self.factor if plateau else state.rise
        return math.exp(state.height), GrowUntilPlateauState(watch, state.height + rise, rise)


FEEDBACK: dict[str, Callable[[], Feedback[Any]]] = {
    "reduce-on-plateau": ReduceOnPlateau,
    "grow-until-plateau": GrowUntilPlateau,
}
"""Name to factory of the schedules that react to the loss; each works without arguments."""


def replay(feedback: Feedback[S], losses: Iterable[float]) -> list[float]:
    """The multipliers that a feedback schedule answers to these losses, one for each.

    >>> replay(ReduceOnPlateau(), [3.0, 2.0, 1.0])
    [1.0, 1.0, 1.0]
    """
    series = [float(loss) for loss in losses]
    state, answers = feedback.start(len(series)), []
    for loss in series:
        multiplier, state = feedback.next(state, loss)
        answers.append(multiplier)
    return answers


def equivalent_growth(rate: float, weight_decay: float, momentum: float = 0.0) -> float:
    """Growth of the rate per step that does what weight decay does to normalised weights.

    For a loss that does not see the scale of the weights, SGD at the constant rate eta with weight
    decay lambda walks through the same directions as without, at step t with the rate
    eta g ** (t + 1/2). Here g = alpha ** -2, and alpha is the larger root of
    x^2 - (1 + gamma - lambda eta) x + gamma = 0; without momentum g = (1 - lambda eta) ** -2, so
    that the rate is eta (1 - lambda eta) ** (-2 t - 1). torch's SGD keeps its momentum gamma; its
    buffer must start at -(1 - alpha) w / (eta alpha) instead of 0.

    Args:
        rate: eta, > 0.
        weight_decay: lambda, >= 0.
        momentum: gamma, in [0, 1).

    Returns:
        The growth per step, >= 1.

    Raises:
        ArgumentError: Rate times weight decay is so large that there is no such growth:
            (1 - sqrt(gamma)) ** 2 or more.

    >>> round(equivalent_growth(0.1, 5e-4), 8), round(equivalent_growth(0.1, 5e-4, 0.9), 6)
    (1.00010001, 1.001005)

    Source: Li & Arora 2020, arXiv:1910.07454, section 2.
    """
    decay = rate * weight_decay
    if not (0 <= decay < (1 - math.sqrt(momentum)) ** 2):
        raise ArgumentError(
            f"equivalent_growth(rate={rate!r}, weight_decay={weight_decay!r}, "
            f"momentum={momentum!r}): expected rate times weight decay in [0, (1 - "
            "sqrt(momentum)) ** 2), where weights shrink without swinging. Lower one of them."
        )
    middle = (1 + momentum - decay) / 2
    alpha = middle + math.sqrt(middle**2 - momentum)
    return 1 / alpha**2


def _check(call: str, factor: float, patience: float, threshold: float) -> None:
    check_range("(0, 1)", call, "what a plateau leaves, such as 0.1", factor=factor)
    check_range("(0, 1]", call, "a share of the run, such as 0.1", patience=patience)
    check_range("[0, 1)", call, "a share of the decrease so far, such as 0.01", threshold=threshold)


def _watch(steps: int, patience: float) -> PlateauWatch:
    if steps < 1:
        raise ArgumentError(f"steps={steps!r}: a run has at least one step; pass its length.")
    return PlateauWatch(length=max(1, round(patience * steps / _WINDOWS)))


def _look(watch: PlateauWatch, loss: float, threshold: float) -> tuple[PlateauWatch, bool]:
    """Take one loss in; True when the patience is over, and then it begins anew."""
    count = watch.count + 1
    mean = watch.mean + (loss - watch.mean) / count
    if count < watch.length:
        return replace(watch, count=count, mean=mean), False
    closed = replace(watch, count=0, mean=0.0)
    if _better(watch, mean, threshold):
        first = mean if watch.first is None else watch.first
        return replace(closed, first=first, best=mean, idle=0), False
    plateau = watch.idle + 1 == _WINDOWS
    return replace(closed, idle=0 if plateau else watch.idle + 1), plateau


def _better(watch: PlateauWatch, mean: float, threshold: float) -> bool:
    if not math.isfinite(mean):
        return False
    return watch.first is None or watch.best - mean > threshold * (watch.first - watch.best)
