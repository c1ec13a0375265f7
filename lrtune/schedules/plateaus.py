"""Schedules that react to plateaus of the loss; `ScheduleError` for a number out of range."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lrtune.errors import ArgumentError, ScheduleError
from lrtune.schedules.feedback import Feedback
from lrtune.schedules.schedule import check_range, check_steps

# In a patience; with more, their means are noisier, and a slow decrease looks like a plateau.
_WINDOWS = 2


@dataclass(frozen=True)
class PlateauWatch:
    """Finds plateaus of the loss while a run trains, from the mean losses of windows of steps."""

    length: int  # steps in a window
    count: int = 0  # losses in the current window
    mean: float = 0.0  # of these losses
    first: float | None = None  # mean of the first window whose mean was finite
    best: float = math.inf  # mean of the best window
    idle: int = 0  # windows since the best one, or since the last plateau
    plateaus: int = 0  # found so far

    def validated(self, loss: float, threshold: float) -> "PlateauWatch":
        """Return the watch as it is: validation losses are not asked for."""
        del loss, threshold
        return self

    def add(self, loss: float, threshold: float) -> "PlateauWatch":
        """Return the watch after one more loss of a batch."""
        count = self.count + 1
        mean = self.mean + (loss - self.mean) / count  # running, so a state keeps no losses
        if count < self.length:
            return replace(self, count=count, mean=mean)
        closed = replace(self, count=0, mean=0.0)
        # Compared with the decrease so far, an improvement depends on no scale or sign of the loss.
        if math.isfinite(mean) and (
            self.first is None or self.best - mean > threshold * (self.first - self.best)
        ):
            first = mean if self.first is None else self.first
            return replace(closed, first=first, best=mean, idle=0)
        if self.idle + 1 < _WINDOWS:
            return replace(closed, idle=self.idle + 1)
        # The patience begins anew, else every later window would be a plateau as well.
        return replace(closed, idle=0, plateaus=self.plateaus + 1)


def _watch(steps: int, patience: float) -> PlateauWatch:
    """Return a new watch, whose patience is this share of a run of `steps`."""
    return PlateauWatch(length=max(1, round(patience * check_steps(steps) / _WINDOWS)))


@dataclass(frozen=True)
class BestLoss:
    """Counts validations since the best one, as torch's ReduceLROnPlateau does."""

    patience: int  # validations without an improvement that are tolerated
    best: float = math.inf
    idle: int = 0  # validations since the best one, or since the last plateau
    plateaus: int = 0  # found so far

    def add(self, loss: float, threshold: float) -> "BestLoss":
        """Return the state as it is: losses of batches do not count."""
        del loss, threshold
        return self

    def validated(self, loss: float, threshold: float) -> "BestLoss":
        """Return the state after one more validation."""
        if loss < self.best * (1 - threshold):
            return replace(self, best=loss, idle=0)
        if self.idle < self.patience:
            return replace(self, idle=self.idle + 1)
        return replace(self, idle=0, plateaus=self.plateaus + 1)


Watch = PlateauWatch | BestLoss
"""The state of `ReduceOnPlateau`."""


