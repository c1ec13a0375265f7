"""Whether a model that has learned something in train mode has done so in eval mode."""

from collections.abc import Iterator

from lrtune.diagnosis.trials import Trials
from lrtune.results import Finding

EVAL_DIFFERS = "eval-differs"

LEAST_FALL = 3.0
"""By convention: times the scatter of the batches, so that there is something to compare."""

SHARE = 0.5
"""By convention: of the fall in train mode, by which the loss in eval mode lies behind. Healthy
tasks have 0.3 at most, after a dropout of 0.8; broken ones have 1.3 and more."""

WORSE = 10.0
"""By convention: times the scatter of the batches, by which eval mode has become worse than any
loss before. Healthy tasks have 0 at most, broken ones 15 and more."""


def check_modes(seen: Trials) -> Iterator[Finding]:
    """The loss of the same training batches after a short training, in both modes."""
    modes, trained = seen.modes, seen.main_training
    if modes is None or trained is None:
        return
    fall = modes.train[0] - modes.train[1]
    in_eval = modes.evaluated[0] - modes.evaluated[1]
    behind = modes.evaluated[1] - modes.train[1]
    learned = fall > LEAST_FALL * modes.scatter
    lost = learned and in_eval < SHARE * fall and behind > SHARE * fall
    worse = modes.evaluated[1] - max(modes.train[0], modes.evaluated[0]) > WORSE * modes.scatter
    if lost or (worse and behind > WORSE * modes.scatter):
        yield Finding(
            EVAL_DIFFERS,
            "warning",
            f"After {len(trained.losses)} updates at lr {trained.lr:g} the loss of the same "
            f"training batches has gone from {modes.train[0]:.4g} to {modes.train[1]:.4g} in "
            f"train mode, but from {modes.evaluated[0]:.4g} to {modes.evaluated[1]:.4g} in eval "
            "mode.",
            "BatchNorm whose statistics do not follow (a tiny momentum, batches of one or two), "
            "strong dropout in front of a norm, or a forward() that does something else where "
            "model.training is False.",
            "Larger batches, momentum=0.1, or GroupNorm or LayerNorm instead of BatchNorm; dropout "
            "behind the last norm; look for `training` in forward().",
        )
