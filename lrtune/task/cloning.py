"""The models of the runs: copies that share nothing with the user's own, which never changes."""

import copy
import functools
import itertools
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any, TypeVar

from torch import Tensor, nn, strided
from torch.nn.parameter import UninitializedBuffer, is_lazy

from lrtune.errors import TaskError
from lrtune.task.batches import describe_batch
from lrtune.task.checks import check_trainable, make_two_models
from lrtune.task.value_texts import closure_values, global_names

T = TypeVar("T")
MakeModel = Callable[[], nn.Module]


def deepcopy_module(thing: T) -> T:
    """Return a deep copy of a module, or of a tuple with modules.

    It also copies what `copy.deepcopy` loses or refuses: hooks and attributes of parameters, and
    lazy buffers, which have no shape yet.

    Raises:
        TaskError: The copy shares a part or the memory of a tensor with the original.
    """
    memo: dict[int, Any] = {}
    for module in _modules_of(thing):
        for one in module.buffers():
            if isinstance(one, UninitializedBuffer):  # which raises when it is copied
                like: dict[str, Any] = {"device": one.data.device, "dtype": one.data.dtype}
                memo[id(one)] = UninitializedBuffer(**like)
    for module in _modules_of(thing):
        check_ties(module)
    made = copy.deepcopy(thing, memo)
    for module, other in zip(_modules_of(thing), _modules_of(made), strict=True):
        _copy_parameter_extras(module, other, memo)
        shared = next(_shared(module, other), None)
        if shared:
            raise TaskError(
                f"a copy of the {type(module).__name__} shares {shared} with it, so training one "
                "would change the other; expected that copy.deepcopy copies everything. Look for "
                "a __deepcopy__."
            )
    return made


def check_ties(model: nn.Module) -> None:
    """Raise a TaskError where tensors share memory without being one tensor: a copy unties them."""
    tensors = dict((*model.named_parameters(), *model.named_buffers()))
    by_address: dict[int, list[tuple[int, int, str]]] = {}
    for name, one in tensors.items():
        if address := _address(one):
            begin = int(one.storage_offset())
            strides = zip(one.shape, one.stride(), strict=True)
            end = begin + int(sum((size - 1) * step for size, step in strides))
            by_address.setdefault(address, []).append((begin, end, name))
    for some in by_address.values():
        for (_, end, name), (begin, _, other) in itertools.pairwise(sorted(some)):
            if begin <= end and (tensors[name].requires_grad or tensors[other].requires_grad):
                raise TaskError(
                    f"{name} and {other} of the {type(model).__name__} share memory, but are not "
                    "one parameter, so a copy would train them apart; expected that tied weights "
                    "are one nn.Parameter, such as b.weight = a.weight."
                )


def _modules_of(thing: object) -> list[nn.Module]:
    several = thing if isinstance(thing, tuple) else (thing,)
    return [one for one in several if isinstance(one, nn.Module)]


def _copy_parameter_extras(module: nn.Module, made: nn.Module, memo: dict[int, Any]) -> None:
    """Copy the attributes and hooks of each parameter, which `copy.deepcopy` leaves out."""
    theirs = dict(made.named_parameters())
    for name, parameter in module.named_parameters():
        other = theirs.get(name)
        if other is None or other is parameter:
            continue
        vars(other).update(copy.deepcopy(vars(parameter), memo))
        hooks, later = (copy.deepcopy(some, memo) for some in _gradient_hooks(parameter))
        trained = other.requires_grad
        if hooks or later:
            # torch lets no frozen parameter get a hook, but one with hooks may become frozen.
            other.requires_grad = True
        for hook in hooks:
            other.register_hook(hook)  # type: ignore[no-untyped-call]
        for hook in later:
            other.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
        other.requires_grad = trained


def _gradient_hooks(parameter: Tensor) -> tuple[list[Any], list[Any]]:
    """Return the hooks that get the gradient, and those that are called once it is stored."""
    names = ("_backward_hooks", "_post_accumulate_grad_hooks")
    first, later = (list((getattr(parameter, name) or {}).values()) for name in names)
    return first, later


def model_maker(model: object) -> MakeModel:
    """Return a function that makes a model for each run, given the user's model or factory.

    No two of its models share anything, nor does one share anything with the user's.
    """
    if isinstance(model, nn.Module):
        # Copied once now, so that training it elsewhere later does not change the task.
        pristine = _copy_model(model)
        check_trainable(pristine)
        return lambda: deepcopy_module(pristine)
    if not callable(model):
        raise TaskError(
            f"model is a {type(model).__name__}; expected an nn.Module, or a function without "
            "arguments that makes one. Pass the model itself."
        )
    return _unshare(model, *make_two_models(model))


