"""Checks of a task before anything trains. Each error says what was given, and what to do."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from lrtune.errors import TaskError, first_line, quantity, shown
from lrtune.task.batches import Batch, describe_batch, tensors_of
from lrtune.task.data import TensorData
from lrtune.task.epochs import Data
from lrtune.task.memory import is_out_of_memory

TRIAL_LR = 1e-3
"""The rate of updates that only show whether a task can be trained."""

OBJECTIVE_HINT = (
    "Each run trains a copy of it; expected a loss that uses that copy. Pass the loss as an "
    "objective, and use its argument: Task(..., objective=lambda model, batch: ...)."
)


def resolve_device(wanted: str | torch.device) -> torch.device:
    """Return the device; `auto` is CUDA, else MPS, else the CPU.

    Raises:
        TaskError: It is no device, or none that this torch can use here.
    """
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there = [name for name, is_there in has.items() if is_there]
    if wanted == "auto":
        return torch.device(next(iter(there), "cpu"))
    try:
        chosen = torch.device(wanted)
    except (RuntimeError, TypeError) as error:
        raise TaskError(
            f"device={shown(wanted)} is no torch device. Use auto, cpu, cuda, cuda:1 or mps."
        ) from error
    if chosen.type == "meta":
        raise TaskError("device='meta' stores no numbers to train. Use auto, cpu, cuda or mps.")
    try:
        torch.empty(1, device=chosen)
    except Exception as error:  # each kind of device raises an error of its own
        raise TaskError(
            f"device={str(wanted)!r}, but this torch ({torch.__version__}) finds no {chosen} "
            f"device here, only {' and '.join(['cpu', *there])}. Use device='auto' or "
            "device='cpu'."
        ) from error
    return chosen


def name_of(given: object) -> str:
    """Return the name of a function, or of the class of an object without a name."""
    return str(getattr(given, "__name__", type(given).__name__))


def check_loss(given: object) -> None:
    """Raise unless the loss is a function or an instance of a loss module."""
    if isinstance(given, type):
        raise TaskError(
            f"loss={given.__name__} is a class; expected an instance. Write {given.__name__}()."
        )
    if not callable(given):
        raise TaskError(
            f"loss={shown(given)} cannot be called; expected a function of (output, target), "
            "such as nn.CrossEntropyLoss()."
        )


def check_objective(given: object) -> None:
    """Raise unless the objective is a function of a model and a batch."""
    if isinstance(given, type) or not callable(given):
        raise TaskError(
            f"objective={shown(given)}; expected a function of (model, batch) that returns the "
            "loss, such as lambda model, batch: model(**batch).loss."
        )


def make_two_models(make: Callable[[], object]) -> tuple[nn.Module, nn.Module]:
    """Return two models of a factory, which must be new modules with parameters of their own."""
    try:
        inspect.signature(make).bind()
    except TypeError as error:
        name = name_of(make)
        raise TaskError(
            f"model={name} cannot be called without arguments ({error}); expected an nn.Module, "
            f"or a function without arguments that makes one. Write Task(lambda: {name}(...), ...)."
        ) from error
    except ValueError:  # some builtin callables have no signature
        pass
    first, second = make(), make()  # only two models show what all models of a factory share
    if not isinstance(first, nn.Module) or not isinstance(second, nn.Module):
        raise TaskError(
            f"the model factory returned {shown(first)}; expected an nn.Module. "
            "Return the model, or pass it itself."
        )
    shared = {id(parameter) for parameter in first.parameters()}
    if any(id(parameter) in shared for parameter in second.parameters()):
        raise TaskError(
            "the model factory returned the same parameters twice, so runs would train each "
            "other's weights. Make a new model at each call, or pass the model itself: it is "
            "copied."
        )
    check_trainable(first)
    return first, second


def check_trainable(model: nn.Module) -> None:
    """Raise unless at least one parameter requires a gradient."""
    trained = [parameter.requires_grad for parameter in model.parameters()]
    if not any(trained):
        raise TaskError(
            f"none of the {len(trained)} parameters of the {type(model).__name__} requires a "
            "gradient; expected at least one. Unfreeze some: parameter.requires_grad_(True)."
        )


def check_batch(first: Batch, what: str = "a batch") -> None:
    """Raise unless a batch is (*inputs, target), as a loss without an objective needs."""
    if not (isinstance(first, (tuple, list)) and len(first) >= 2):
        listed = "A list holds batches; tensors go into a tuple, (inputs, targets). "
        raise TaskError(
            f"{what} is {describe_batch(first)}; expected a tuple (*inputs, target). "
            f"{listed * isinstance(first, Tensor)}Batches of "
            "any other form need an objective: "
            "Task(..., objective=lambda model, batch: model(**batch).loss)."
        )


def check_targets(loss: object, data: Data, first: Batch) -> None:
    """Raise if binary cross-entropy gets targets outside 0 ... 1, where it has no lowest value.

    All targets are checked if the data are tensors, otherwise those of the first batch.
    """
    modules = (nn.BCEWithLogitsLoss, nn.BCELoss)
    functions = nn.functional.binary_cross_entropy_with_logits, nn.functional.binary_cross_entropy
    whole = isinstance(data, TensorData)
    targets = data.tensors[-1] if isinstance(data, TensorData) else first[-1]
    if not (isinstance(loss, modules) or loss in functions) or not isinstance(targets, Tensor):
        return
    bad = targets[(targets < 0) | (targets > 1)]  # NaN is another matter
    if bad.numel():
        raise TaskError(
            f"targets of binary cross-entropy must lie in 0 ... 1; found {bad.min():.4g} ... "
            f"{bad.max():.4g} in {bad.numel()} of {targets.numel()} targets of the "
            f"{'training data' if whole else 'first batch'}. Make them 0 and 1, such as "
            "(target > 0).float()."
        )


def check_detached(first: Batch) -> None:
    """Raise if tensors of a batch require gradients, such as outputs of an encoder."""
    held = [one for one in tensors_of(first) if one.requires_grad]
    if held:
        graph = "the outputs of another model" if not held[0].is_leaf else "inputs"
        raise TaskError(
            f"{len(held)} of {quantity(len(tensors_of(first)), 'tensor')} of a batch, "
            f"{describe_batch(first)}, require gradients, as {graph} may; expected plain data, as "
            "every backward pass would write into them, or into that model. Pass x.detach(); a "
            "loss that needs the gradient of an input takes x.detach().requires_grad_() in an "
            "objective."
        )


def check_labels(outputs: object, loss: object, data: Data, first: Batch) -> None:
    """Raise if cross-entropy gets class indices outside 0 ... outputs - 1.

    All labels are checked if the data are tensors, otherwise those of the first batch.
    """
    modules = (nn.CrossEntropyLoss, nn.NLLLoss)
    functions = (nn.functional.cross_entropy, nn.functional.nll_loss)
    whole = isinstance(data, TensorData)
    targets = data.tensors[-1] if isinstance(data, TensorData) else first[-1]
    of_classes = isinstance(loss, modules) or loss in functions
    if not (of_classes and isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
        return
    # Targets that are probabilities are floats, and need no such check.
    if outputs.ndim < 2 or targets.is_floating_point() or not targets.numel():
        return
    ignored = loss.ignore_index if isinstance(loss, modules) else -100  # torch's default
    classes = outputs.shape[1]
    bad = targets[(targets != ignored) & ((targets < 0) | (targets >= classes))]
    if bad.numel():
        raise TaskError(
            f"labels must lie in 0 ... {classes - 1}, because the model gives {classes} outputs; "
            f"found {int(bad.min())} ... {int(bad.max())} in {bad.numel()} of {targets.numel()} "
            f"labels of the {'training data' if whole else 'first batch'}. Give the model as many "
            "outputs as there are classes, or renumber the labels from 0."
        )


def check_loss_value(given: object) -> Tensor:
    """Return a loss, which must be one number that depends on trainable parameters."""
    if isinstance(given, (tuple, list, dict)):
        raise TaskError(
            f"the loss is {shown(given)}; expected a tensor with one number. Return the loss "
            "alone, without what was measured beside it."
        )
    if not isinstance(given, Tensor):
        raise TaskError(
            f"the loss is a {type(given).__name__}; expected a tensor with one number. "
            "Return it without .item() or float()."
        )
    if given.numel() != 1:
        raise TaskError(
            f"the loss has shape {tuple(given.shape)}; expected one number per batch. "
            "Use reduction='mean', or .mean() at the end of the loss."
        )
    if not given.requires_grad:
        raise TaskError(
            "the loss does not depend on any trainable parameter of the model. Look for "
            ".detach(), .data or torch.no_grad() between model and loss."
        )
    return given


def check_no_gradients(model: nn.Module) -> None:
    """Raise if weights have gradients before `backward()`: the loss has called it itself."""
    names = [name for name, one in model.named_parameters() if one.grad is not None]
    if names:
        raise TaskError(
            f"the loss calls backward() itself: {quantity(len(names), 'weight')}, such as "
            f"{names[0]}, have a gradient before lrtune's own backward pass, which would be added "
            "to it. Return the loss without backward(), zero_grad() and optimizer.step()."
        )


def check_loss_uses_copy(loss: Tensor, model: object) -> None:
    """Raise if the loss depends on the user's own model instead of the copy that is trained."""
    if not isinstance(model, nn.Module):
        return
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    waiting, seen = [loss.grad_fn], set()
    while waiting:  # walk back through the graph to the tensors that get gradients
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = names.get(id(getattr(node, "variable", None)))
        if name is not None:
            raise TaskError(
                f"the loss depends on {name} of your {type(model).__name__} itself. "
                f"{OBJECTIVE_HINT}"
            )
        waiting.extend(following for following, _ in node.next_functions)


