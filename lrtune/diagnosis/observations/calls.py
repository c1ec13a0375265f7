"""The calls of torch's functions in a forward pass: losses, layers, activations, broadcasts."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lrtune.diagnosis.observations.losses import LOGS, LOSSES, LossCall, note_loss
from lrtune.diagnosis.observations.origins import leaf_of

LARGEST_SLOPE = {
    "relu": 1.0, "relu_": 1.0, "relu6": 1.0, "sigmoid": 0.25, "sigmoid_": 0.25, "tanh": 1.0,
    "tanh_": 1.0, "gelu": 1.0, "silu": 1.0, "elu": 1.0, "selu": 1.0, "softplus": 1.0, "mish": 1.0,
    "hardtanh": 1.0, "hardsigmoid": 1 / 6, "hardswish": 1.0, "softsign": 1.0,
}  # fmt: skip
"""Activations that let no gradient through for some inputs; with their largest slope, about."""

SATURATING = ("sigmoid", "sigmoid_", "tanh", "tanh_", "hardtanh", "hardsigmoid", "softsign")
"""Those that do so on both sides."""

FLAT = 0.01
"""By convention: a slope below this share of the largest one lets no gradient through."""

OF_CHANNELS = ("conv", "batch_norm", "group_norm", "instance_norm")
"""Parts of names of functions whose units lie along axis 1; those of others lie along the last."""

WITH_WEIGHTS = (
    "linear", "bilinear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "lstm", "gru", "rnn_tanh", "rnn_relu", "multi_head_attention_forward",
)  # fmt: skip
"""Functions that are a layer."""

PRODUCTS = ("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "einsum", "addmm")
"""Functions that are a layer where one of their arguments is a parameter."""

ELEMENTWISE = (
    "sub", "subtract", "rsub", "__rsub__", "add", "__radd__", "mul", "multiply", "__rmul__", "div",
    "divide", "true_divide", "__rdiv__", "__rtruediv__",
)  # fmt: skip


@dataclass
class Layer:
    """A weight, and what all calls with it return.

    Attributes:
        name: Of the weight, or of the function where the weight is computed.
        inward: Root mean square, over the inputs of the first call, of their deviation over the
            rows of the batch; NaN where they are no floats.
        spread: That of the outputs; the largest of all calls.
        squared: The sum of squares of the gradient of the loss with respect to the outputs.
    """

    name: str
    inward: float
    spread: float = 0.0
    squared: float = 0.0


@dataclass(frozen=True)
class Activation:
    """A call of an activation.

    Attributes:
        function: Its name.
        layer: The name of the layer before it.
        passing: For each unit, the share of its outputs where a gradient comes through.
    """

    function: str
    layer: str
    passing: Tensor


@dataclass(frozen=True)
class Broadcast:
    """Two tensors of as many rows as the batch has, combined each row with each other row."""

    function: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    result: tuple[int, ...]


@dataclass
class Calls:
    """What a forward pass calls, in this order.

    Attributes:
        losses: Calls of torch's losses.
        layers: Weights, or places of calls, to layers.
        activations: Calls of activations.
        broadcasts: Calls that combine each row with each other.
        used: The ids of the parameters that a function was called with.
    """

    losses: list[LossCall] = field(default_factory=list)
    layers: dict[object, Layer] = field(default_factory=dict)
    activations: list[Activation] = field(default_factory=list)
    broadcasts: list[Broadcast] = field(default_factory=list)
    used: set[int] = field(default_factory=set)


class Watch(TorchFunctionMode):
    """Notes the calls of torch's functions, and lets them do what they do.

    Args:
        names: The ids of the model's parameters, with their names.
        rows: How many rows the batch has.
    """

    def __init__(self, names: Mapping[int, str], rows: int) -> None:
        super().__init__()
        self.calls, self._names, self._rows = Calls(), names, rows
        self._layer, self._units = "the inputs", -1
        self._unsqueezed: list[Tensor] = []  # held, so that their ids stay theirs

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call the function, and note it."""
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        given = [*_tensors((args, kwargs))]
        self.calls.used.update(id(one) for one in given if id(one) in self._names)
        if any(map(is_wrapped, given)):
            return func(*args, **kwargs)
        if name in LARGEST_SLOPE and given and given[0].requires_grad:
            self._note_activation(name, func, args, kwargs)  # before it may change its input
        result = func(*args, **kwargs)
        if name in (*LOSSES, *LOGS) and _has_gradient(given, result):
            loss = note_loss(name, args, kwargs, result)
            self.calls.losses += [] if loss is None else [loss]
        if name in (*ELEMENTWISE, *LOSSES):
            self._note_broadcast(name, given[:2])
        elif name in (*WITH_WEIGHTS, *PRODUCTS):
            self._note_layer(name, given, result)
        elif name == "unsqueeze" or (name == "__getitem__" and _adds_axis(args)):
            self._unsqueezed.append(result)
        if any(part in name for part in OF_CHANNELS):
            self._units = 1
        return result

    def _note_activation(self, name: str, func: Callable[..., Any], args: Any, kwargs: Any) -> None:
        # Hooks of its own, as torch.utils.checkpoint counts what is saved for the backward pass.
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_as_is, _as_is):
            inputs = args[0].detach().clone().requires_grad_()
            # A clone once more, as the function may work in place.
            outputs = func(inputs.clone(), *args[1:], **kwargs)
            (slopes,) = torch.autograd.grad(outputs.sum(), inputs)
        passes = slopes.abs() >= FLAT * LARGEST_SLOPE[name]
        if name == "hardtanh" and 0 in (*args[1:2], kwargs.get("min_val")):
            name = "relu6"  # as nn.ReLU6 calls it
        if passes.ndim > 1 and passes.numel():
            units = passes.movedim(self._units, 0).flatten(1).double().mean(1)
            self.calls.activations.append(Activation(name, self._layer, units.cpu()))

    def _note_broadcast(self, name: str, given: Sequence[Tensor]) -> None:
        shapes = [tuple(one.shape) for one in given]
        if len({len(shape) for shape in shapes}) < 2 or not all(shapes):
            return
        if not shapes[0][0] == shapes[1][0] == self._rows > 1:
            return
        # One comes from the model, and is no parameter that has as many rows by chance.
        computed = [one for one in given if one.requires_grad and leaf_of(one) is None]
        if len(computed) != 1 or all(one.requires_grad for one in given):
            return
        if name not in LOSSES and any(one is it for one in given for it in self._unsqueezed):
            return  # an axis that was put in front of it is meant, as for distances of pairs
        try:
            result = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
        except RuntimeError:
            return
        if result.numel() > max(one.numel() for one in given):
            self.calls.broadcasts.append(Broadcast(name, (shapes[0], shapes[1]), tuple(result)))

    def _note_layer(self, name: str, given: Sequence[Tensor], result: object) -> None:
        leaves = [leaf for one in given if (leaf := leaf_of(one)) is not None]
        known = [leaf for leaf in leaves if id(leaf) in self._names and leaf.ndim > 1]
        output = result[0] if isinstance(result, tuple) else result
        if not isinstance(output, Tensor) or (name in PRODUCTS and not known):
            return
        number = len(self.calls.layers) + 1
        key = id(known[0]) if known else number
        self._layer = self._names[id(known[0])] if known else f"{name} {number}"
        self._units = -1
        layer = self.calls.layers.setdefault(key, Layer(self._layer, _spread(given[0])))
        layer.spread = max(layer.spread, _spread(output))
        if output.requires_grad:

            def note(gradient: Tensor) -> None:
                layer.squared += float(gradient.detach().double().square().sum())

            output.register_hook(note)  # type: ignore[no-untyped-call]


def _spread(numbers: Tensor) -> float:
    """Root mean square of the deviations over the rows; NaN where there are none."""
    if numbers.ndim < 2 or len(numbers) < 2 or not numbers.is_floating_point():
        return math.nan
    return float(numbers.detach().double().var(0, correction=0).mean().sqrt())


def _as_is(tensor: Tensor) -> Tensor:
    return tensor


def _has_gradient(given: Sequence[Tensor], result: object) -> bool:
    return bool(given) and given[0].requires_grad and isinstance(result, Tensor)


def _adds_axis(args: Any) -> bool:
    index = args[1] if len(args) > 1 else ()
    return index is None or (isinstance(index, tuple) and any(one is None for one in index))


def is_wrapped(tensor: Tensor) -> bool:
    """Return whether a tensor stands for many, inside `torch.func` or `vmap`."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))  # noqa: SLF001


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in the arguments of a call, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
