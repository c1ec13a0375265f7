"""The largest eigenvalue of the Hessian, against what the rate allows."""

import itertools
import math
from collections.abc import Iterator, Sequence

from torch.optim import SGD

from lrtune.analysis.curves import end_level
from lrtune.diagnosis.observations.curvature import largest_rate
from lrtune.diagnosis.observations.main_training import MainTraining, run_name
from lrtune.diagnosis.trials import Trials
from lrtune.results import Finding
from lrtune.results.diagnosis import Chart

SHARPNESS = "sharpness"

JUMP = 1.5  # by convention: a loss so many times the highest one before it is a spike


def check_sharpness(seen: Trials) -> Iterator[Finding]:
    """A rate above the largest stable one, at which a run indeed diverges, spikes or rises."""
    run = seen.main_training
    if run is None or not run.states or type(run.states[0].optimizer) is not SGD:
        return
    asked = run.rates if seen.lr is None else (seen.lr,)
    ends = [_ending(run, run_name(lr)) for lr in asked]
    if not all(ends):
        return
    highest = max(seen.sharpness, key=lambda one: one.value, default=None)
    if highest is None or highest.value <= 0:
        return
    limit = largest_rate(run.states[0].optimizer, highest.value)
    if min(asked) < limit:
        return
    rates = ", ".join(f"{lr:.3g}" for lr in asked)
    yield Finding(
        SHARPNESS,
        "note" if seen.lr is None else "warning",
        f"The largest eigenvalue of the Hessian is {highest.value:.3g} (first batch, after "
        f"{highest.step} updates at lr {run.lr:.3g}), so "
        f"{type(run.states[0].optimizer).__name__} is unstable above lr {limit:.3g}. At lr {rates} "
        f"the loss {' or '.join(dict.fromkeys(ends))}.",
        "The rate is above what the curvature allows. A summed loss, inputs that are not scaled or "
        "weights that start large make the curvature large.",
        f"Begin below lr {limit:.2g}, with a warmup, or lower the curvature: scale inputs and "
        "outputs to about 1, add normalisation, take the mean of the losses and not their sum.",
        sharpness_chart(seen),
    )


def _ending(run: MainTraining, name: str) -> str:
    """What went wrong in a run, in a word; empty where nothing did."""
    if run.failed(name):
        return "diverges"
    losses = run.losses_of(name)
    if spikes(losses):
        return "spikes"
    return "rises" if end_level(losses) > losses[0] else ""


def spikes(losses: Sequence[float]) -> bool:
    """Whether a loss lies far above all that came before.

    >>> spikes([2.0, 1.0, 0.9, 9.0, 1.0]), spikes([2.0, 1.0, 0.9, 1.9, 1.0])
    (True, False)
    """
    peaks = itertools.accumulate(losses, max)
    pairs = zip(losses[1:], peaks, strict=False)
    return any(after > JUMP * before > 0 for after, before in pairs)


def sharpness_chart(seen: Trials) -> Chart | None:
    """Sharpness along the main training, and the largest that its rate allows; None where unknown.

    For a range test it is a bound that no curve was read for.
    """
    run = seen.main_training
    if run is None or not seen.sharpness:
        return None
    lines = {"sharpness": tuple((float(one.step), one.value) for one in seen.sharpness)}
    bound = largest_rate(run.states[0].optimizer, 1.0) / run.lr
    if math.isfinite(bound):
        name = f"stable at lr {run.lr:.3g} below"
        lines[name] = tuple((float(one.step), bound) for one in seen.sharpness)
    positive = all(value > 0 for line in lines.values() for _, value in line)
    return Chart("update", "largest eigenvalue", lines, log="y" if positive else "")
