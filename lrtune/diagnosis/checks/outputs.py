"""What the loss is given: outputs that it squashes once more, targets of another shape."""

import math
from collections.abc import Iterator
from dataclasses import replace

from lrtune.diagnosis.observations.losses import RANGES, LossCall
from lrtune.diagnosis.observed import Observed
from lrtune.results import Finding

ACTIVATION = "activation-before-loss"
BROADCAST = "broadcast-targets"

TAKE_SCORES = (
    "cross_entropy", "binary_cross_entropy_with_logits", "multilabel_soft_margin_loss",
    "soft_margin_loss",
)  # fmt: skip
BY_HAND = ("log_softmax", "logsigmoid")
TAKE_LOGS = ("nll_loss", "kl_div", "ctc_loss")
TAKE_NUMBERS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")

WITH_SOFTMAX = ("cross_entropy", "log_softmax")

SQUASHING = {
    "Softmax": "a softmax", "Sigmoid": "a sigmoid", "Hardsigmoid": "a hard sigmoid",
    "Tanh": "a tanh", "Hardtanh": "a hard tanh", "LogSigmoid": "a log-sigmoid",
}  # fmt: skip
ONE_SIDED = {
    "Relu": "a ReLU", "Softplus": "a softplus", "Gelu": "a GELU", "Silu": "a SiLU",
    "Mish": "a Mish",
}  # fmt: skip
"""Activations of hidden layers, after which scores are hardly ever negative."""

MOST_OUTSIDE = 0.1
"""By convention: a tenth of the targets may lie out of reach, as outliers do. A last layer that
does not fit leaves out a third or more; healthy tasks leave out none."""


def check_activation(seen: Observed) -> Iterator[Finding]:
    """Outputs that went through an activation which the loss has itself, or lacks."""
    told = set()
    for where, calls in (("", seen.calls), (" in eval mode", seen.calls_in_eval)):
        for call in calls.losses if calls else ():
            found = _judged(call)
            if found is not None and (call.function, call.made_by) not in told:
                told.add((call.function, call.made_by))
                yield replace(found, evidence=f"{found.evidence}{where}.")


def _judged(call: LossCall) -> Finding | None:
    """What is wrong with a call; the evidence without its full stop."""
    if call.function in (*TAKE_SCORES, *BY_HAND):
        return _of_scores(call)
    if call.function in TAKE_LOGS:
        return _of_logs(call)
    if call.function in TAKE_NUMBERS and call.out_of_reach > MOST_OUTSIDE:
        low, high = RANGES[call.made_by]
        span = f"between {low:g} and {high:g}" if math.isfinite(high) else "never negative"
        return Finding(
            ACTIVATION,
            "warning",
            f"The outputs come from {(SQUASHING | ONE_SIDED)[call.made_by]}, so they are {span}, "
            f"but {call.out_of_reach:.0%} of the targets are not",
            "The last activation does not fit the targets.",
            "Leave the last activation out, or scale the targets into its range.",
        )
    return None


def _of_scores(call: LossCall) -> Finding | None:
    """What to say where a loss applies an activation to outputs that already have one."""
    if call.function in WITH_SOFTMAX and call.holds == "log-probabilities":
        return Finding(
            ACTIVATION,
            "note",
            f"{call.function} gets log-probabilities: the exponentials of the {_classes(call)} "
            "numbers of each row sum to one",
            f"{call.function} contains a log-softmax; a second one changes nothing.",
            "Leave log_softmax out, or use nn.NLLLoss().",
        )
    squashing = ("Softmax", "Sigmoid") if call.function in BY_HAND else tuple(SQUASHING)
    squashed = call.made_by in squashing
    if squashed or (call.function in WITH_SOFTMAX and call.holds == "probabilities"):
        return _squashed_twice(call)
    if call.function == "cross_entropy" and call.made_by in ONE_SIDED:
        return Finding(
            ACTIVATION,
            "warning",
            f"cross_entropy gets the {_classes(call)} outputs of {ONE_SIDED[call.made_by]}, of "
            f"which the largest is {call.highest:.3g}",
            "The activation of the hidden layers stands behind the last one, too, so that no score "
            "is clearly negative, and a score of zero gets no gradient.",
            "Leave the activation behind the last layer out.",
        )
    return None


def _squashed_twice(call: LossCall) -> Finding:
    softmax = call.function in WITH_SOFTMAX
    inside = "a softmax" if softmax else "a sigmoid"
    given = SQUASHING.get(call.made_by, "a softmax")
    low, high = RANGES.get(call.made_by, (0.0, 1.0) if softmax else (-math.inf, math.inf))
    if softmax:
        floor = f"{math.log1p((_classes(call) - 1) * math.exp(low - high)):.3g}"
    else:
        floor = f"{math.log1p(math.exp(low)):.3g} for a target of 0"
    return Finding(
        ACTIVATION,
        "error",
        f"{call.function} gets outputs of {given}, of the shape {list(call.shape)}, so the loss "
        f"cannot fall below {floor}",
        f"{call.function} contains {inside}, so the scores are squashed twice: gradients are "
        "small, and training stalls.",
        f"Return the raw scores of the last layer, and take {inside} only to predict.",
    )


def _of_logs(call: LossCall) -> Finding | None:
    """Of a loss that takes log-probabilities."""
    what = why = ""
    if call.holds == "probabilities":
        what = f"probabilities, the largest {call.highest:.3g}"
        why = "The log is missing: softmax stands where log_softmax belongs."
    elif call.holds == "scores" and call.made_by == "LogSoftmax":
        what = f"numbers whose exponentials do not sum to one over {_classes(call)} classes"
        why = "log_softmax goes over another axis than that of the classes."
    elif call.holds == "scores" and call.highest > 1e-3:
        what = f"raw scores, the largest {call.highest:.3g}"
        why = (
            "No log-softmax stands between the last layer and the loss, so the loss falls without "
            "end where scores grow, whatever is right."
        )
    if not what:
        return None
    better = ", or use nn.CrossEntropyLoss()" if call.function == "nll_loss" else ""
    return Finding(
        ACTIVATION,
        "error",
        f"{call.function} takes log-probabilities, but gets {what}",
        why,
        f"Put log_softmax over the classes in front of it{better}.",
    )


def _classes(call: LossCall) -> int:
    return call.shape[min(1, len(call.shape) - 1)]


def check_broadcast(seen: Observed) -> Iterator[Finding]:
    """Outputs and targets that PyTorch combines each with each other."""
    for found in seen.calls.broadcasts[:1] if seen.calls else ():
        fewer = seen.calls_with_fewer_rows
        if fewer is not None and not fewer.broadcasts:
            return  # something else, such as centres of a kernel, is as many as the rows by chance
        one, other = (list(shape) for shape in found.shapes)
        yield Finding(
            BROADCAST,
            "error",
            f"{found.function} combines tensors of the shapes {one} and {other}: the result has "
            f"the shape {list(found.result)}, each row with each other row.",
            "Outputs or targets have an axis of one more, and PyTorch broadcasts them. Training "
            "then learns the mean of the targets, whatever the inputs.",
            "Give both the same shape, such as model(x).squeeze(1), or y.unsqueeze(1).",
        )
