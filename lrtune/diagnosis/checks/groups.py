"""Parameter groups that do not train at the rate that is being looked for."""

from collections.abc import Iterator

from lrtune.diagnosis.observed import Observed
from lrtune.errors import quantity
from lrtune.results import Finding

FIXED = "fixed-group-rate"
MULTIPLIER = "group-multiplier"
STUCK = "limited-rate"


def check_fixed_groups(seen: Observed) -> Iterator[Finding]:
    """Groups that keep a rate of their own."""
    fixed = [(place, one) for place, one in enumerate(seen.groups) if one.fixed]
    if not fixed:
        return
    rates = ", ".join(f"group {place} at {one.lr:g}" for place, one in fixed)
    share = quantity(sum(one.parameters for _, one in fixed), "parameter")
    yield Finding(
        FIXED,
        "note",
        f"{quantity(len(fixed), 'parameter group')} ({share}) keep a rate of their own, "
        f"whatever `lr` is: {rates}.",
        "",
        "To search their rate, too, make it a multiple of `lr` in the optimizer's function.",
    )


def check_multipliers(seen: Observed) -> Iterator[Finding]:
    """Multipliers in the groups that nobody multiplies the rate by."""
    for name, values in seen.task.unapplied_multipliers.items():
        several = ", ".join(f"{value:g}" for value in sorted(set(values))[:4])
        yield Finding(
            MULTIPLIER,
            "warning",
            f"{name} = {several} stands in {quantity(len(values), 'parameter group')}, but the "
            "rate there is not multiplied by it.",
            "The training loop or the scheduler of the script multiplies it, as layer decay does "
            "in timm, BEiT, MAE and ConvNeXt; lrtune has neither.",
            "Multiply it in the optimizer's function: "
            f'for g in optimizer.param_groups: g["lr"] *= g["{name}"].',
        )


def check_stuck_rates(seen: Observed) -> Iterator[Finding]:
    """Groups whose rate does not follow `lr` everywhere, as with min(lr, 0.003)."""
    for one in seen.stuck_rates:
        yield Finding(
            STUCK,
            "warning",
            f"The rate of parameter group {one.group} is {one.rate:g} at every lr from "
            f"{one.low:g} to {one.high:g}.",
            "The optimizer's function limits it, as min(lr, 0.003) does.",
            "Rates that are stated there are others than those that are trained: hand lr on as it "
            "is, and limit the search instead, limits=(low, high).",
        )
