"""Checks of a task before anything trains. Each error says what was given, and what to do."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lrtune.errors import TaskError, quantity, shown
from lrtune.task.batches import Batch, describe_batch, tensors_of
from lrtune.task.data import TensorData
from lrtune.task.epochs import Data

TRIAL_LR = 1e-3
"""The rate of updates that only show whether a task can be trained."""


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
    """Raise if weights have gradients already: then the loss has called `backward()` itself."""
    names = [name for name, one in model.named_parameters() if one.grad is not None]
    if names:
        raise TaskError(
            f"the loss calls backward() itself: {quantity(len(names), 'weight')}, such as "
            f"{names[0]}, have a gradient before lrtune's own backward pass, which would be added "
            "to it. Return the loss without backward(), zero_grad() and optimizer.step()."
        )
