"""The checks, in the order in which their findings are listed."""

from collections.abc import Callable, Iterator

from lrtune.diagnosis.checks import groups, loss, order, validation
from lrtune.diagnosis.observed import Observed
from lrtune.results import Finding

Check = Callable[[Observed], Iterator[Finding]]
"""Yields what it finds; a pure function."""

CHECKS: dict[Check, tuple[str, ...]] = {
    order.check_order: (order.UNSHUFFLED, order.SAME_EPOCHS, order.SAME_SEEDS),
    loss.check_reduction: (loss.SUMMED, loss.NOT_A_MEAN),
    loss.check_rows: (loss.UNEVEN,),
    loss.check_drift: (loss.DRIFTING, loss.SHARED),
    validation.check_draws: (validation.RANDOM,),
    validation.check_modes: (validation.TRAINS,),
    validation.check_count: (validation.FEW,),
    groups.check_multipliers: (groups.MULTIPLIER,),
    groups.check_fixed_groups: (groups.FIXED,),
}
"""Each check with the names of what it can find."""

OF_VALIDATION = (validation.check_draws, validation.check_modes, validation.check_count)
"""Those that look at nothing but validation data, which a range test does not use."""
