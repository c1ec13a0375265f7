"""What belongs to a model, and which functions, losses included, use it instead of its copy."""

import dis
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lrtune.errors import TaskError


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, buffers, and attributes that are tensors."""
    yield from (*model.named_parameters(), *model.named_buffers())
    for name, part in model.named_modules():
        for key, value in vars(part).items():
            if isinstance(value, Tensor):
                yield f"{name}.{key}", value


def gradient_hooks(parameter: Tensor) -> list[Any]:
    """What is called with the gradient of a parameter."""
    return list((parameter._backward_hooks or {}).values())  # noqa: SLF001


def post_gradient_hooks(parameter: Tensor) -> list[Any]:
    """What is called with a parameter once it has its gradient."""
    hooked = parameter._post_accumulate_grad_hooks  # noqa: SLF001
    return list((hooked or {}).values())


def find_leaks(model: nn.Module, made: nn.Module) -> Iterator[str]:
    """Functions in the copy that hold a part of the model, and what they hold."""
    parts = {id(part): name or "the whole" for name, part in model.named_modules()}
    owned: dict[int, str] = {id(tensor): name for name, tensor in named_tensors(model)} | parts
    for name, part in model.named_modules():
        for key, value in vars(part).items():
            if isinstance(value, (list, dict, set)) and key not in vars(nn.Module()):
                owned[id(value)] = ".".join(filter(None, (name, key)))
    for name, function in _functions(made):
        for used in _held(function):
            if id(used) in owned:
                yield f"{name} is a function that holds {owned[id(used)]}"


def _functions(model: nn.Module) -> Iterator[tuple[str, object]]:
    """What may be called in a model, and does not belong to a class: hooks, and attributes."""
    for name, part in model.named_modules():
        for key, value in vars(part).items():
            inside = value.values() if isinstance(value, dict) else [value]
            told = f"a {key[1:-1].replace('_', ' ')}" if key.endswith("_hooks") else key
            where = f"{told} of {name}" if name else told
            if key not in ("_parameters", "_buffers", "_modules"):
                yield from ((where, one) for one in inside)
    for name, parameter in model.named_parameters():
        for hook in (*gradient_hooks(parameter), *post_gradient_hooks(parameter)):
            yield f"a hook of {name}", hook


def _held(function: object) -> Iterator[object]:
    """What a function holds: in its closure, its defaults, its globals; through other functions."""
    waiting, seen = [function], set[int]()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        inside: list[object] = []
        if isinstance(thing, MethodType):
            inside = [thing.__self__, thing.__func__]
        elif isinstance(thing, functools.partial):
            inside = [thing.func, *thing.args, *thing.keywords.values()]
        elif isinstance(thing, FunctionType):
            known = thing.__globals__
            cells = [cell.cell_contents for cell in thing.__closure__ or () if _is_full(cell)]
            defaults = (*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values())
            named = [known[name] for name in _globals(thing.__code__) if name in known]
            inside = [*cells, *defaults, *named]
        yield from inside
        waiting.extend(inside)


def _is_full(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _globals(code: CodeType) -> Iterator[str]:
    """Global names that the code uses, and the functions in it."""
    yield from (one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)


@contextmanager
def guard_model(model: object) -> Iterator[None]:
    """What happens to the user's model in here, by the code of loss or objective, is undone.

    Raises:
        TaskError: Something did.
    """
    parts = list(model.modules()) if isinstance(model, nn.Module) else []
    dicts = [one for part in parts for one in (vars(part), part._buffers)]  # noqa: SLF001
    kept = [(one, one.copy()) for one in dicts if isinstance(one, dict)]  # not of TorchScript
    owned = [one for part in parts for one in part.buffers(recurse=False) if not is_lazy(one)]
    numbers = [(one, one.detach().clone()) for one in owned]
    try:
        yield
    finally:
        touched = [_undone(now, before) for now, before in kept]
        touched += [_written(buffer, before) for buffer, before in numbers]
    if any(touched):
        raise TaskError(f"the loss changes your {type(model).__name__} itself. {OBJECTIVE_HINT}")


def _undone(now: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether other things stood there; those from before do again."""
    if now.keys() == before.keys() and all(now[key] is before[key] for key in before):
        return False
    for key in now.keys() - before.keys():
        del now[key]
    now.update(before)
    return True


def _written(buffer: Tensor, before: Tensor) -> bool:
    """Whether it held other numbers; it holds those from before again."""
    same = torch.allclose(buffer, before, rtol=0, atol=0, equal_nan=True)
    if not same:
        buffer.data.copy_(before)  # its version does not tell: BatchNorm writes behind its back
    return not same


OBJECTIVE_HINT = (
    "Each run trains a copy of it; expected a loss that uses that one. Hand it over as an "
    "objective, and use its argument: Task(..., objective=lambda model, batch: ...)."
)


def check_loss_uses_copy(loss: Tensor, model: object) -> None:
    """The loss depends on the copy that is trained, and not on the user's own model.

    Raises:
        TaskError: It depends on the model itself.
    """
    if not isinstance(model, nn.Module):
        return
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for leaf in _leaves(loss):
        if id(leaf) in names:
            raise TaskError(
                f"the loss depends on {names[id(leaf)]} of your {type(model).__name__} itself. "
                f"{OBJECTIVE_HINT}"
            )


def _leaves(loss: Tensor) -> Iterator[Tensor]:
    """What a backward pass would leave gradients in."""
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting.extend(following for following, _ in node.next_functions)
