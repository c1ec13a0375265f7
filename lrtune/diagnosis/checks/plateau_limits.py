"""What no rate mends: a model that is too small, that learns by heart, or that has converged."""

from collections.abc import Iterator

from lrtune.diagnosis.checks.plateau_words import (
    GAIN,
    LARGE,
    continuations_chart,
    stands,
    text_of,
    validation_chart,
    where,
    worthwhile,
)
from lrtune.diagnosis.observations.continuations import AVERAGED, HIGHER, LARGER, LOWER
from lrtune.diagnosis.observations.full_gradient import GRADIENT_BATCHES
from lrtune.diagnosis.observations.plateau import Plateau
from lrtune.errors import quantity
from lrtune.results import Finding

OVERFITTING = "overfitting"
CAPACITY = "capacity"
CONVERGED = "converged"

TWICE = 2.0
"""By convention: a model is too small if a wider one gains so many times what a lower rate does."""


def check_overfitting(seen: Plateau) -> Iterator[Finding]:
    """A training loss that falls while the validation loss rises."""
    if seen.stall.failed:
        return
    turned = seen.turn
    if turned is not None:
        yield Finding(
            OVERFITTING,
            "warning",
            f"The validation loss is lowest at step {turned.step:,.0f}, at {turned.lowest:.4g}, "
            f"and has risen to {turned.last:.4g} since, while the training loss went from "
            f"{seen.trained_at(turned.step):.4g} to {seen.level:.4g}.",
            "The model learns the training samples by heart.",
            f"Keep the weights of step {turned.step:,.0f} (early stopping), or take more data, "
            "augmentation, weight decay, dropout or a smaller model.",
            validation_chart(seen),
        )
    elif seen.rises is not None:
        val, train = seen.rises
        yield Finding(
            OVERFITTING,
            "warning",
            f"Within {quantity(seen.steps, 'update')} from here the validation loss rises by "
            f"{text_of(val)}, while the training loss falls by {text_of(train)}; it overfits since "
            "before this step.",
            "The model learns the training samples by heart.",
            "Keep earlier weights (early stopping), or take more data, augmentation, weight decay, "
            "dropout or a smaller model.",
        )


def check_capacity(seen: Plateau) -> Iterator[Finding]:
    """A training loss that stands, while that of a wider model falls."""
    if seen.stall.failed or seen.at_nothing or not seen.learned or seen.solved:
        return
    lower, wider = seen.effect(LOWER).best.mean, seen.wider
    least = max(LARGE * seen.scale, TWICE * lower)
    if wider is not None and wider.gain.above(least) and stands(seen, wider.gain.mean):
        yield Finding(
            CAPACITY,
            "warning",
            f"The training loss is {seen.level:.4g}. With width={wider.width} in place of "
            f"{wider.usual}, the same training ends {text_of(wider.gain)} lower after "
            f"{quantity(wider.steps, 'update')}; rate / 10 gains {max(lower, 0):.2g}.",
            "The model is too small for the data.",
            f"Take a wider or deeper model, such as width={wider.width}.",
        )


def check_converged(seen: Plateau) -> Iterator[Finding]:
    """A run that nothing lowers any more."""
    if seen.stall.failed or seen.at_nothing or not seen.learned or seen.solved:
        return
    least = GAIN * seen.scale
    ways = (LOWER, AVERAGED, HIGHER, LARGER)
    if not (stands(seen, least) and seen.falls.below(least)):
        return
    if not all(seen.affords(way) and seen.effect(way).idle(least) for way in ways):
        return
    if all(seen.effect(way).lowers(worthwhile(seen)) for way in (LOWER, AVERAGED, LARGER)):
        return  # it dances
    if not seen.gradient_vanishes:
        return
    freed = seen.held_by_decay
    decays = freed is not None and freed.above(least)
    yield Finding(
        CONVERGED,
        "note",
        f"{where(seen)} neither rate / 10 nor rate x 3, averaged weights or batch x 4 lower it by "
        f"{least:.2g}. The gradient of {GRADIENT_BATCHES} batches is within its noise of zero."
        + (f" Without weight decay it falls by {text_of(freed)}." if freed and decays else ""),
        "The weights are at a minimum of this model on these data"
        + (", where the weight decay holds them." if decays else "."),
        ("Lower the weight decay, if the training loss matters. " if decays else "")
        + "Only another model, other data or another loss get lower.",
        continuations_chart(seen, LARGER),
    )
