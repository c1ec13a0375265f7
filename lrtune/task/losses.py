"""What is known of a task's loss: which of torch's losses it is, and how low it can fall."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lrtune.analysis.scores import Scale
from lrtune.errors import TaskError

KNOWN: Mapping[type[nn.Module], tuple[Callable[..., Tensor], str]] = {
    nn.CrossEntropyLoss: (functional.cross_entropy, "cross-entropy"),
    nn.NLLLoss: (functional.nll_loss, "negative log likelihood"),
    nn.BCELoss: (functional.binary_cross_entropy, "binary cross-entropy"),
    nn.BCEWithLogitsLoss: (functional.binary_cross_entropy_with_logits, "binary cross-entropy"),
    nn.MSELoss: (functional.mse_loss, "squared error"),
    nn.L1Loss: (functional.l1_loss, "absolute error"),
    nn.HuberLoss: (functional.huber_loss, "Huber loss"),
    nn.SmoothL1Loss: (functional.smooth_l1_loss, "smooth L1 loss"),
    nn.MultiMarginLoss: (functional.multi_margin_loss, "multi-class margin loss"),
    nn.SoftMarginLoss: (functional.soft_margin_loss, "soft margin loss"),
}
"""Losses of torch that are never negative where their targets are in order: function and name."""

NAMES = dict(KNOWN.values())
BINARY = (functional.binary_cross_entropy, functional.binary_cross_entropy_with_logits)

ROWS = 256  # by convention: this many targets are looked at
SURE = 100.0  # a logit that gives a probability of 1 in double precision
TINY = 1e-300  # logs of zero end here


@dataclass(frozen=True)
class LossKind:
    """What a task's loss is, and how low it can fall.

    Attributes:
        name: In words, such as `cross-entropy` or `an objective`.
        floor: The number below which the loss cannot fall; None where it is unknown.
        resolution: The step from the first loss to the next number that its dtype holds.
        summed: Over how many samples a training loss sums, about: where it is a sum, those of the
            first batch, else 1. Searches state losses per sample.
    """

    name: str
    floor: float | None
    resolution: float = 0.0
    summed: float = 1.0

    @property
    def scale(self) -> Scale:
        """The scale on which the losses are compared, per sample where they are sums."""
        floor = None if self.floor is None else self.floor / self.summed
        return Scale(floor, self.resolution / self.summed)

    @property
    def scores(self) -> str:
        """What the scores are, in words."""
        floor = self.scale.floor
        if floor is None:
            return "shares of the fall"
        return f"logs of the loss above {floor:.4g}" if floor else "log losses"

    @property
    def words(self) -> str:
        """Both in a sentence.

        >>> LossKind("cross-entropy", 0.0).words
        'cross-entropy; scores are log losses'
        >>> LossKind("an objective", None).words
        'an objective of unknown floor; scores are shares of the fall'
        """
        unknown = " of unknown floor" if self.floor is None else ""
        each = ", a sum that is stated per sample" if self.summed != 1 else ""
        return f"{self.name}{unknown}{each}; scores are {self.scores}"


@dataclass(frozen=True)
class KnownLoss:
    """One of torch's losses: its function, the options, and how the task's model uses it.

    Attributes:
        function: A function of `torch.nn.functional`.
        options: Its keyword arguments, tensors as float64 on the CPU.
        outputs: The shape of the model's outputs for the first batch.
        targets: The shape of that batch's targets.
        floor: The number below which it cannot fall with these targets.
    """

    function: Callable[..., Tensor]
    options: Mapping[str, Any]
    outputs: torch.Size
    targets: torch.Size
    floor: float = 0.0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss; both are float64 on the CPU, or the targets are labels."""
        return self.function(outputs, targets, **self.options)

    @property
    def takes_labels(self) -> bool:
        """Whether the targets are the numbers of classes."""
        of_classes = self.function in (functional.cross_entropy, functional.nll_loss)
        return of_classes and self.outputs != self.targets


