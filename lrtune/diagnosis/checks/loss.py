"""How the loss of a batch comes from those of its rows, and how batches are weighed."""

from collections import Counter
from collections.abc import Iterator

from lrtune.diagnosis.observed import Observed
from lrtune.results import Finding
from lrtune.task.drift import Drift

SUMMED = "summed-loss"
NOT_A_MEAN = "loss-of-the-batch"
UNEVEN = "uneven-rows"
DRIFTING = "drifting-loss"
SHARED = "shared-counter"


def check_reduction(seen: Observed) -> Iterator[Finding]:
    """A loss that is a sum over its batch, or that cannot be told row by row."""
    rows = seen.task.batch_examples
    if seen.task.loss_reduction == "sum":
        yield Finding(
            SUMMED,
            "note",
            f"The loss of a batch of {rows} rows is the sum of those of its rows.",
            "A loss with reduction='sum', or one that is not divided by the batch size.",
            "lrtune divides validation losses by the number of rows. The best rate then depends "
            "on the batch size; with a mean it depends on it less.",
        )
    elif seen.task.loss_reduction == "neither":
        yield Finding(
            NOT_A_MEAN,
            "note",
            f"The loss of a batch of {rows} rows is neither the mean nor the sum of those of its "
            "halves.",
            "A loss of pairs or of whole batches, class weights or padding in an objective, or one "
            "that draws.",
            "It is taken for a mean, so a validation loss depends on how the data are cut into "
            "batches. To weigh them otherwise, give batch_weight= to Task.",
        )


def check_rows(seen: Observed) -> Iterator[Finding]:
    """Tensors of a batch that differ in their number of rows."""
    counts = Counter(seen.task.batch_rows)
    if len(counts) < 2 or seen.task.batch_weight is not None or seen.task.weighs_targets:
        return
    tied = len({number for _, number in counts.most_common(2)}) == 1
    rows = ", ".join(f"{number} of {count} rows" for count, number in counts.most_common())
    yield Finding(
        UNEVEN,
        "warning" if tied else "note",
        f"The tensors of a batch differ in their rows: {rows}.",
        "The batch holds something besides its samples, such as weights of classes.",
        f"It is weighed as {seen.task.batch_examples} samples. If that is wrong, give "
        "batch_weight= to Task, such as lambda batch: len(batch['y']).",
    )


def check_drift(seen: Observed) -> Iterator[Finding]:
    """A loss that changes while nothing is trained."""
    drift = seen.task.drift
    if drift is not None and drift.shared:
        yield shared_counter(drift)
    elif drift is not None:
        count = len(drift.tried)
        yield Finding(
            DRIFTING,
            "note",
            f"The loss of one batch changes by {drift.within(count):+.3g} in {count} passes, while "
            "nothing is trained.",
            "A weight that grows with the step, or a counter in the model.",
            "Training losses are judged without that change.",
        )


def shared_counter(drift: Drift) -> Finding:
    """What to say of a loss that changes in a way that all runs share."""
    count = len(drift.tried)
    return Finding(
        SHARED,
        "warning",
        f"The loss of one batch changes by {drift.within(count):+.3g} in {count} passes, while "
        "nothing is trained, and a new copy of the model goes on from there.",
        "Something that all runs share counts along, such as a variable of the objective: so each "
        "run moves the losses of the others.",
        "Count in the model or in a loss module, of which every run has a copy.",
    )