@dataclass(frozen=True, repr=False)
class ReduceOnPlateau:
    """Multiplies the rate by `factor` whenever the loss has not improved for `patience`.

    With `on="train"` losses of batches are averaged over windows of half the patience, because the
    loss of a single step is noisy. With `on="val"` it is the loss on the selection half of the
    validation data, and the rule is that of torch's ReduceLROnPlateau, which `to_torch` makes of
    it. NaN and infinity are no improvement.

    Attributes:
        on: The loss that it reacts to: "train" or "val".
        every: With `on="val"`, the steps between two validations: a whole number such as 50, or a
            share of the run such as 0.05. The validations count as cost.
        factor: Factor of each drop, in (0, 1).
        patience: How long the loss may stand still, as a share of the run, in (0, 1]; with
            `on="val"` in [0, 1], rounded to whole validations.
        threshold: Smallest improvement, in [0, 1): with `on="train"` a share of the decrease so far
            (0.01 when None), with `on="val"` a share of the best loss, as torch's (0 when None).

    >>> from lrtune.schedules import replay
    >>> replay(ReduceOnPlateau(patience=0.4), [4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1]
    >>> ReduceOnPlateau(on="val", every=50)
    ReduceOnPlateau(on='val', every=50, factor=0.1, patience=0.1, threshold=0.0)

    Source: He et al. 2015, arXiv:1512.03385, section 3.4: "divided by 10 when the error plateaus".
    """

    on: Literal["train", "val"] = field(default="train", kw_only=True)
    every: float | None = field(default=None, kw_only=True)
    factor: float = 0.1
    patience: float = 0.1
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Fill in the threshold, and check everything."""
        if self.on not in ("train", "val"):
            raise ScheduleError(f"ReduceOnPlateau(on={self.on!r}): expected 'train' or 'val'.")
        if self.threshold is None:
            object.__setattr__(self, "threshold", 0.01 if self.on == "train" else 0.0)
        _check(self)
        if (self.on == "val") != _is_interval(self.every):
            raise ScheduleError(
                f"ReduceOnPlateau(on={self.on!r}, every={self.every!r}): expected on='val' with "
                "every, the steps between two validations, such as 50, or a share of the run, such "
                "as 0.05; or on='train' without it."
            )

    def __repr__(self) -> str:
        names = ["factor", "patience", "threshold"]
        names = ["on", "every", *names] if self.on == "val" else names
        return f"ReduceOnPlateau({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def start(self, steps: int) -> Watch:
        """Return the state before the first step: no plateau yet."""
        if self.on == "val":
            return BestLoss(self._patience(steps))
        return _watch(steps, self.patience)

    def next(self, state: Watch, loss: float) -> tuple[float, Watch]:
        """Return the multiplier for the update after this loss, and the next state."""
        watch = state.add(loss, self._threshold)
        return math.pow(self.factor, watch.plateaus), watch

    def validate_every(self, steps: int) -> int:
        """Return the steps between two validations in a run of `steps`; 0 with `on="train"`."""
        if self.every is None:
            return 0
        share = not isinstance(self.every, int)
        return max(1, round(self.every * check_steps(steps))) if share else int(self.every)

    def validated(self, state: Watch, loss: float) -> Watch:
        """Return the state after a validation, which comes before the update of its step."""
        return state.validated(loss, self._threshold)

    def torch_settings(self, steps: int) -> dict[str, float]:
        """Return the arguments of torch's ReduceLROnPlateau for a run of `steps`.

        Raises:
            ScheduleError: It reacts to the losses of training batches, which torch's does not.
        """
        if self.on == "train":
            raise ScheduleError(
                f"{self!r} reacts to the mean losses of many batches, and torch has no such "
                "scheduler. Call its `start(steps)` and `next(state, loss)` in your training "
                "loop, or take ReduceOnPlateau(on='val', every=...)."
            )
        patience, threshold = self._patience(steps), self._threshold
        # By default torch ignores drops of less than 1e-8.
        return {"factor": self.factor, "patience": patience, "threshold": threshold, "eps": 0.0}

    @property
    def _threshold(self) -> float:
        return self.threshold or 0.0

    def _patience(self, steps: int) -> int:
        """Return the validations without an improvement that are tolerated."""
        return int(self.patience * steps / self.validate_every(steps) + 0.5)


@dataclass(frozen=True)
class Growth:
    """The state of `GrowUntilPlateau`; the rate of the next update is `lr` * exp(`exponent`)."""

    watch: PlateauWatch
    exponent: float
    rise: float  # what each step adds to the exponent


@dataclass(frozen=True)
class GrowUntilPlateau:
    """Multiplies the rate at every step; from each plateau of the loss on, it grows more slowly.

    Without a plateau the multiplier is end ** p. It starts at 1 and exceeds it, so the `lr` of the
    run is the rate it starts with (0.1 in the paper). Where a normalisation follows the weights,
    this equals training at a constant rate with weight decay, see `equivalent_growth`; so train
    without weight decay, and expect the weights to grow.

    Attributes:
        end: Multiplier at the end of a run without a plateau, in (1, 1e30].
        factor: What each plateau multiplies the growth of log(rate) per step by, in (0, 1).
        patience: As of `ReduceOnPlateau`.
        threshold: As of `ReduceOnPlateau`.

    >>> from lrtune.schedules import replay
    >>> [round(m, 3) for m in replay(GrowUntilPlateau(end=16.0), [4.0, 3.0, 2.0, 1.0])]
    [1.0, 2.0, 4.0, 8.0]

    Source: Li & Arora 2020, arXiv:1910.07454, section 2.3. Their TEXP also drops the rate where
    two phases meet; this one only slows the growth.
    """

    end: float = 10.0
    factor: float = 0.1
    patience: float = 0.1
    threshold: float = 0.01

    def __post_init__(self) -> None:
        hint = "a multiplier above 1, such as 10"
        check_range("(1, 1e30]", "GrowUntilPlateau", hint, end=self.end)
        _check(self)

    def start(self, steps: int) -> Growth:
        """Return the state before the first step: multiplier 1, full growth."""
        return Growth(_watch(steps, self.patience), 0.0, rise=math.log(self.end) / steps)

    def next(self, state: Growth, loss: float) -> tuple[float, Growth]:
        """Return the multiplier for the update after this loss, and the next state."""
        watch = state.watch.add(loss, self.threshold)
        found = watch.plateaus > state.watch.plateaus
        rise = state.rise * self.factor if found else state.rise
        return math.exp(state.exponent), Growth(watch, state.exponent + rise, rise)


def _is_interval(every: object) -> bool:
    """Return whether it is a whole number of steps, or a share of the run; raise for neither."""
    if every is None:
        return False
    whole = isinstance(every, int) and not isinstance(every, bool) and every > 0
    if whole or (isinstance(every, float) and 0 < every < 1):
        return True
    raise ScheduleError(
        f"ReduceOnPlateau(every={every!r}): expected the steps between two validations, such as "
        "50, or a share of the run, such as 0.05."
    )


def _check(shape: ReduceOnPlateau | GrowUntilPlateau) -> None:
    name, of_decrease = type(shape).__name__, "a share of the decrease so far, such as 0.01"
    check_range("(0, 1)", name, "the factor of each plateau, such as 0.1", factor=shape.factor)
    patience = "[0, 1]" if getattr(shape, "on", "") == "val" else "(0, 1]"
    check_range(patience, name, "a share of the run, such as 0.1", patience=shape.patience)
    check_range("[0, 1)", name, of_decrease, threshold=shape.threshold or 0.0)


FEEDBACK: dict[str, Callable[..., Feedback[Any]]] = {
    "reduce-on-plateau": ReduceOnPlateau,
    "grow-until-plateau": GrowUntilPlateau,
}
"""The schedules that react to the loss, by name; each can be made without arguments."""


def equivalent_growth(rate: float, weight_decay: float, momentum: float = 0.0) -> float:
    """Return the growth of the rate per step that replaces weight decay on normalised weights.

    If the loss does not depend on the scale of the weights, SGD at the constant rate eta with
    weight decay lambda moves the weights in the same directions as SGD without weight decay at the
    rate eta g ** (t + 1/2) in step t. The growth g is alpha ** -2, and alpha the larger root of
    x^2 - (1 + gamma - lambda eta) x + gamma = 0; without momentum alpha = 1 - lambda eta. In
    torch's SGD the momentum buffer has to start at -(1 - alpha) w / (eta alpha) instead of 0.

    Args:
        rate: eta, > 0.
        weight_decay: lambda, >= 0.
        momentum: gamma, in [0, 1).

    Raises:
        ArgumentError: Rate times weight decay is (1 - sqrt(gamma)) ** 2 or more, where no such
            growth exists.

    >>> round(equivalent_growth(0.1, 5e-4), 8), round(equivalent_growth(0.1, 5e-4, 0.9), 6)
    (1.00010001, 1.001005)

    Source: Li & Arora 2020, arXiv:1910.07454, section 2.
    """
    decay = rate * weight_decay
    if not (0 <= decay < (1 - math.sqrt(momentum)) ** 2):
        raise ArgumentError(
            f"equivalent_growth(rate={rate!r}, weight_decay={weight_decay!r}, "
            f"momentum={momentum!r}): expected rate times weight decay in "
            "[0, (1 - sqrt(momentum)) ** 2), where weights shrink without oscillating. Lower one "
            "of them."
        )
    middle = (1 + momentum - decay) / 2
    alpha = middle + math.sqrt(middle**2 - momentum)
    return 1 / alpha**2
