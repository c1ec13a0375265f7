"""Whether the order of the training data differs by seed and by epoch."""

from collections.abc import Iterator

from lrtune.diagnosis.observed import Observed
from lrtune.results import Finding

UNSHUFFLED = "unshuffled"
SAME_SEEDS = "same-order-for-seeds"
SAME_EPOCHS = "same-order-in-epochs"
REPEATED = "repeated-batches"


def check_order(seen: Observed) -> Iterator[Finding]:
    """An order that is the same in every epoch, or for every seed."""
    orders = seen.orders
    if max(map(len, orders.values())) <= 1:  # one batch has no order
        return
    seeds, epochs = _alike(seen)
    batches = f"The first {len(orders[0, 0])} batches are the same"
    if seeds and epochs:
        yield Finding(
            UNSHUFFLED,
            "note",
            f"{batches} in every epoch and for every seed.",
            "The loader does not shuffle.",
            "Shuffle the training data (DataLoader(..., shuffle=True)), unless their order is "
            "meant: unshuffled data often train worse, and seeds then differ less than they "
            "would.",
        )
    elif epochs:
        yield Finding(
            SAME_EPOCHS,
            "warning",
            f"{batches} in every epoch.",
            "The sampler seeds itself, and nobody tells it the epoch.",
            "Give the sampler a method set_epoch(epoch), which lrtune calls, or use "
            "DataLoader(..., shuffle=True).",
        )
    elif seeds:
        yield Finding(
            SAME_SEEDS,
            "note",
            f"{batches} for every seed.",
            "The sampler seeds itself, or a loader keeps its own order.",
            "Trainings of several seeds then differ by weights and random layers alone; "
            "DataLoader(..., shuffle=True) gives each seed an order of its own.",
        )


def check_repeated_batches(seen: Observed) -> Iterator[Finding]:
    """Batches that come several times in an epoch."""
    read = {"batches of an epoch": seen.orders[0, 0] if seen.task.uses_loader else ()}
    read["validation batches"] = seen.validation_digests
    for which, first in read.items():
        again = len(first) - len(set(first))
        if not again:
            continue
        yield Finding(
            REPEATED,
            "warning",
            f"Of the first {len(first)} {which}, {again} repeat an earlier one.",
            "An IterableDataset is read by several workers, each of which yields all of it; or the "
            "loader gives one batch again and again.",
            "Let each worker read its share (torch.utils.data.get_worker_info()), or set "
            "num_workers to 0 or 1.",
        )


def _alike(seen: Observed) -> tuple[bool, bool]:
    """Whether the order is the same for every seed, and in every epoch."""
    orders = seen.orders
    seeds = all(orders[0, epoch] == orders[1, epoch] for epoch in (0, 1))
    return seeds, all(orders[seed, 0] == orders[seed, 1] for seed in (0, 1))


def order_text(seen: Observed) -> str:
    """How the order of the batches changes, in words."""
    most = max(map(len, seen.orders.values()))
    if most <= 1:
        return "an epoch is a single batch" if most else "unknown, as batches hold no tensors"
    match _alike(seen):
        case True, True:
            return "always the same"
        case True, False:
            return "another in each epoch, the same for every seed"
        case False, True:
            return "another for each seed, the same in every epoch"
    return "another in each epoch and for each seed"
