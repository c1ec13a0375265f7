"""Values and code as texts, which are the same in another process, file, and version of Python.

Whoever hashes these texts can tell whether a loss function is the one of yesterday. Code counts by
its source. Bytecode, addresses, file names and the order of sets never count.
"""

import ast
import dis
import functools
import hashlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrtune.task.source_texts import Function, code_text, may_be_code_of

PLAIN = (bool, int, float, complex, str, bytes, type(None))
DEPTH = 8
"""Objects inside objects are followed so far; a logger, for one, leads to half the program."""


def text_digest(parts: Iterable[str]) -> str:
    """32 hexadecimal digits over texts, each kept apart from the next.

    >>> text_digest(["ab"]) == text_digest(["a", "b"])
    False
    """
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        hashed.update(len(raw).to_bytes(8, "little") + raw)
    return hashed.hexdigest()


def plain_repr(value: object) -> str:
    """The value's repr without memory addresses, which differ from process to process.

    >>> plain_repr(len), plain_repr(object())
    ('<built-in function len>', '<object object at 0x>')
    """
    return re.sub(r"0x[0-9a-fA-F]+", "0x", repr(value))


def value_texts(value: Any, above: frozenset[int] = frozenset()) -> Iterator[str]:
    """Texts that identify a value: numbers, collections, tensors, functions, objects, classes.

    A function has what its source does, its defaults, and the values that it captures, or reads
    from its module as constants. An object has the source of its class and its attributes.

    Args:
        value: Anything.
        above: Ids of the objects that contain it, so that a cycle ends.

    >>> list(value_texts({"rate": 0.1}))
    ['dict of 2', "'rate'", '0.1']
    """
    if isinstance(value, PLAIN):
        yield repr(value)
        return
    if id(value) in above or len(above) > DEPTH:
        return
    above |= {id(value)}
    own, parts = _own_texts_and_parts(value)
    if isinstance(value, (set, frozenset)):  # their order differs from process to process
        own = sorted("\0".join(value_texts(one, above)) for one in value)
    yield f"{type(value).__qualname__} of {len(parts)}"
    yield from own
    for part in parts:
        yield from value_texts(part, above)


def _own_texts_and_parts(value: Any) -> tuple[list[str], list[Any]]:  # noqa: C901 - one per kind
    """Texts of the value itself, and the values inside it."""
    own: list[str] = []
    parts: list[Any] = []
    match value:
        case Tensor() | np.ndarray():
            raw = _raw(value) if isinstance(value, Tensor) else value.tobytes()
            own = [f"{value.dtype} {tuple(value.shape)} {hashlib.blake2b(raw).hexdigest()}"]
        case FunctionType():
            text, order = _source(value)
            own, parts = [text], _captured(value, order)
        case MethodType():
            parts = [value.__func__, value.__self__]
        case functools.partial():
            parts = [value.func, value.args, value.keywords]
        case nn.Module():
            own, parts = structure_texts(value), [type(value), dict(value.state_dict())]
        case type():
            own, parts = [value.__qualname__], _members(value)
        case Mapping():
            parts = [part for item in value.items() for part in item]
        case list() | tuple():
            parts = list(value)
        case _ if hasattr(value, "__dict__") and not isinstance(value, ModuleType):
            parts = [type(value), vars(value)]
    if not own and not parts and not hasattr(value, "__dict__"):
        own = [plain_repr(value)]
    return own, parts


def structure_texts(model: nn.Module) -> list[str]:
    """The parts of a model with their settings, and its parameters and buffers without values."""
    lines = []
    for name, part in model.named_modules():
        # Some settings do not show in the repr of a part.
        kept = (*PLAIN, tuple)
        public = {k: v for k, v in vars(part).items() if not k.startswith("_")}
        settings = {k: v for k, v in sorted(public.items()) if isinstance(v, kept)}
        lines.append(f"{name} {type(part).__qualname__} {plain_repr(part.extra_repr())}")
        lines += value_texts(settings)
    for name, one in (*model.named_parameters(), *model.named_buffers()):
        lines.append(f"{name} {one.dtype} {tuple(one.shape)} {one.requires_grad}")
    return lines


def _raw(tensor: Tensor) -> memoryview | bytes:
    dense = tensor.detach().cpu()
    if dense.layout is not torch.strided:
        dense = dense.to_dense()
    dense = dense.resolve_conj().resolve_neg().contiguous().reshape(-1)
    return dense.view(torch.uint8).numpy().data if dense.numel() else b""


def closure_values(function: FunctionType, order: Sequence[str] | None = None) -> list[Any]:
    """The values that a function uses of the functions around it, by name in this order."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    values = []
    for name in cells if order is None else order:
        with suppress(ValueError):  # a variable that has no value yet
            values.append(cells[name].cell_contents)
    return values


def _captured(function: FunctionType, order: Sequence[str]) -> list[Any]:
    """Defaults, values of the enclosing function, and constants of the module that it reads."""
    constants = {}
    for name in sorted(set(global_names(function.__code__))):
        known = function.__globals__.get(name)
        if isinstance(known, (*PLAIN, tuple)) and not name.startswith("__"):
            constants[name] = known
    return [
        function.__defaults__,
        function.__kwdefaults__,
        closure_values(function, order),
        constants,
    ]


def global_names(code: CodeType) -> Iterator[str]:
    """The global names that a function and the functions inside it load."""
    loads = ("LOAD_GLOBAL", "LOAD_NAME")
    yield from (one.argval for one in dis.get_instructions(code) if one.opname in loads)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from global_names(inner)


def _known_by_version(code: FunctionType | type) -> bool:
    """Whether code belongs to torch, whose version identifies it, or to Python."""
    return (code.__module__ or "").partition(".")[0] in ("torch", "builtins")


def _members(kind: type) -> list[Any]:
    """The bases of a class, its methods, and its constants."""
    if _known_by_version(kind):
        return []
    members: list[Any] = [base for base in kind.__bases__ if base is not object]
    for name, member in vars(kind).items():
        inner = getattr(member, "__func__", getattr(member, "fget", member))
        constant = isinstance(inner, (*PLAIN, tuple)) and not name.startswith("__")
        if constant or isinstance(inner, FunctionType):
            members += [name, inner]
    return members


def _source(function: FunctionType) -> tuple[str, Sequence[str]]:
    """What a function does, and its free variables in the order of their use.

    Its name where there is no source.
    """
    code = function.__code__  # never that of a function that it wraps
    free, unknown = code.co_freevars, (function.__qualname__, code.co_freevars)
    if _known_by_version(function):
        return unknown
    try:
        text = "".join(inspect.findsource(code)[0])
        nodes = _functions(text)
    except (OSError, TypeError, SyntaxError, ValueError):
        return unknown
    kind = ast.Lambda if function.__name__ == "<lambda>" else ast.FunctionDef
    here = [
        node for first, node in nodes if first == code.co_firstlineno and isinstance(node, kind)
    ]
    # Where code has no columns, lambdas on one line cannot be told apart: all of them count.
    exact = [node for node in here if may_be_code_of(node, code)]
    if exact:
        return code_text(exact[-1], free)
    return "\n".join(code_text(node)[0] for node in here), free


@functools.lru_cache(maxsize=32)
def _functions(text: str) -> list[tuple[int, Function]]:
    """The functions of a file, each with the line that it begins on, decorators included."""
    return [
        (min(one.lineno for one in (node, *getattr(node, "decorator_list", []))), node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.Lambda))
    ]
