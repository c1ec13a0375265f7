"""What is wrong with a task is said before anything trains: one function per kind of input."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrtune.errors import TaskError
from lrtune.task.batch import Batch, describe_batch, leaves
from lrtune.task.data import Data, TensorData

TRIAL_LR = 1e-3


def resolve_device(wanted: str | torch.device) -> torch.device:
    """The device meant; `auto` is CUDA, else MPS, else the CPU."""
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next((name for name, there in has.items() if there), "cpu"))
    try:
        chosen = torch.device(wanted)
    except (RuntimeError, TypeError) as error:
        raise TaskError(
            f"device={wanted!r} is no torch device. Use auto, cpu, cuda, cuda:1 or mps."
        ) from error
    if chosen.type == "meta":
        raise TaskError("device='meta' holds no numbers to train. Use auto, cpu, cuda or mps.")
    if not has.get(chosen.type, True):
        raise TaskError(
            f"device={str(wanted)!r}, but this torch ({torch.__version__}) finds no "
            f"{chosen.type} device here. Use device='auto' or 'cpu'."
        )
    return chosen


def check_loss(given: object) -> None:
    """A function or an instance of a loss module, not the class."""
    if isinstance(given, type):
        raise TaskError(
            f"loss={given.__name__} is a class; expected an instance. Write {given.__name__}()."
        )
    if not callable(given):
        raise TaskError(
            f"loss={given!r} cannot be called; expected a function of (output, target), "
            "such as nn.CrossEntropyLoss()."
        )


def check_objective(given: object) -> None:
    """A function of a model and a batch."""
    if isinstance(given, type) or not callable(given):
        raise TaskError(
            f"objective={given!r}; expected a function of (model, batch) that returns the loss, "
            "such as lambda model, batch: model(**batch).loss."
        )


def make_two_models(make: Callable[[], object]) -> tuple[nn.Module, nn.Module]:
    """A model factory has to make a new module at each call; two of them."""
    try:
        inspect.signature(make).bind()
    except TypeError as error:
        name = getattr(make, "__name__", type(make).__name__)
        raise TaskError(
            f"model={name} cannot be called without arguments ({error}); expected an nn.Module, "
            f"or a function without arguments that makes one: Task(lambda: {name}(...), ...)."
        ) from error
    except ValueError:  # some callables do not tell their signature
        pass
    first, second = make(), make()
    if not isinstance(first, nn.Module) or not isinstance(second, nn.Module):
        raise TaskError(
            f"the model factory returned {first!r}; expected an nn.Module. "
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
    """At least one parameter asks for a gradient."""
    total = len(list(model.parameters()))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TaskError(
            f"none of the {total} parameters of the {type(model).__name__} requires a gradient; "
            "expected at least one. Unfreeze some: parameter.requires_grad_(True)."
        )


def check_optimizer_factory(given: object) -> None:
    """A class, a partial of one, or a function; not an optimizer that is made already."""
    if isinstance(given, Optimizer):
        name = type(given).__name__
        raise TaskError(
            f"optimizer is a finished {name}, bound to your own model and one rate; expected "
            f"something that makes one for each run. Pass optimizer=torch.optim.{name}, or "
            f"functools.partial(torch.optim.{name}, ...), or a function (model, lr)."
        )
    if not callable(given):
        raise TaskError(
            f"optimizer={given!r} cannot be called; expected a class such as torch.optim.AdamW, "
            "a functools.partial of one, or a function (model, lr) that returns an optimizer."
        )


def check_optimizer(make: Callable[[nn.Module, float], object], model: nn.Module) -> Optimizer:
    """The factory returns an optimizer over this model's parameters, and obeys lr."""
    made = make(model, TRIAL_LR)
    if not isinstance(made, Optimizer):
        raise TaskError(
            f"the optimizer factory returned {made!r}; expected a torch.optim.Optimizer. "
            "Return the optimizer."
        )
    own = {id(parameter) for parameter in model.parameters()}
    if any(id(p) not in own for group in made.param_groups for p in group["params"]):
        raise TaskError(
            "the optimizer holds parameters that are not in the model it was given, so it would "
            "train something else. Use the function's argument: "
            "lambda model, lr: SGD(model.parameters(), lr=lr)."
        )
    if "closure" in _required(made.step):
        raise TaskError(
            f"{type(made).__name__} needs a closure at each step, as it searches its step size "
            "itself; there is no rate to find. Use SGD, Adam or another first-order optimizer."
        )
    twice = make(model, 2 * TRIAL_LR)
    if not isinstance(twice, Optimizer) or _rates(made) == _rates(twice):
        raise TaskError(
            f"the optimizer's rates are {_rates(made)} whatever lr is; expected them to follow "
            "it. Hand lr on: lambda model, lr: AdamW(model.parameters(), lr=lr)."
        )
    return made


