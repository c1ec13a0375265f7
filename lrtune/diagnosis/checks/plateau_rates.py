"""A rate that is too high, too low, or at nothing, and the floor that a rate and its noise set."""

import math
from collections.abc import Iterator

from scipy import ndimage

from lrtune.diagnosis.checks.plateau_words import (
    GAIN,
    LARGE,
    SHARE,
    continuations_chart,
    lower_rate,
    place,
    stands,
    text_of,
    where,
    worthwhile,
)
from lrtune.diagnosis.observations.continuations import (
    AGAIN,
    AVERAGED,
    HIGHER,
    HIGHEST,
    LARGER,
    LOWER,
    REST,
    UNTRAINED,
)
from lrtune.diagnosis.observations.curvature import largest_rate
from lrtune.diagnosis.observations.plateau import Plateau
from lrtune.diagnosis.trials import STUCK, Trials
from lrtune.errors import quantity
from lrtune.results import Finding

TOO_HIGH = "rate-too-high"
NOISE_FLOOR = "noise-floor"
TOO_LOW = "rate-too-low"
ENDED_EARLY = "ended-early"

MUCH = 0.1
"""By convention: a rate is too high, whatever else helps, if a tenth of it gains so much."""

SLOW = 0.03
"""By convention: the share of the fall that rate x 10 has to gain; 4 % and more at a hundredth of
the best rate."""

FASTER = 2.0
"""By convention: rate x 10 is faster than rate x 3 if it gains so many times as much."""

NEAR = 0.9
"""By convention: of the largest stable rate, where training is at the edge of what is stable."""


ROSE = 2.0
"""By convention: a loss rose that came to so many times its start above it, the floor being 0."""

FIVE = 5  # by convention: updates of whose losses the median is looked at


def check_too_high(seen: Plateau) -> Iterator[Finding]:
    """A run that diverged, or rose far, or that a tenth of its rate lowers at once and later."""
    if seen.stall.failed:
        yield _diverged(seen)
    elif not seen.at_nothing:
        found = [*(_overshoots(seen) if seen.learned else _never_learned(seen))]
        yield from found or _rose(seen)


def _diverged(seen: Plateau) -> Finding:
    stall = seen.stall
    return Finding(
        TOO_HIGH,
        "warning",
        f"The loss became NaN or infinite at step {stall.step - 1:,}, at a rate of "
        f"{stall.rates[-1]:.3g}; it began at {stall.losses[0]:.4g}.",
        "The rate is too high.",
        lower_rate(stall.peak),
    )


def _rose(seen: Plateau) -> Iterator[Finding]:
    """A run whose loss came to lie far above its start, whether it came back or not."""
    losses, guess = seen.stall.losses, seen.guess
    if len(losses) < FIVE:
        return
    calm = ndimage.median_filter(losses, FIVE, mode="nearest")
    untrained = float(seen.losses(UNTRAINED).mean())
    start, top = max(untrained, guess), float(calm.max())
    beside = abs(start - (seen.task.loss_kind.floor or 0.0))
    if top - start < ROSE * beside:
        return
    yield Finding(
        TOO_HIGH,
        "warning",
        f"The loss rose from {untrained:.4g} to {top:.4g} at step {calm.argmax():,} (medians of "
        f"{FIVE} updates); at {place(seen)} it is {seen.level:.4g}.",
        "The first updates at this rate throw the weights far away.",
        f"{lower_rate(seen.stall.peak)} A warm-up helps where a high rate is right later.",
    )


def _never_learned(seen: Plateau) -> Iterator[Finding]:
    """A run that never fell, or lies above its start, while lower rates fall."""
    said = (
        f"At {place(seen)} and a rate of {seen.stall.lr:.3g} the loss is {seen.level:.4g}, no "
        f"lower than {seen.start:.4g}, that of guessing or without training."
    )
    fresh = not len(seen.stall.losses)  # a checkpoint may be of weights that have just begun
    if fresh and seen.effect(AGAIN, than=REST).late.above(seen.least):
        return
    lower = seen.effect(LOWER).best
    if lower.above(GAIN * seen.scale):
        said += f" Rate / 10 lowers it by {text_of(lower)} within {seen.steps} updates."
        share = 0.1
    elif (slower := seen.restarted) is not None:
        share, fall = slower
        said += (
            f" From the start on, {share:g} times the rate lowers it by {text_of(fall)} within "
            f"{seen.steps} updates."
        )
    else:
        return
    yield Finding(
        TOO_HIGH,
        "warning",
        said,
        "Updates at this rate throw the weights to where they no longer learn.",
        f"Train at {share * seen.stall.peak:.2g}, or let lrtune.search find the rate.",
    )


def _overshoots(seen: Plateau) -> Iterator[Finding]:
    lower, least = seen.effect(LOWER), LARGE * seen.scale
    if not (lower.early.mean >= least and lower.late.above(least)):
        return
    if not stands(seen, lower.best.mean / SHARE):
        return
    if signs := list(_signs_of_height(seen)):
        yield Finding(
            TOO_HIGH,
            "warning",
            f"{where(seen)} rate / 10 lies {text_of(lower.early)} lower at once, and "
            f"{text_of(lower.late)} lower later. {' '.join(signs)}",
            f"The rate of {seen.stall.lr:.3g} is too high: the weights overshoot.",
            lower_rate(seen.stall.lr),
            continuations_chart(seen),
        )