def known_loss(loss: object, outputs: object, targets: object) -> KnownLoss | None:
    """Return which of torch's losses this is; None for any other, and where it has no floor.

    It may be a module, also of a subclass that computes the same, or a function, also with
    arguments set by `functools.partial`. The floor is 0; where the targets are soft, by label
    smoothing or as probabilities, it is the lowest entropy of any of the first `ROWS` targets.

    Args:
        loss: The task's loss.
        outputs: The model's outputs for the first batch; None where an objective hides them.
        targets: The targets of that batch.
    """
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
        return None
    named = _function_and_options(loss)
    if named is None:
        return None
    function, options = named
    tensors = [value for value in options.values() if isinstance(value, Tensor)]
    if any(bool((one < 0).any()) for one in tensors):  # a negative weight has no floor
        return None
    if function is functional.nll_loss and not _sums_to_one(outputs):
        return None
    if _holds_probabilities(function, outputs, targets) and not _lies_in_unit_interval(targets):
        return None
    plain = {name: exact(value) for name, value in options.items()}
    known = KnownLoss(function, plain, outputs.shape, targets.shape)
    return replace(known, floor=_lowest_loss(known, targets.detach())) if targets.ndim else known


def loss_kind(
    known: KnownLoss | None, first: Tensor, floor: float | None, *, has_objective: bool
) -> LossKind:
    """Return the kind of a task's loss; a floor that the user gives comes before a known one.

    Args:
        known: What `known_loss` returned.
        first: The loss of the untrained model on the first batch.
        floor: The number that the user gave, or None.
        has_objective: Whether an objective computes the loss.

    Raises:
        TaskError: The user's floor is no finite number, or lies above the first loss.
    """
    name, value = "an objective" if has_objective else "a custom loss", first.item()
    # One unit in the last place of the loss: 0.06 for a float32 near a million.
    resolution = math.ldexp(torch.finfo(first.dtype).eps, math.frexp(value)[1] - 1)
    if known is not None:
        name = NAMES[known.function]
    if floor is not None:
        return LossKind(name, _checked_floor(floor, value), resolution)
    if known is None or value < known.floor - 4 * resolution:  # lower by more than its rounding
        return LossKind(name, None, resolution)
    return LossKind(name, known.floor, resolution)


def exact(value: Any) -> Any:
    """Return a tensor on the CPU, in float64 if it holds floats; any other value as it is."""
    if not isinstance(value, Tensor):
        return value
    plain = value.detach().cpu()
    return plain.double() if plain.is_floating_point() else plain


def below_floor(loss: float, floor: float, resolution: float = 0.0) -> bool:
    """Return whether a loss lies below a floor by more than rounding.

    >>> below_floor(0.3, 0.9), below_floor(0.9 - 1e-9, 0.9), below_floor(1.0, 0.9)
    (True, False, False)
    """
    return loss < floor - max(4 * resolution, 1e-6 * abs(floor))


def _checked_floor(floor: float, value: float) -> float:
    number = isinstance(floor, (int, float)) and not isinstance(floor, bool)
    if not (number and math.isfinite(floor)):
        raise TaskError(
            f"floor={floor!r}; expected a finite number below which the loss cannot fall, such as "
            "0.0. Leave it out where there is none, or where you do not know it."
        )
    if value < floor:
        raise TaskError(
            f"floor={floor:g}, but the loss of the untrained model on the first batch is "
            f"{value:.6g}; expected a number below which the loss cannot fall. Lower it, or leave "
            "it out."
        )
    return float(floor)


# --- which of torch's losses


def _function_and_options(loss: object) -> tuple[Callable[..., Tensor], dict[str, Any]] | None:
    """Return a function of torch that computes the same, and its options."""
    function, options = loss, {}
    if isinstance(loss, nn.Module):
        function = next((KNOWN[kind][0] for kind in KNOWN if _computes(loss, kind)), None)
        if function is not None:
            names = list(inspect.signature(function).parameters)[2:]
            options = {name: getattr(loss, name) for name in names if hasattr(loss, name)}
    elif isinstance(loss, functools.partial) and not loss.args:
        function, options = loss.func, dict(loss.keywords)
    if not (inspect.isfunction(function) and function in NAMES):
        return None
    # The old names of a reduction come before the new one: whoever uses them tells the floor.
    unusual = [name for name in options if name in ("size_average", "reduce", "input", "target")]
    return None if unusual else (function, options)


