"""The batch size, against the noise of the gradient."""

import math
from collections.abc import Iterator

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
    high = f"{last.high:.3g}" if math.isfinite(last.high) else "any size"
    scale = f"{last.scale:.3g}" if math.isfinite(last.scale) else "too large to be measured"
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
        f"lr {run.lr:.3g} is {scale} (90 % interval {last.low:.3g} to {high}).",
        cause,
        remedy,
        _chart(seen),
    )


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