def _signs_of_height(seen: Plateau) -> Iterator[str]:
    """What tells a rate that is too high from one that is high beside the noise only."""
    lower, higher = seen.effect(LOWER), seen.effect(HIGHER)
    if seen.spikes:
        yield f"The same again has {quantity(seen.spikes, 'spike')}."
    if higher.failed:
        yield f"Rate x 3 diverges in {higher.failed} of {len(seen.seeds)} orders."
    limit = math.inf if seen.sharpness <= 0 else largest_rate(seen.optimizer, seen.sharpness)
    if seen.stall.lr > NEAR * limit:
        yield (
            f"The sharpness is {seen.sharpness:.3g}, which allows for rates up to {limit:.2g} only."
        )
    larger = seen.effect(LARGER).best.mean if seen.affords(LARGER) else math.inf
    if larger < SHARE * lower.best.mean:
        yield f"Batch x 4 gains {max(larger, 0):.2g} only, so it is not the noise."
    elif lower.best.mean >= MUCH * seen.scale and stands(seen, lower.best.mean):
        yield f"That is {100 * lower.best.mean / seen.scale:.0f} % of the whole fall."


def check_noise_floor(seen: Plateau) -> Iterator[Finding]:
    """A run that dances around the minimum: all that lowers the noise lowers the loss."""
    if seen.stall.failed or seen.at_nothing or not seen.learned:
        return
    least = worthwhile(seen)
    ways = (LOWER, AVERAGED, LARGER)  # the costly one is the last
    if not all(seen.affords(way) and seen.effect(way).lowers(least) for way in ways):
        return
    gains = [seen.effect(way).best for way in ways]
    if not stands(seen, min(one.mean for one in gains)):
        return
    yield Finding(
        NOISE_FLOOR,
        "warning",
        f"{where(seen)} rate / 10 lowers it by {text_of(gains[0])}, averaged weights by "
        f"{text_of(gains[1])}, and batch x 4 by {text_of(gains[2])}.",
        "The weights dance around the minimum, at a distance that the noise of the batches and the "
        "rate decide.",
        "Let the rate fall: a schedule that ends near 0 (cosine, linear), or rate / 10 from here "
        "on. A larger batch or averaged weights (EMA, torch.optim.swa_utils) do the same.",
        continuations_chart(seen, LARGER),
    )


def check_too_low(seen: Plateau) -> Iterator[Finding]:
    """A run that three times the rate lowers faster, and ten times the rate faster still."""
    if seen.stall.failed or seen.at_nothing:
        return
    higher, lower = seen.effect(HIGHER), seen.effect(LOWER)
    if not higher.late.above(0) or not lower.late.mean < 0:
        return
    if not seen.affords(HIGHEST):
        return
    highest = seen.effect(HIGHEST)
    more = highest.late.mean > FASTER * higher.late.mean
    if not (more and highest.late.above(SLOW * seen.scale)):
        return
    again = seen.effect(AGAIN, than=REST).late
    yield Finding(
        TOO_LOW,
        "warning",
        f"{where(seen)} it falls by {text_of(again)}; rate x 3 falls {text_of(higher.late)} lower "
        f"than that, and rate x 10 {text_of(highest.late)} lower.",
        f"The rate of {seen.stall.lr:.3g} is too low: a rate more than three times as high is "
        "better.",
        f"Train at {10 * seen.stall.lr:.2g} or above, or let lrtune.search find the rate.",
        continuations_chart(seen, HIGHEST),
    )


def check_moved(seen: Trials) -> Iterator[Finding]:
    """Weights that stay where they are, while one batch is learned at other rates."""
    if seen.lr is None or not seen.moved < STUCK or seen.learns or not seen.one_batch.learned:
        return
    yield Finding(
        TOO_LOW,
        "warning",
        f"From the first update on the weights moved by {seen.moved:.2g} of their norm only, and "
        "the loss has not fallen; on the first batch alone other rates lower it.",
        f"The rate of {seen.lr:.3g} is too low by orders of magnitude, or its schedule holds it "
        "at 0.",
        "Let lrtune.search find the rate.",
    )


def check_ended_early(seen: Plateau) -> Iterator[Finding]:
    """A run whose rate is at nothing, and that falls on when it is given a rate again."""
    stall = seen.stall
    if stall.failed or not seen.at_nothing:
        return
    back = {way.name: seen.effect(way, than=REST) for way in (LOWER, AGAIN)}
    name, best = max(back.items(), key=lambda one: one[1].best.mean)
    if not best.lowers(LARGE * seen.scale):
        return
    rate = stall.peak * (LOWER.factor if name == LOWER.name else 1.0)
    yield Finding(
        ENDED_EARLY,
        "warning",
        f"The rate has gone down to {stall.lr:.2g}, {100 * stall.lr / stall.peak:.2g} % of its "
        f"peak, with the loss at {seen.level:.4g}. At {rate:.2g} it falls by {text_of(best.best)} "
        f"within {quantity(seen.steps, 'update')}.",
        "The schedule ended before the training did: it is spread over too few steps, or its "
        "scheduler is stepped too often.",
        "Spread the schedule over all updates; call scheduler.step() once for each step that it "
        "counts.",
        continuations_chart(seen),
    )
