"""Gradients that shrink or grow from layer to layer."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lrtune.diagnosis.observations.calls import SATURATING, Layer
from lrtune.diagnosis.observed import Observed
from lrtune.results import Finding
from lrtune.results.diagnosis import Chart

VANISHING = "vanishing-gradients"
EXPLODING = "exploding-gradients"

LEAST_LAYERS = 3

VANISHED = -4.0
"""By convention: decades by which the gradient shrinks on its way from the last layer to the first.
Healthy tasks have -2.6 at least, those that are broken -4.8 to -9.8. The loss of ten layers of ReLU
with PyTorch's own initial weights, -3.6, still falls with Adam."""

EXPLODED = 3.5
"""By convention: decades by which gradients grow on their way back, and outputs on their way there,
together. Healthy tasks have 1.0 at most, those that are broken 6.1 to 19."""

GROWN = 1e3
"""By convention: times by which a single layer spreads the rows of a batch. Healthy layers, trained
ones included, have 15 at most; a recurrent layer that explodes has ten million."""

LEARNED = 0.7  # by convention: of the loss of guessing

ONE_STEP = 0.75
"""By convention: of the change, from one layer to the next; what many layers do has no such step.
The layers of a second head, whose loss counts little, have one."""

KEEPING_UP = (
    "Use ReLU or GELU with nn.init.kaiming_normal_, BatchNorm or LayerNorm, or add the input of "
    "each block to its output."
)
HOLDING_DOWN = (
    "Start weights by nn.init.kaiming_normal_, put LayerNorm or BatchNorm in front of each block, "
    "or scale the output of each block down, as by 1 / sqrt(number of blocks); recurrent weights "
    "by nn.init.orthogonal_. torch.nn.utils.clip_grad_norm_ helps where single batches do it."
)


@dataclass(frozen=True)
class Trend:
    """How gradients and outputs change over the layers.

    Attributes:
        layers: Those that a gradient reaches, in the order of their calls.
        backward: The decades by which the gradient changes from the last layer to the first.
        forward: Those by which the outputs spread from the first layer to the last.
        stepwise: Whether most of `backward` lies between two layers.
    """

    layers: Sequence[Layer]
    backward: float
    forward: float
    stepwise: bool

    @classmethod
    def of(cls, layers: Sequence[Layer]) -> "Trend":
        """Measure how gradients and outputs change from layer to layer."""
        reached = [one for one in layers if one.squared > 0 and math.isfinite(one.squared)]
        norms = [math.log10(one.squared) / 2 for one in reached]
        spreads = [math.log10(one.spread) for one in reached if one.spread > 0]
        backward, steps = -total_change(norms), np.abs(np.diff(norms))
        stepwise = float(steps.max(initial=0.0)) > ONE_STEP * abs(backward)
        return cls(reached, backward, total_change(spreads), stepwise)

    @property
    def vanishes(self) -> bool:
        """Whether gradients have nearly vanished at the first layers."""
        return len(self.layers) >= LEAST_LAYERS and not self.stepwise and self.backward < VANISHED

    @property
    def explodes(self) -> bool:
        """Whether gradients grow on their way back."""
        together = self.backward + max(0.0, self.forward)
        grows = self.backward > 0 and together > EXPLODED
        return len(self.layers) >= LEAST_LAYERS and not self.stepwise and grows

    @property
    def factor(self) -> float:
        """That by which the gradient changes at each layer, above 1."""
        return float(10 ** (abs(self.backward) / (len(self.layers) - 1)))

    @property
    def chart(self) -> Chart:
        """The norms of gradients and outputs by layer."""
        places = enumerate(self.layers, start=1)
        rows = [(float(place), math.sqrt(one.squared), one.spread) for place, one in places]
        lines = {
            "gradient at its outputs": tuple((place, norm) for place, norm, _ in rows),
            "spread of its outputs": tuple((place, wide) for place, _, wide in rows if wide > 0),
        }
        return Chart("layer, from the inputs on", "norm", lines, "y")


def check_depth(seen: Observed) -> Iterator[Finding]:
    """The norms of the gradients at the outputs of the layers, in the order of their calls."""
    trend = Trend.of(seen.layers)
    grown = [one for one in trend.layers if one.spread > GROWN * one.inward > 0]
    if not (trend.vanishes or trend.explodes or grown) or _has_learned(seen):
        return
    if trend.vanishes:
        yield _vanishing(seen, trend)
    elif trend.explodes:
        yield _exploding(trend)
    else:
        one = max(grown, key=lambda layer: layer.spread / layer.inward)
        yield Finding(
            EXPLODING,
            "warning",
            f"The outputs of the layer with {one.name} spread {one.spread / one.inward:.1g} times "
            "as far as its inputs, and gradients grow alike.",
            "Recurrent weights that are too large for so many steps, or initial weights for so "
            "many inputs.",
            HOLDING_DOWN,
        )


def _vanishing(seen: Observed, trend: Trend) -> Finding:
    calls = [] if seen.calls is None else seen.calls.activations
    if sum(one.function in SATURATING for one in calls) >= len(trend.layers) // 2:
        cause = "Each sigmoid or tanh lets a part of the gradient through, a quarter or all of it."
    elif trend.forward < VANISHED / 2:
        cause = "The initial weights are too small for so many layers: outputs shrink as well."
    else:
        cause = "Many layers stand one after the other, and nothing keeps gradients up."
    return Finding(
        VANISHING,
        "warning",
        f"On its way back through {len(trend.layers)} layers the gradient shrinks to "
        f"{10**trend.backward:.1g} of what it is at the last one, by a factor of "
        f"{trend.factor:.2g} at each.",
        cause,
        KEEPING_UP,
        trend.chart,
    )


def _exploding(trend: Trend) -> Finding:
    outputs = f", and outputs grow {10**trend.forward:.1g} times" if trend.forward > 1 else ""
    large = (
        "The initial weights are too large for so many layers, or blocks are added up without a "
        "norm."
    )
    norms = "Many layers with norms stand one after the other, without a way around them."
    return Finding(
        EXPLODING,
        "warning",
        f"On its way back through {len(trend.layers)} layers the gradient grows "
        f"{10**trend.backward:.1g} times, by a factor of {trend.factor:.2g} at each{outputs}.",
        large if outputs else norms,
        HOLDING_DOWN,
        trend.chart,
    )


def _has_learned(seen: Observed) -> bool:
    """Whether the model is clearly better than guessing, as one that was trained before.

    Sure answers make outputs large, and the gradients of layers uneven.
    """
    guess, first = seen.task.guess("train"), seen.first_pass
    if guess is None or first is None:
        return False
    kind = seen.task.loss_kind
    floor = kind.floor or 0.0
    return first.loss - floor < LEARNED * (guess.loss * kind.summed - floor)


def total_change(values: Sequence[float]) -> float:
    """Return the change from the first value to the last, by the median slope between any two.

    So single values do not count.

    >>> total_change([0.0, -1.0, -2.0, 5.0, -4.0])
    -4.0
    """
    if len(values) < 2:
        return 0.0
    numbers = np.asarray(values)
    one, other = np.triu_indices(len(numbers), k=1)
    slopes = (numbers[other] - numbers[one]) / (other - one)
    return float(np.median(slopes)) * (len(numbers) - 1)
