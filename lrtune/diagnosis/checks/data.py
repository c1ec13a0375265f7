"""Samples that no training can use: not finite, all the same, or alone in a batch."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lrtune.diagnosis.observations.samples import Samples, inputs_of
from lrtune.diagnosis.observed import Observed
from lrtune.errors import quantity
from lrtune.results import Finding

NONFINITE = "nonfinite-data"
CONSTANT = "constant-inputs"
LAST_OF_ONE = "last-batch-of-one"

MISSING = 0.05
"""By convention: where more of the samples hold NaN, and the loss is finite all the same, values
are missing and the model knows; a few are an accident that something hides."""

ALIKE = 1e-6  # by convention: numbers that differ by less, relative to the largest, are the same
LEAST = 8  # by convention: fewer samples are alike by chance


def check_odd_numbers(seen: Observed) -> Iterator[Finding]:
    """NaN or infinite numbers among the samples."""
    for odd in seen.odd_numbers:
        finite = math.isfinite(odd.loss)
        if not finite:
            effect = f"The loss of that batch before training is {odd.loss}."
        elif not odd.finite_gradient:
            effect = f"The loss of that batch is {odd.loss:.4g}, but its gradient is not finite."
        else:
            effect = f"The loss of that batch is {odd.loss:.4g} all the same."
        share = f" ({odd.share:.2%} of the samples that were read)" if odd.share else ""
        severity = "error"
        if finite and odd.finite_gradient:
            severity = "warning" if odd.share < MISSING else "note"
        hidden = severity != "error"
        yield Finding(
            NONFINITE,
            severity,
            f"In the {odd.part} data, {odd.where}: {odd.text}{share}. {effect}",
            "The model or the loss hides them (nan_to_num, a mask, an input that is not used)."
            if hidden
            else "A division by 0, a log of 0 or a missing value when the data were made; one such "
            "batch destroys the weights at any rate.",
            "If they are meant, nothing is wrong. Otherwise mend or drop these samples: "
            "torch.isfinite(x).all() tells which."
            if hidden
            else "Mend or drop these samples: torch.isfinite(x).all() tells which.",
        )


def check_constant(seen: Observed) -> Iterator[Finding]:
    """Inputs that are the same for every sample."""
    samples = seen.training_samples
    constant = [name for name, is_constant in constant_inputs(samples).items() if is_constant]
    if samples.count < LEAST or not constant or not _has_content(samples, constant):
        return
    yield Finding(
        CONSTANT,
        "error" if len(constant) == len(inputs_of(samples.found[0].batch)) else "note",
        f"All {samples.count:,} training samples that were read have the same "
        f"{' and '.join(constant)}.",
        "The data set returns the same sample for every index, or a transform removes what differs "
        "(an integer division, a mean over the wrong axis, a crop of the border).",
        "Look at two samples side by side: train_set[0], train_set[1]. The model can learn "
        "nothing but the average target.",
    )


def check_last_batch(seen: Observed) -> Iterator[Finding]:
    """A last batch of one sample, where BatchNorm does not refuse it."""
    usual, least = seen.task.batch_examples, seen.least_rows
    if not (seen.batch_norms and least == 1 and usual > 1):
        return
    names = ", ".join(seen.batch_norms[:2])
    more = " and others" if len(seen.batch_norms) > 2 else ""
    yield Finding(
        LAST_OF_ONE,
        "warning",
        f"The last batch of an epoch has 1 sample (the others {usual}), and "
        f"{quantity(len(seen.batch_norms), 'BatchNorm layer')} ({names}{more}) take mean and "
        "variance from it.",
        "The number of samples is one more than a multiple of the batch size.",
        "Leave the short batch out: DataLoader(..., drop_last=True).",
    )


def constant_inputs(samples: Samples) -> dict[str, bool]:
    """The inputs of all batches, and whether each is the same for every sample.

    Where some are floats, whole numbers are left out: indices, lengths and words beside them.
    """
    first, constant = dict[str, Tensor](), dict[str, bool]()
    for one in samples.found:
        inputs = inputs_of(one.batch)
        floats = {name: x for name, x in inputs.items() if x.is_floating_point() or x.is_complex()}
        chosen = floats or inputs
        if not first:
            first = {name: value[:1] for name, value in chosen.items()}
            constant = dict.fromkeys(chosen, True)
        if chosen.keys() != constant.keys():
            return {}
        for name, value in chosen.items():
            row = first[name]
            same = constant[name] and value.shape[1:] == row.shape[1:]
            constant[name] = same and _is_same(value, row)
    return constant


def _is_same(rows: Tensor, row: Tensor) -> bool:
    """Whether all rows are this one, up to rounding."""
    if not rows.numel():
        return True
    one, other = ((part if part.is_complex() else part.double()) for part in (rows, row))
    return float((one - other).abs().max()) <= ALIKE * float(other.abs().max())


def _has_content(samples: Samples, constant: list[str]) -> bool:
    """Whether constant inputs hide something to learn.

    An objective that needs no data is handed batches of zeros, or the like; and beside other inputs
    there may be weights, masks or one for all.
    """
    every = inputs_of(samples.found[0].batch)
    rows = [every[name][0] for name in constant]
    if len(constant) < len(every):
        return any(map(_varies, rows))
    targets = [one.reshape(-1) for one in samples.targets]
    return any(row.numel() > 1 for row in rows) or (bool(targets) and _varies(torch.cat(targets)))


def _varies(numbers: Tensor) -> bool:
    """Whether numbers differ from the first of them."""
    return bool((numbers != numbers.reshape(-1)[:1]).any())
