"""Where the numbers of a tensor come from, by the graph of autograd."""

import re
from typing import Any

from torch import Tensor

RESHAPING = (
    "View", "UnsafeView", "Reshape", "ReshapeAlias", "Squeeze", "Unsqueeze", "Permute",
    "Transpose", "T", "Select", "Slice", "Index", "Clone", "ToCopy", "Alias", "Expand", "Unbind",
    "Split", "Clamp", "ClampMin", "ClampMax",
)  # fmt: skip
"""Operations, as autograd calls them, that leave numbers as they are, or cut them off."""


def made_by(tensor: Tensor) -> str:
    """Return the operation that computed the numbers of a tensor, as autograd calls it.

    >>> import torch
    >>> made_by(torch.ones(2, 3, requires_grad=True).softmax(1)[:, 0])
    'Softmax'
    """
    node = _origin(tensor)
    return "" if node is None else _operation(node)


def leaf_of(tensor: Tensor) -> Tensor | None:
    """Return the leaf with a gradient that this tensor is, or a view of; else None."""
    if tensor.is_leaf:
        return tensor if tensor.requires_grad else None
    return getattr(_origin(tensor), "variable", None)


def graph_leaves(*tensors: Tensor) -> dict[int, Tensor]:
    """Return the leaves that get a gradient from these tensors, by their ids.

    >>> import torch
    >>> weight = torch.ones(2, requires_grad=True)
    >>> [*graph_leaves((2 * weight).sum())] == [id(weight)]
    True
    """
    found = {id(one): one for one in tensors if one.is_leaf}
    waiting, seen = [one.grad_fn for one in tensors], set[object]()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            found[id(leaf)] = leaf
        waiting.extend(following for following, _ in node.next_functions)
    return found


def _origin(tensor: Tensor) -> Any:
    """Return the node of the graph that computed the numbers of a tensor."""
    node: Any = tensor.grad_fn
    while node is not None and _operation(node) in RESHAPING and node.next_functions:
        node = node.next_functions[0][0]
    return node


def _operation(node: Any) -> str:
    return re.sub(r"Backward\d*$", "", node.name())
