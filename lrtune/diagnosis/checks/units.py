"""Units that let no gradient through: never on, or saturated."""

from collections.abc import Iterator, Sequence

import torch

from lrtune.diagnosis.observations.calls import SATURATING, Activation
from lrtune.diagnosis.observed import Observed
from lrtune.results import Finding
from lrtune.results.diagnosis import Chart

DEAD = "dead-units"

MOST_DEAD = 0.8
"""By convention: of the units of an activation. PyTorch's initial weights leave up to 0.5 of narrow
layers dead in healthy tasks; those that are broken have all of them dead."""

FEW_UNITS = 8  # of so few, chance may leave 0.8 dead, so all of them have to be

LEAST_PASSING = 0.25
"""By convention: of the outputs of a bounded activation. Healthy tasks have 0.8 to 1, trained ones
included; those that are broken 0 to 0.17."""


def check_units(seen: Observed) -> Iterator[Finding]:
    """Activations of which hardly a unit lets gradients through, in all of the first batches."""
    if seen.first_pass is None:
        return
    first = seen.first_pass.calls.activations
    hidden = _before_last_layer(seen, first)
    if any(_is_dead(one) for one in first) or any(_is_saturated(one) for one in hidden):
        passes = [seen.first_pass, *seen.more_passes]
        several = [some.calls.activations for some in passes]
        if {len(some) for some in several} != {len(first)}:
            return  # the model computes something else for each batch
        most = [_over_batches(some) for some in zip(*several, strict=True)]
        yield from _dead(most, len(passes))
        yield from _saturated(_before_last_layer(seen, most), len(passes))


def _dead(activations: Sequence[Activation], batches: int) -> Iterator[Finding]:
    dead = [one for one in activations if _is_dead(one)]
    if dead:
        worst = max(dead, key=_share_dead)
        count = int((worst.passing == 0).sum())
        more = f" {len(dead) - 1} more activations are like that." if len(dead) > 1 else ""
        yield Finding(
            DEAD,
            "warning",
            f"{count} of {len(worst.passing)} units of the {worst.function} after {worst.layer} "
            f"let no gradient through, for any row of the first {batches} batches.{more}",
            "Biases or initial weights that are too negative, or inputs that are all of one sign "
            "or far from zero.",
            "Scale the inputs to mean 0 and standard deviation 1; start biases at 0 and weights by "
            "nn.init.kaiming_normal_; BatchNorm or LayerNorm in front of the activation helps.",
            _chart(activations),
        )


def _saturated(activations: Sequence[Activation], batches: int) -> Iterator[Finding]:
    flat = [one for one in activations if _is_saturated(one)]
    if flat:
        worst = min(flat, key=lambda one: float(one.passing.mean()))
        yield Finding(
            DEAD,
            "warning",
            f"{1 - float(worst.passing.mean()):.0%} of the outputs of the {worst.function} after "
            f"{worst.layer} are saturated in the first {batches} batches: its slope there is below "
            "1 % of the largest.",
            "Inputs or weights that are too large for a bounded activation.",
            "Scale the inputs to mean 0 and standard deviation 1, start weights by "
            "nn.init.xavier_normal_, or put BatchNorm or LayerNorm in front of the activation.",
            _chart(activations),
        )


def _chart(activations: Sequence[Activation]) -> Chart:
    shares = [1 - float((one.passing > 0).double().mean()) for one in activations]
    flat = [1 - float(one.passing.mean()) for one in activations]
    lines = {"units that are never on": shares, "outputs without a gradient": flat}
    return Chart(
        "activation, from the inputs on",
        "share",
        {name: tuple(enumerate(some, start=1)) for name, some in lines.items()},
    )


def _over_batches(same: Sequence[Activation]) -> Activation:
    """One activation in several batches: for each unit, the largest share that passes."""
    most = torch.stack([one.passing for one in same]).amax(0)
    return Activation(same[0].function, same[0].layer, most)


def _before_last_layer(seen: Observed, activations: Sequence[Activation]) -> list[Activation]:
    """Those behind which there is a layer: at the end, saturated outputs may be sure ones."""
    layers = [] if seen.first_pass is None else [*seen.first_pass.calls.layers.values()]
    return [one for one in activations if layers and one.layer != layers[-1].name]


def _share_dead(one: Activation) -> float:
    return float((one.passing == 0).double().mean())


def _is_dead(one: Activation) -> bool:
    most = MOST_DEAD if len(one.passing) > FEW_UNITS else 1.0
    return one.function not in SATURATING and _share_dead(one) >= most


def _is_saturated(one: Activation) -> bool:
    return one.function in SATURATING and float(one.passing.mean()) < LEAST_PASSING
