"""What the user's code raises on the first batch, as an error that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from lrtune.errors import TaskError, first_line
from lrtune.task.batches import Batch, describe_batch
from lrtune.task.memory import is_out_of_memory

HINTS = {
    "making the model and its optimizer": "The optimizer's factory is called with (model, lr). "
    "Call both factories yourself to see why they fail.",
    "the model": "Call the model on the inputs of a batch, model(*batch[:-1]), to see why. Batches "
    "of another form need an objective.",
    "the loss": "Call it with the model's output and the target, batch[-1], to see why. "
    "Cross-entropy, the default, takes class numbers (int64), one for each row.",
    "the objective": "It is called with (model, batch). Call it yourself to see why it fails.",
    "the update": "Call loss.backward() and optimizer.step() on this batch to see why they fail.",
    "validation": "Call the model on this batch after model.eval() to see why, or leave val out.",
}
"""What to do where a part of the user's code fails."""


@contextmanager
def explain_errors(what: str, batch: Batch) -> Iterator[None]:
    """Turn an exception of the user's code into a `TaskError` about the first batch.

    `what` is a key of `HINTS`.
    """
    try:
        yield
    except TaskError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise too_large(f"{what} of one batch, {describe_batch(batch)},", error) from error
        raise TaskError(
            f"{what} fails on the first batch, {describe_batch(batch)}: {type(error).__name__}: "
            f"{first_line(error)}{_hint(what, error)}"
        ) from error


def _hint(what: str, error: Exception) -> str:
    """Return the end of a message: a full stop, and what to do where this part fails."""
    if what == "validation" and "does not require grad" in str(error):
        return (
            ". Validation records no gradients. Put `with torch.enable_grad():` around what needs "
            "them, such as torch.autograd.grad."
        )
    return single_row_hint(error) or f". {HINTS[what]}"


def single_row_hint(error: Exception) -> str:
    """Return what to do where BatchNorm fails on a single row; empty for any other error."""
    if "more than 1 value per channel" not in str(error):
        return ""
    return ". BatchNorm in train mode needs two rows at least: give larger batches."


def too_large(what: str, error: BaseException) -> TaskError:
    """Return the error for what does not fit into memory though nothing else is held there."""
    refused = TaskError(
        f"{what} needs more memory than there is ({first_line(error, 160)}). Use smaller batches "
        "(batch_size), a smaller model, or a device with more memory (device='cpu' takes the "
        "computer's own)."
    )
    for note in getattr(error, "__notes__", []):
        refused.add_note(note)
    return refused