def _rates(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _required(function: Callable[..., object]) -> list[str]:
    parameters = inspect.signature(inspect.unwrap(function)).parameters.values()
    return [p.name for p in parameters if p.default is p.empty]


def check_batch(first: Batch) -> None:
    """Without an objective, a batch is (*inputs, target)."""
    if not (isinstance(first, (tuple, list)) and len(first) >= 2):
        raise TaskError(
            f"a batch is {describe_batch(first)}; expected a tuple (*inputs, target). Batches of "
            "any other form need an objective: "
            "Task(..., objective=lambda model, batch: model(**batch).loss)."
        )


def check_labels(outputs: object, loss: object, targets: object, *, where: str) -> None:
    """For cross-entropy: class indices lie in 0 ... outputs - 1."""
    names = (nn.CrossEntropyLoss, nn.NLLLoss)
    of_classes = isinstance(loss, names) or loss in (
        nn.functional.cross_entropy,
        nn.functional.nll_loss,
    )
    if not (of_classes and isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
        return
    if outputs.ndim < 2 or targets.is_floating_point() or not targets.numel():
        return
    ignored = loss.ignore_index if isinstance(loss, names) else -100
    classes = outputs.shape[1]
    bad = targets[(targets != ignored) & ((targets < 0) | (targets >= classes))]
    if bad.numel():
        raise TaskError(
            f"labels must lie in 0 ... {classes - 1}, because the model gives {classes} outputs; "
            f"found {int(bad.min())} ... {int(bad.max())} in {bad.numel()} of {targets.numel()} "
            f"labels of {where}. Give the model as many outputs as there are classes, or "
            "renumber the labels from 0."
        )


def check_all_labels(outputs: object, loss: object, data: Data, first: Batch) -> None:
    """Every label where the data are tensors; otherwise those of the first batch."""
    if isinstance(data, TensorData):
        check_labels(outputs, loss, data.tensors[-1], where="the training data")
    else:
        check_labels(outputs, loss, first[-1], where="the first batch")


def check_loss_value(given: object) -> Tensor:
    """A loss is one finite number that depends on trainable parameters."""
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
    if not torch.isfinite(given).all():
        raise TaskError(
            f"the loss of the untrained model on the first batch is {given.item()}; expected a "
            "finite number. Look for NaN in the data, a log of 0, or a broken initialisation."
        )
    return given


def tensor_versions(batch: Batch) -> list[int]:
    """How often each tensor of the batch was changed in place."""
    return [leaf._version for leaf in leaves(batch) if isinstance(leaf, Tensor)]  # noqa: SLF001


@contextmanager
def explain_errors(what: str, batch: Batch) -> Iterator[None]:
    """Whatever the user's code raises here becomes a sentence about the first batch."""
    try:
        yield
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(
            f"{what} fails on the first batch, {describe_batch(batch)}: "
            f"{type(error).__name__}: {error}"
        ) from error


@contextmanager
def eval_mode(*models: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every part of the models is in the mode it was in."""
    modes = [(part, part.training) for model in models for part in model.modules()]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for part, mode in modes:
            part.training = mode
