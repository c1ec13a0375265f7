"""Copies that share nothing with what they are made of, so that the user's model stays as it is."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard, TypeVar

from torch import Tensor, nn, strided
from torch.nn.parameter import UninitializedBuffer, is_lazy

from lrtune.errors import TaskError
from lrtune.task.ownership import find_leaks, gradient_hooks, named_tensors, post_gradient_hooks

T = TypeVar("T")
MakeModel = Callable[[], nn.Module]


def deepcopy_module(thing: T) -> T:
    """A deep copy of a module, or of a tuple with modules, and of what torch forgets.

    That is what their owner has hung onto the parameters, hooks of gradients and attributes; and
    buffers that wait for their shape, which torch refuses to copy.

    Raises:
        TaskError: The copy shares something with the thing.
    """
    memo: dict[int, Any] = {}
    for module in _modules(thing):
        for one in module.buffers():
            if isinstance(one, UninitializedBuffer):
                like: dict[str, Any] = {"device": one.data.device, "dtype": one.data.dtype}
                memo[id(one)] = type(one)(**like)
    made = copy.deepcopy(thing, memo)
    for module, other in zip(_modules(thing), _modules(made), strict=True):
        _hang(module, other, memo)
        shared = next(_shared(module, other), None)
        if shared:
            raise TaskError(
                f"a copy of the {type(module).__name__} shares {shared} with it, so training one "
                "would change the other; expected that copy.deepcopy copies everything. Look for "
                "a __deepcopy__."
            )
    return made


def _modules(thing: object) -> list[nn.Module]:
    several = thing if isinstance(thing, tuple) else (thing,)
    return [one for one in several if isinstance(one, nn.Module)]


def _hang(module: nn.Module, made: nn.Module, memo: dict[int, Any]) -> None:
    theirs = dict(made.named_parameters())
    for name, parameter in module.named_parameters():
        other = theirs.get(name)
        if other is None or other is parameter:
            continue
        vars(other).update(copy.deepcopy(vars(parameter), memo))
        for hook in gradient_hooks(parameter):
            with _unfrozen(other):
                other.register_hook(copy.deepcopy(hook, memo))  # type: ignore[no-untyped-call]
        for hook in post_gradient_hooks(parameter):
            with _unfrozen(other):
                own = copy.deepcopy(hook, memo)
                other.register_post_accumulate_grad_hook(own)  # type: ignore[no-untyped-call]


@contextmanager
def _unfrozen(parameter: Tensor) -> Iterator[None]:
    """A frozen one takes no hook, though it may have had some before."""
    asks = parameter.requires_grad
    parameter.requires_grad = True
    yield
    parameter.requires_grad = asks


def copy_model(model: nn.Module) -> nn.Module:
    """A copy of the user's model that cannot reach the model itself.

    Raises:
        TaskError: There is none; the message says what stands in the way, and what to do.
    """
    kind = type(model).__name__
    way_out = f"Pass a function that makes it: Task(lambda: {kind}(...), ...)."
    try:
        made = deepcopy_module(model)
    except TaskError as error:
        raise TaskError(f"{error} {way_out}") from error
    except Exception as error:
        stale = [f"{place}={_of(tensor)}" for place, tensor in _results(model)]
        why = (
            f"{', '.join(stale)} is the result of a computation, whose graph no copy can have"
            if stale
            else f"{type(error).__name__}: {error}"
        )
        drop = "Set it to None, or pass" if stale else "Pass"
        raise TaskError(
            f"the {kind} cannot be copied ({why}), and training yours would change it. "
            f"{drop}{way_out.removeprefix('Pass')}"
        ) from error
    borrowed = next(find_leaks(model, made), None)
    if borrowed:
        raise TaskError(
            f"{borrowed} of the {kind}, and Python does not copy functions, so a copy would use "
            f"yours; expected that the parts of a model know each other as attributes. {way_out}"
        )
    return made


def _results(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Attributes that hang on the graph of an earlier forward pass."""
    for name, part in model.named_modules():
        for key, value in vars(part).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                yield ".".join(filter(None, (name, key))), value


def _of(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _place(tensor: Tensor) -> int:
    """Where its numbers lie; 0 where it has none."""
    dense = tensor.layout is strided and not is_lazy(tensor)
    return tensor.untyped_storage().data_ptr() if dense else 0


def _shared(model: nn.Module, made: nn.Module) -> Iterator[str]:
    """Names of what both have."""
    parts = {id(part) for part in model.modules()}
    shared = (name for name, part in made.named_modules() if id(part) in parts)
    yield from (f"the part {name}" if name else "everything" for name in shared)
    mine = {id(tensor) for _, tensor in named_tensors(model)}
    places = {_place(tensor) for _, tensor in named_tensors(model)} - {0}
    for name, tensor in named_tensors(made):
        if id(tensor) in mine or _place(tensor) in places:
            yield name


def unshare(make: MakeModel, first: nn.Module, second: nn.Module) -> MakeModel:
    """A factory like `make`, two of whose models are given, but no two models share anything.

    Parts without parameters (a ReLU that is a default argument), and the memory of weights and
    buffers (those that were loaded once for all), belong to the user: each model gets its own.
    """
    parts = {id(part) for part in first.modules()} & {id(part) for part in second.modules()}
    places = {_place(tensor) for _, tensor in named_tensors(first)}
    places &= {_place(tensor) for _, tensor in named_tensors(second)} - {0}

    def made() -> nn.Module:
        model = make()
        _replace(model, lambda one: id(one) in parts or (_free(one) and _place(one) in places))
        for parameter in model.parameters():
            if parameter.requires_grad and _place(parameter) in places:
                parameter.data = parameter.data.clone()
        return model

    return made if parts or places else make


def _free(thing: object) -> TypeGuard[Tensor]:
    """A tensor that no optimizer holds."""
    return isinstance(thing, Tensor) and not isinstance(thing, nn.Parameter)


def _replace(model: nn.Module, shared: Callable[[object], bool]) -> None:
    """Put copies in the place of parts, buffers and attributes that are shared."""
    memo: dict[int, Any] = {}
    for part in [part for part in model.modules() if not shared(part)]:
        dicts: list[dict[str, Any]] = [part._modules, part._buffers, vars(part)]  # noqa: SLF001
        for kept in dicts:
            kept.update({key: copy.deepcopy(v, memo) for key, v in kept.items() if shared(v)})