def _computes(loss: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a module computes what torch's class does: its code is that of torch."""
    own = type(loss)
    return (
        isinstance(loss, kind)
        and own.forward is kind.forward
        and own.__call__ is nn.Module.__call__
        and "forward" not in vars(loss)
        and not loss._forward_hooks  # noqa: SLF001 - a hook may change what it returns
        and not loss._forward_pre_hooks  # noqa: SLF001
    )


def _sums_to_one(outputs: Tensor) -> bool:
    """Return whether outputs are log-probabilities, as `nll_loss` takes for granted."""
    if outputs.ndim < 2:
        return False
    total = outputs.detach().double().exp().sum(dim=1)
    return bool(((total - 1).abs() < 0.05).all())  # half precision is off by a percent or two


def _holds_probabilities(function: Callable[..., Tensor], outputs: Tensor, targets: Tensor) -> bool:
    of_classes = function is functional.cross_entropy and outputs.shape == targets.shape
    return function in BINARY or of_classes


def _lies_in_unit_interval(targets: Tensor) -> bool:
    return bool(((targets >= 0) & (targets <= 1)).all())


# --- how low it can fall


def _lowest_loss(known: KnownLoss, targets: Tensor) -> float:
    """Return the lowest loss that any outputs have, for any row of the targets."""
    # Every loss in `KNOWN` is at least 0. The mean over a batch is no lower than its lowest row.
    try:
        with torch.no_grad():
            rows = [float(known(_perfect(known, row), row)) for row in _soft_rows(known, targets)]
    except (RuntimeError, ValueError):  # an option whose shape fits whole batches only
        return 0.0
    # The loss of a class without weight is NaN.
    return max(0.0, min((row for row in rows if math.isfinite(row)), default=0.0))


def _soft_rows(known: KnownLoss, targets: Tensor) -> list[Tensor]:
    """Return single targets that no outputs fit without a loss; none where 0 can be reached."""
    options, of_classes = known.options, known.function is functional.cross_entropy
    if known.takes_labels:
        if not options.get("label_smoothing") or len(known.outputs) < 2:
            return []
        labels: Tensor = torch.unique(targets[targets != options.get("ignore_index", -100)])
        # Without weights all classes have the same entropy.
        few = labels[: 1 if options.get("weight") is None else ROWS]
        return list(torch.split(exact(few).long(), 1))
    # The weights of binary targets may be those of the rows of a batch.
    soft = of_classes or (known.function in BINARY and options.get("weight") is None)
    return [exact(row) for row in torch.split(targets[:ROWS], 1)] if soft else []


def _perfect(known: KnownLoss, target: Tensor) -> Tensor:
    """Return the outputs that have the lowest loss for a single target."""
    if known.function is functional.binary_cross_entropy:
        return target
    if known.function in BINARY:
        positive = known.options.get("pos_weight")
        odds: Tensor = target / (1 - target) * (1.0 if positive is None else positive)
        return odds.log().clamp(-SURE, SURE).nan_to_num(0.0)
    wanted = target
    if known.takes_labels:
        wanted = torch.zeros(1, known.outputs[1], dtype=torch.float64)
        wanted[0, target] = 1.0
    smoothing: float = known.options.get("label_smoothing", 0.0)
    weight: Tensor | None = known.options.get("weight")
    wanted = (1 - smoothing) * wanted + smoothing / wanted.shape[1]
    if weight is not None:
        wanted = wanted * weight.reshape(-1, *[1] * (wanted.ndim - 2))
    return wanted.clamp(min=TINY).log()