def _copy_model(model: nn.Module) -> nn.Module:
    """Return a copy of the user's model in which nothing refers to the model itself.

    Raises:
        TaskError: No such copy can be made; the message says why, and what to pass instead.
    """
    kind = type(model).__name__
    instead = f"a function that makes it: Task(lambda: {kind}(...), ...)."
    try:
        made = deepcopy_module(model)
    except TaskError as error:
        raise TaskError(f"{error} Pass {instead}") from error
    except Exception as error:
        # The usual reason: a result of the last forward pass was stored as an attribute.
        stale = [
            f"{'.'.join(filter(None, (name, key)))}={describe_batch(value)}"
            for name, part in model.named_modules()
            for key, value in vars(part).items()
            if isinstance(value, Tensor) and not value.is_leaf
        ]
        why, way_out = f"{type(error).__name__}: {error}", "Pass"
        if stale:
            why = f"{', '.join(stale)} is the result of a computation, whose graph cannot be copied"
            way_out = "Set it to None, or pass"
        raise TaskError(
            f"the {kind} cannot be copied ({why}), and training yours would change it. "
            f"{way_out} {instead}"
        ) from error
    leak = next(_find_leaks(model, made), None)
    if leak:
        raise TaskError(
            f"{leak} of the {kind}, and Python does not copy functions, so a copy would use "
            f"yours; expected that the parts of a model know each other as attributes. Pass "
            f"{instead}"
        )
    return made


# --- what a copy shares with its original ---------------------------------------------------------


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters, buffers, and attributes that are tensors."""
    yield from (*model.named_parameters(), *model.named_buffers())
    for name, part in model.named_modules():
        for key, value in vars(part).items():
            if isinstance(value, Tensor):
                yield f"{name}.{key}", value


def _address(tensor: Tensor) -> int:
    """Return the address of a tensor's memory, or 0 if it has none of its own."""
    dense = tensor.layout is strided and not is_lazy(tensor)
    return tensor.untyped_storage().data_ptr() if dense else 0


def _addresses(model: nn.Module) -> set[int]:
    return {_address(tensor) for _, tensor in _named_tensors(model)} - {0}


def _shared(model: nn.Module, made: nn.Module) -> Iterator[str]:
    """Yield the names of parts and tensors that belong to both models."""
    parts = {id(part) for part in model.modules()}
    for name, part in made.named_modules():
        if id(part) in parts:
            yield f"the part {name}" if name else "everything"
    mine, addresses = {id(tensor) for _, tensor in _named_tensors(model)}, _addresses(model)
    for name, tensor in _named_tensors(made):
        if id(tensor) in mine or _address(tensor) in addresses:
            yield name


def _unshare(make: MakeModel, first: nn.Module, second: nn.Module) -> MakeModel:
    """Return a factory like the user's `make`, but none of its models share anything.

    Models may share parts without parameters (a ReLU that is a default argument) and the memory
    of tensors (weights that were loaded once for all): what `first` and `second`, two models that
    `make` made, have in common.
    """
    parts = {id(part) for part in first.modules()} & {id(part) for part in second.modules()}
    addresses = _addresses(first) & _addresses(second)
    if not parts and not addresses:
        return make

    def is_shared(one: object) -> bool:
        # Factories that share parameters are refused, and their memory is taken care of below.
        free = isinstance(one, Tensor) and not isinstance(one, nn.Parameter)
        return id(one) in parts or (free and _address(one) in addresses)  # type: ignore[arg-type]

    def made() -> nn.Module:
        model, memo = make(), dict[int, Any]()
        for part in [part for part in model.modules() if not is_shared(part)]:
            owners: list[dict[str, Any]] = [part._modules, part._buffers, vars(part)]  # noqa: SLF001
            for owner in owners:
                copies = {k: copy.deepcopy(v, memo) for k, v in owner.items() if is_shared(v)}
                owner.update(copies)
        # An optimizer holds the parameter itself, so a parameter gets new memory only. Frozen
        # ones may go on sharing it, because nothing writes into them.
        for parameter in model.parameters():
            if parameter.requires_grad and _address(parameter) in addresses:
                parameter.data = parameter.data.clone()
        return model

    return made


def _find_leaks(model: nn.Module, made: nn.Module) -> Iterator[str]:
    """Yield a sentence for each function of a copy that refers to a part of the original.

    `copy.deepcopy` keeps functions as they are, so a hook or a patched method whose closure holds
    a layer would go on using the user's own layer.
    """
    parts = {id(part): name or "the whole" for name, part in model.named_modules()}
    owned: dict[int, str] = {id(tensor): name for name, tensor in _named_tensors(model)} | parts
    for name, part in model.named_modules():
        for key, value in vars(part).items():
            # torch's own containers, such as those of hooks, are in every module.
            if isinstance(value, (list, dict, set)) and key not in vars(nn.Module()):
                owned[id(value)] = ".".join(filter(None, (name, key)))
    for name, function in _functions_in(made):
        for used in _reachable_from(function):
            if id(used) in owned:
                yield f"{name} is a function that holds {owned[id(used)]}"


def _functions_in(model: nn.Module) -> Iterator[tuple[str, object]]:
    """Yield hooks and attributes, any of which may be a function."""
    for name, part in model.named_modules():
        for key, value in vars(part).items():
            inside = value.values() if isinstance(value, dict) else [value]
            kind = f"a {key[1:-1].replace('_', ' ')}" if key.endswith("_hooks") else key
            where = f"{kind} of {name}" if name else kind
            if key not in ("_parameters", "_buffers", "_modules"):
                yield from ((where, one) for one in inside)
    for name, parameter in model.named_parameters():
        for hook in itertools.chain(*_gradient_hooks(parameter)):
            yield f"a hook of {name}", hook


def _reachable_from(function: object) -> Iterator[object]:
    """Yield closures, defaults and globals of a function, and of the functions among these."""
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
            defaults = (*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values())
            named = [known[name] for name in global_names(thing.__code__) if name in known]
            inside = [*closure_values(thing), *defaults, *named]
        yield from inside
        waiting.extend(inside)
