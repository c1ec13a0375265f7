"""Source code as text that its format and the names of its local variables do not change.

Comments, blank lines, quotes, docstrings, annotations and the names of locals do nothing, so they
do not count. Everything else does.
"""

import ast
from collections.abc import Iterator, Sequence
from types import CodeType

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Scopes = tuple[dict[str, str], ...]
"""The local names of a function and of those around it, each with what stands for it."""

UNSEEN = ("ctx", "kind", "type_comment", "type_params", "annotation", "returns")
"""Fields of a syntax tree that change nothing of what code does."""


def code_text(function: Function, free: Sequence[str] = ()) -> tuple[str, list[str]]:
    """Return the text of a function, without its name and its decorators.

    Args:
        function: Its syntax tree.
        free: The names of the variables of the functions around it that it uses.

    Returns:
        The text; and these names in the order in which they are used.

    >>> one, two = (ast.parse(text, mode="eval").body for text in
    ...             ("lambda x: [y + 1 for y in x]", "lambda rows: [a+1  for a in rows]"))
    >>> code_text(one) == code_text(two)
    True
    """
    writer, around = _Writer(_kept_names(function)), dict.fromkeys(free, "")
    lines = list(writer.function(function, (around,)))
    used = sorted(free, key=lambda name: (not around[name], len(around[name]), around[name], name))
    return "\n".join(lines), used


def may_be_code_of(node: Function, code: CodeType) -> bool:
    """Return whether compiled code may be that of a function; several may begin on one line."""
    arguments = [*node.args.posonlyargs, *node.args.args]
    begin, end = (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    return [one.arg for one in arguments] == [*code.co_varnames[: code.co_argcount]] and all(
        begin <= (line, column) and (last_line, last) <= end
        for line, last_line, column, last in code.co_positions()
        # The first instruction of a function stands at the begin of its first line.
        if line is not None and last_line is not None and column and last
    )


class _Writer:
    """Writes code as lines, in which a number stands for each local name."""

    def __init__(self, kept: set[str]) -> None:
        self._kept, self._count = kept, 0

    def function(self, node: Function, scopes: Scopes) -> Iterator[str]:
        """Yield the lines of a function, whose defaults belong to the code around it."""
        arguments = node.args
        yield from self._lines([arguments.defaults, arguments.kw_defaults], scopes)
        inside = (*scopes, dict.fromkeys(_local_names(node) - self._kept, ""))
        for name in ("posonlyargs", "args", "vararg", "kwonlyargs", "kwarg"):
            yield name
            yield from self._lines(getattr(arguments, name), inside)
        yield from self._lines(node.body, inside)

    def _comprehension(self, node: Comprehension, scopes: Scopes) -> Iterator[str]:
        """Yield the lines of a comprehension; its first iterable belongs to the code around it."""
        first, *more = node.generators
        yield from self._lines(first.iter, scopes)
        inside = (*scopes, dict.fromkeys(_local_names(node) - self._kept, ""))
        yield from self._lines([first.target, first.ifs, first.is_async, more], inside)
        parts = [getattr(node, name) for name in ("key", "value", "elt") if hasattr(node, name)]
        yield from self._lines(parts, inside)

    def _lines(self, value: object, scopes: Scopes) -> Iterator[str]:
        """Yield the lines of any part of a syntax tree."""
        match value:
            case list():
                for one in value:
                    yield from self._lines(one, scopes)
            case ast.Expr(value=ast.Constant()) | ast.AnnAssign(value=None):
                pass  # a docstring, or an annotation alone
            case ast.AnnAssign(target=target, value=ast.expr() as assigned):
                yield from self._lines(ast.Assign([target], assigned), scopes)
            case ast.JoinedStr(values=values):  # Python 3.12.1 adds empty texts to some
                full = [one for one in values if getattr(one, "value", None) != ""]
                yield from ("JoinedStr", *self._lines(full, scopes), "end")
            case ast.Name(id=name) | ast.arg(arg=name):
                yield self._name(name, scopes)
            case ast.AST():
                yield type(value).__name__
                yield from self._parts(value, scopes)
                yield "end"
            case _:
                yield repr(value)

    def _parts(self, node: ast.AST, scopes: Scopes) -> Iterator[str]:
        """Yield the lines of what a node consists of."""
        if isinstance(node, Function):
            yield from self._lines(getattr(node, "decorator_list", []), scopes)
            yield getattr(node, "name", "")
            yield from self.function(node, scopes)
        elif isinstance(node, Comprehension):
            yield from self._comprehension(node, scopes)
        else:
            for name, part in ast.iter_fields(node):
                if name not in UNSEEN and part not in (None, []):
                    yield name
                    yield from self._lines(part, scopes)

    def _name(self, name: str, scopes: Scopes) -> str:
        """Return what stands for a local name; a number that it gets where it is first used."""
        for scope in reversed(scopes):
            if name in scope:
                if not scope[name]:
                    self._count += 1
                    scope[name] = f"local {self._count}"
                return scope[name]
        return name


def _kept_names(function: Function) -> set[str]:
    """Return the names that are never replaced, as they are bound in an unusual way, or visible.

    Arguments with a default may be given by name, and attributes of a class are read by name.
    """
    kept = set[str]()
    for node in ast.walk(function):
        match node:
            case ast.arguments():
                named = [*node.posonlyargs, *node.args]
                named = named[len(named) - len(node.defaults) :] + node.kwonlyargs
                kept |= {one.arg for one in named}
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                kept |= {*names}
            case ast.alias():
                kept.add(node.asname or node.name.partition(".")[0])
            case ast.NamedExpr(target=ast.Name(id=name)):
                kept.add(name)
            case ast.ClassDef():
                kept |= {node.name, *_stored_names(node.body)}
            case ast.FunctionDef(name=str(name)) | ast.AsyncFunctionDef(name=str(name)):
                kept.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                kept.add(name)
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                kept.add(name)
    return kept


def _local_names(scope: Function | Comprehension) -> set[str]:
    """Return the names that a function or a comprehension binds: arguments, and what it assigns."""
    if isinstance(scope, Comprehension):
        return _stored_names([one.target for one in scope.generators])
    arguments = scope.args
    some = [*arguments.posonlyargs, *arguments.args, arguments.vararg, arguments.kwarg]
    body = scope.body if isinstance(scope.body, list) else [scope.body]
    return _stored_names(body) | {one.arg for one in some if one is not None}


def _stored_names(nodes: Sequence[ast.AST]) -> set[str]:
    """Return the names that code assigns, but for those of the scopes inside it."""
    found = set[str]()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        if not isinstance(node, Function | Comprehension | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
    return found
