"""The checks, in the order in which their findings are listed."""

from collections.abc import Callable, Iterator

from lrtune.diagnosis.checks import (
    data,
    depth,
    direction,
    groups,
    informative,
    labels,
    leakage,
    loss,
    modes,
    noise_scale,
    one_batch,
    order,
    outputs,
    parameters,
    plateau_limits,
    plateau_rates,
    repeating,
    scale,
    shared,
    sharpness,
    start_loss,
    units,
    validation,
)
from lrtune.diagnosis.observations.plateau import Plateau
from lrtune.diagnosis.observed import Observed
from lrtune.diagnosis.trials import Trials
from lrtune.results import Finding

Check = Callable[[Observed], Iterator[Finding]]
Trial = Callable[[Trials], Iterator[Finding]]
Continuation = Callable[[Plateau], Iterator[Finding]]
"""Each yields what it finds; a pure function."""

CHECKS: dict[Check, tuple[str, ...]] = {  # they cost some forward and backward passes
    data.check_odd_numbers: (data.NONFINITE,),
    data.check_constant: (data.CONSTANT,),
    leakage.check_leakage: (leakage.LEAKAGE,),
    scale.check_scale: (scale.UNSCALED,),
    start_loss.check_start: (start_loss.START,),
    labels.check_batches: (labels.SINGLE_CLASS,),
    labels.check_imbalance: (labels.IMBALANCE,),
    informative.check_constant_targets: (informative.UNINFORMATIVE,),
    data.check_last_batch: (data.LAST_OF_ONE,),
    direction.check_sign: (direction.WRONG_SIGN,),
    outputs.check_broadcast: (outputs.BROADCAST,),
    outputs.check_activation: (outputs.ACTIVATION,),
    parameters.check_gradients: (parameters.NO_GRADIENT,),
    parameters.check_optimizer: (parameters.NOT_OPTIMIZED,),
    parameters.check_loss_parameters: (parameters.LOSS_PARAMETERS,),
    repeating.check_repeats: (repeating.NONDETERMINISTIC,),
    repeating.check_state: (repeating.STATE,),
    units.check_units: (units.DEAD,),
    depth.check_depth: (depth.VANISHING, depth.EXPLODING),
    order.check_order: (order.UNSHUFFLED, order.SAME_EPOCHS, order.SAME_SEEDS),
    order.check_repeated_batches: (order.REPEATED,),
    loss.check_reduction: (loss.SUMMED, loss.NOT_A_MEAN),
    loss.check_rows: (loss.UNEVEN,),
    loss.check_drift: (loss.DRIFTING, loss.SHARED),
    validation.check_draws: (validation.RANDOM,),
    validation.check_modes: (validation.TRAINS,),
    validation.check_count: (validation.FEW,),
    shared.check_repeats: (shared.SHARED,),
    groups.check_multipliers: (groups.MULTIPLIER,),
    groups.check_fixed_groups: (groups.FIXED,),
    groups.check_stuck_rates: (groups.STUCK,),
}
"""Each check with the names of what it can find."""

TRIALS: dict[Trial, tuple[str, ...]] = {
    one_batch.check_one_batch: (one_batch.CANNOT,),
    plateau_rates.check_moved: (plateau_rates.TOO_LOW,),
    modes.check_modes: (modes.EVAL_DIFFERS,),
    parameters.check_zero_gradients: (parameters.NO_GRADIENT,),
    informative.check_informative: (informative.UNINFORMATIVE,),
    sharpness.check_sharpness: (sharpness.SHARPNESS,),
    noise_scale.check_batch_size: (noise_scale.BATCH_SIZE,),
}
"""Those that train some dozen updates, which only `diagnose` makes; with their names, as above."""

CONTINUATIONS: dict[Continuation, tuple[str, ...]] = {
    plateau_rates.check_too_low: (plateau_rates.TOO_LOW,),  # first: later ones may spend its budget
    plateau_rates.check_too_high: (plateau_rates.TOO_HIGH,),
    plateau_rates.check_noise_floor: (plateau_rates.NOISE_FLOOR,),
    plateau_limits.check_overfitting: (plateau_limits.OVERFITTING,),
    plateau_rates.check_ended_early: (plateau_rates.ENDED_EARLY,),
    plateau_limits.check_capacity: (plateau_limits.CAPACITY,),
    plateau_limits.check_converged: (plateau_limits.CONVERGED,),
}
"""Those that continue a run in several ways; with their names, as above."""

OF_VALIDATION = (
    validation.check_draws,
    validation.check_modes,
    validation.check_count,
    leakage.check_leakage,
)
"""Those that look at nothing but validation data, which a range test does not use."""
