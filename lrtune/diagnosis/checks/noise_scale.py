"""The batch size, against the noise of the gradient."""

import math
from collections.abc import Iterator

from lrtune.diagnosis.observations.gradient_noise import GradientNoise
from lrtune.diagnosis.trials import Trials
from lrtune.results import Finding
from lrtune.results.diagnosis import Chart

BATCH_SIZE = "batch-size"

FAR = 6.0
"""By convention: the batch lies so far outside the interval, all along the run. The scale grows as
the loss falls, so what is too large at the start may be right at the end."""


def check_batch_size(seen: Trials) -> Iterator[Finding]:
    """A batch that is much smaller or much larger than the gradient noise scale, all along."""
    run = seen.main_training
    if run is None or not run.name or run.failed(run.name) or not seen.gradient_noise:
        return
    last = seen.gradient_noise[-1]
    small = all(FAR * one.batch < one.low for one in seen.gradient_noise)
    large = all(one.batch > FAR * one.high for one in seen.gradient_noise)
    if not (small or large):
        return
    cause = (
        "Single steps are mostly noise, so many of them cancel each other out."
        if small
        else "The samples of a batch say nearly the same, so most of their cost is for nothing."
    )
    remedy = (
        "A batch several times as large, with a larger rate, learns as much with fewer updates: "
        "raise batch_size, or accumulate gradients."
        if small
        else "A smaller batch learns about as much with each update, and costs less: lower "
        "batch_size, and with SGD the rate."
    )
    yield Finding(
        BATCH_SIZE,
        "note",
        f"A batch has {last.batch} samples; the gradient noise scale after {last.step} updates at "
        f"lr {run.lr:.3g} is {_in_samples(last)}.",
        cause,
        remedy,
        _chart(seen),
    )


def _in_samples(found: GradientNoise) -> str:
    """The scale and its interval, in words.

    >>> _in_samples(GradientNoise(9, 2034.0, 729.3, math.inf, 64))
    '2,030 samples (at least 729)'
    >>> _in_samples(GradientNoise(9, 12.5, 4.21, 40.0, 256))
    '12.5 samples (90 % interval 4.21 to 40)'
    """
    if not math.isfinite(found.scale):
        return f"too large to be measured (at least {_rounded(found.low)} samples)"
    most = f"90 % interval {_rounded(found.low)} to {_rounded(found.high)}"
    if not math.isfinite(found.high):
        most = f"at least {_rounded(found.low)}"
    return f"{_rounded(found.scale)} samples ({most})"


def _rounded(number: float) -> str:
    """A number with three digits, and no power of ten."""
    return f"{float(f'{number:.3g}'):,.4g}" if number < 1000 else f"{float(f'{number:.3g}'):,.0f}"


def _chart(seen: Trials) -> Chart:
    lines = {
        "noise scale": tuple((float(one.step), one.scale) for one in seen.gradient_noise),
        "90 %: from": tuple((float(one.step), one.low) for one in seen.gradient_noise),
        "90 %: to": tuple((float(one.step), one.high) for one in seen.gradient_noise),
        "batch": tuple((float(one.step), float(one.batch)) for one in seen.gradient_noise),
    }
    known = {
        name: tuple(point for point in line if math.isfinite(point[1]))
        for name, line in lines.items()
    }
    return Chart("update", "samples", {k: line for k, line in known.items() if line}, log="y")
