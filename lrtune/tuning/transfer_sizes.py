"""The sizes of a transfer: parts of the data, other widths, larger batches, each with its task."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lrtune.errors import ArgumentError, TaskError, positive_number, shown
from lrtune.task.task import Task
from lrtune.task.variants import own_width, with_share, with_width

UPDATES, EPOCHS = "updates", "epochs"
OVER = ("data", "width", "batch_size")
SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
WIDTHS = (0.25, 0.5, 1.0, 2.0)  # of the task's own
BATCHES = (1, 2, 4, 8)  # multiples of the task's own


@dataclass(frozen=True, eq=False)
class Size:
    """One size of what is varied.

    Attributes:
        label: As people say it, such as `5 %`; the stage of its runs.
        value: The share of the data, the width, the batch size.
        ratio: The same over the task's own.
        task: The task of this size.
        batches: How many of the task's own batches make an update.
        share: Of the data; an epoch has so many batches, over those of the whole.
    """

    label: str
    value: float
    ratio: float
    task: Task
    batches: int = 1
    share: float = 1.0

    def updates(self, equal: str, length: int) -> int:
        """How many updates its runs make, where runs of the task as it is make `length`."""
        whole = self.share * length / self.batches
        return length if equal == UPDATES else max(1, math.floor(whole + 1e-9))

    def steps(self, equal: str, length: int) -> int:
        """The batches that these updates read."""
        return self.batches * self.updates(equal, length)


def sizes_over(
    task: Task, over: str, values: Sequence[float] | None
) -> tuple[tuple[Size, ...], tuple[str, ...]]:
    """The task itself and the other sizes, the nearest first; and why some are left out."""
    make: dict[str, Callable[[Task, float], Size]] = {
        "data": _share_of_data, "width": _width, "batch_size": _batch_size,
    }  # fmt: skip
    own, usual = _own(task, over)
    given = usual if values is None else _numbers(values)
    found, left_out = [make[over](task, own)], list[str]()
    for value in sorted({*given} - {own}, key=lambda one: (max(one / own, own / one), one)):
        try:
            found.append(make[over](task, value))
        except TaskError as error:
            if values is not None or "expected at least" not in str(error):
                raise
            left_out.append(f"left out: {error}")  # a usual share that is less than a batch
    if len(found) < 2:
        why = left_out[0] if left_out else f"values={shown(values)}"
        raise ArgumentError(
            f"there is no other size than the task's own ({found[0].label}); {why}. Give two or "
            f"more values, such as {', '.join(f'{one:g}' for one in usual)}."
        )
    return tuple(found), tuple(left_out)


def _own(task: Task, over: str) -> tuple[float, tuple[float, ...]]:
    """The task's own value, and the usual ones."""
    if over == "data":
        return 1.0, SHARES
    if over == "batch_size":
        size = task.batch_examples
        return float(size), tuple(float(size * one) for one in BATCHES)
    width = own_width(task)
    if width is None:
        with_width(task, 1)  # raises, and says what to do
        raise AssertionError("a task without a width has no other widths")
    return float(width), tuple(float(max(1, round(width * one))) for one in WIDTHS)


def _numbers(values: Sequence[float]) -> list[float]:
    if isinstance(values, str) or not isinstance(values, Sequence) or not len(values):
        raise ArgumentError(f"values={shown(values)}; expected numbers, such as [0.1, 0.5, 1].")
    return [positive_number("each of values", one, such_as="0.5") for one in values]


def _share_of_data(task: Task, value: float) -> Size:
    if value > 1:
        raise ArgumentError(
            f"values has {value:g}; expected shares of the data, from above 0 to 1. Give such as "
            "[0.1, 0.5, 1]."
        )
    return Size(f"{100 * value:.6g} %", value, value, with_share(task, value), share=value)


def _width(task: Task, value: float) -> Size:
    if value != int(value):
        raise ArgumentError(f"a width is a whole number, got {value:g}. Give one such as 64.")
    own, width = own_width(task), int(value)
    assert own is not None, "checked before"
    made = task if width == own else with_width(task, width)
    return Size(f"width {width}", value, value / own, made)


def _batch_size(task: Task, value: float) -> Size:
    own = task.batch_examples
    if value % own:
        raise ArgumentError(
            f"a batch size of {value:g}; expected multiples of the task's own, {own}, as batches "
            f"are put together of its batches. Give {own}, {2 * own}, {4 * own} ..., or make the "
            "task with a smaller batch."
        )
    return Size(f"batch {value:g}", value, value / own, task, batches=int(value // own))
