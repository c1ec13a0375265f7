"""Inputs whose scale is far from one."""

import math
from collections.abc import Iterator

from lrtune.diagnosis.observed import Observed
from lrtune.errors import quantity
from lrtune.results import Finding

UNSCALED = "unscaled-inputs"

HIGH, LOW = 8.0, 0.01
"""By convention: scales between these train well with the usual initial weights. Healthy tasks
have 0.05 to 3; pixels of 0 ... 255 have 100 to 170, those divided by 255 twice 0.002."""
APART = 1000.0  # by convention: features whose scales differ by more; pixels differ by 22


def check_scale(seen: Observed) -> Iterator[Finding]:
    """First layers whose inputs are far from one, and no normalisation that would mend it."""
    for one in seen.first_layers:
        far = not LOW <= one.scale <= HIGH and not one.normed
        apart = one.features > 1 and one.high >= APART * one.low
        if not math.isfinite(one.scale) or not (far or apart) or not one.scale:
            continue
        spread = ""
        if one.features > 1 and one.high >= 10 * one.low:
            spread = (
                f" Its {quantity(one.features, 'feature')} have scales from {one.low:.3g} to "
                f"{one.high:.3g}."
            )
        layer = f"The layer {one.name!r}" if one.name else "The model"
        yield Finding(
            UNSCALED,
            "warning",
            f"{layer} reads inputs of scale {one.scale:.3g} (root mean square without zeros); "
            f"about 1 is usual.{spread}",
            "The data are not normalised: pixels from 0 to 255, raw columns of a table, or a "
            "division that was made twice.",
            "Normalise with the mean and the standard deviation of the training data, feature by "
            "feature: x = (x - mean) / std; for images, x / 255 first. Until then the best rate "
            "is very small or very large, and the first layer learns at another pace than the "
            "others.",
        )
        return