class UsersTensors(TorchFunctionMode):
    """Notes whether a function of torch's is called with a tensor of the user's own model.

    Without gradients, as of pseudo labels, no graph leads there.
    """

    def __init__(self, model: object) -> None:
        super().__init__()
        named = model.named_parameters() if isinstance(model, nn.Module) else ()
        self._names = {id(parameter): name for name, parameter in named}
        self._kind, self._found = type(model).__name__, ""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Look at the arguments, and call the function."""
        del types
        used = (self._names.get(id(one)) for one in (*args, *(kwargs or {}).values()))
        self._found = self._found or next(filter(None, used), "")
        return func(*args, **(kwargs or {}))

    def check(self) -> None:
        """Raise if the user's own model took part."""
        if self._found:
            raise TaskError(
                f"the loss is computed with {self._found} of your {self._kind} itself, which is "
                f"not trained. {OBJECTIVE_HINT} If its weights are meant as they are, use a "
                "copy.deepcopy of it."
            )


@contextmanager
def guard_model(model: object) -> Iterator[None]:
    """Restore the attributes and buffers of the user's model on exit.

    Raises:
        TaskError: The code inside, which runs the user's loss, has changed the model.
    """
    # The loss may be a closure around the user's model, and a forward pass moves the statistics of
    # its BatchNorm layers.
    parts = list(model.modules()) if isinstance(model, nn.Module) else []
    dicts = [one for part in parts for one in (vars(part), part._buffers)]  # noqa: SLF001
    saved = [(one, one.copy()) for one in dicts if isinstance(one, dict)]  # TorchScript has others
    buffers = [one for part in parts for one in part.buffers(recurse=False) if not is_lazy(one)]
    numbers = [(one, one.detach().clone()) for one in buffers]
    changed = False
    try:
        yield
    finally:
        for now, before in saved:  # compared by identity: a new value is a change, even if equal
            if now.keys() != before.keys() or any(now[key] is not before[key] for key in before):
                changed = True
                for key in now.keys() - before.keys():
                    del now[key]
                now.update(before)
        for buffer, values in numbers:
            # The version counter would be cheaper, but the kernels of BatchNorm do not increase it.
            if not torch.allclose(buffer, values, rtol=0, atol=0, equal_nan=True):
                changed = True
                buffer.data.copy_(values)
    if changed:
        raise TaskError(f"the loss changes your {type(model).__name__} itself. {OBJECTIVE_HINT}")


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
    """Return what to do where a part of the user's code fails; it begins with a full stop."""
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
