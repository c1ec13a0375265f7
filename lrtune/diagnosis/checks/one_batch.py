"""Whether one batch can be overfitted."""

import math
from collections.abc import Iterator

from lrtune.diagnosis.trials import Trials
from lrtune.errors import quantity
from lrtune.results import Finding
from lrtune.results.diagnosis import Chart

CANNOT = "cannot-overfit-one-batch"


def check_one_batch(seen: Trials) -> Iterator[Finding]:
    """A batch that no rate learns by heart, by Adam or by the task's own optimizer."""
    tried = seen.one_batch
    if tried.learned or tried.slow or tried.cut or _has_few_weights(seen):
        return
    known = math.isfinite(tried.guess)
    guessing = f"; the best constant prediction has {tried.guess:.4g}" if known else ""
    reached = "Every run failed"
    if math.isfinite(tried.best):
        reached = f"The lowest loss was {tried.best:.4g}"
    lines = {
        name: tuple((float(step), loss) for step, loss in enumerate(curve) if math.isfinite(loss))
        for name, curve in tried.curves.items()
    }
    if known:
        last = float(max(map(len, tried.curves.values())) - 1)
        lines["guessing"] = ((0.0, tried.guess), (last, tried.guess))
    yield Finding(
        CANNOT,
        "warning",
        f"Trained on its first batch alone, the model does not learn it: from {tried.start:.4g}, "
        f"with {' and '.join(_tried(tried.curves))}. {reached}{guessing}.",
        "The outputs do not depend on the inputs (a detached, zeroed, averaged or dead part), "
        "or the targets change at each call, or something holds the weights back (weight decay, "
        "dropout, a bound on the outputs).",
        "Print the outputs for two different samples, and follow where they become equal. Then "
        "train on this batch until its loss is near zero, before anything else.",
        Chart("update", "loss of the batch", lines),
    )


def _has_few_weights(seen: Trials) -> bool:
    """Whether the batch has more samples than the model has weights to learn them by heart."""
    weights = seen.task.new_model().parameters()
    return sum(one.numel() for one in weights if one.requires_grad) < seen.task.batch_examples


def _tried(curves: dict[str, tuple[float, ...]]) -> list[str]:
    """Optimizers with their rates and updates, in words.

    >>> _tried({"Adam, lr 0.1": (2.0, 2.0), "Adam, lr 0.01": (2.0, 1.9), "SGD, lr 1": (2.0,)})
    ['Adam (lr 0.1, 0.01; 2 updates)', 'SGD (lr 1; 1 update)']
    """
    rates: dict[str, list[str]] = {}
    updates: dict[str, int] = {}
    for name, curve in curves.items():
        optimizer, rate = name.split(", lr ")
        rates.setdefault(optimizer, []).append(rate)
        updates[optimizer] = max(updates.get(optimizer, 0), len(curve))
    return [
        f"{one} (lr {', '.join(some)}; {quantity(updates[one], 'update')})"
        for one, some in rates.items()
    ]
