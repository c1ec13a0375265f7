"""Loss curves as trainers log them, in a table or a CSV file: columns under any usual name."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lrtune.analysis.curve_reading import Curve
from lrtune.analysis.verdicts import MIN_LOSSES
from lrtune.errors import ArgumentError, printable, shown

NAMES = {
    "run": ("run", "run_name", "run_id", "name", "experiment", "trial", "version"),
    "step": ("step", "global_step", "iteration", "iter", "update", "batch", "epoch"),
    "loss": ("loss", "train_loss", "training_loss", "loss_train", "train_loss_step",
             "train_loss_epoch", "value"),
    "lr": ("lr", "learning_rate", "train_lr", "train_learning_rate"),
    "val_loss": ("val_loss", "valid_loss", "validation_loss", "eval_loss", "loss_val",
                 "val_loss_epoch", "test_loss"),
}  # fmt: skip
"""Names of the columns, of which the first that is there is taken. Case does not matter, nor does
what divides words: `train/loss` is `train_loss`. Lightning's `lr-SGD` is `lr`, too."""

DIVIDERS = (",", "\t", ";")
"""What may divide the columns of a file."""

DECIMAL = re.compile(r"[-+]?\d+,\d+(e[-+]?\d+)?", re.IGNORECASE)
"""A number with a decimal comma."""

ONE = "curve"
"""The name of the run where the table has none."""

DECAYED = 0.1  # by convention: below a tenth of its peak, a rate moves little
SWEPT = 100.0  # by convention: a rate that rises all the way, by more than this, is a range test


def read_curves_file(path: str | Path) -> pd.DataFrame:
    """The table in a CSV file, whose empty cells are missing values.

    Columns are divided by commas, or by what divides the words of the header instead: tabs or
    semicolons. With semicolons, numbers may have a decimal comma.

    Raises:
        ArgumentError: There is no such file, or it is no table.
    """
    try:
        # As text: an empty loss was not measured, one that reads nan was, and is not finite.
        divider = _divider(path)
        table = pd.read_csv(
            path, sep=divider, dtype=str, keep_default_na=False, skipinitialspace=True
        )
        return table.map(_with_point) if divider == ";" else table
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ArgumentError(
            f"{printable(path)} cannot be read ({printable(error)}). Expected a CSV file with a "
            "header: run, step, loss, and lr where there is one."
        ) from error


def _divider(path: str | Path) -> str:
    """What divides the columns: the one of comma, tab and semicolon that the header has most of."""
    with Path(path).open(encoding="utf-8-sig") as file:
        header = file.readline()
    return max(DIVIDERS, key=header.count)


def _with_point(cell: str) -> str:
    """A number with a point in place of a decimal comma; any other text as it is.

    >>> _with_point("0,25"), _with_point("run 1,2")
    ('0.25', 'run 1,2')
    """
    return cell.replace(",", ".") if DECIMAL.fullmatch(cell.strip()) else cell


def curves_of(table: pd.DataFrame) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """The curves of a table: training losses, and validation losses, by run.

    Raises:
        ArgumentError: A column is missing; a value is no number; a run has a step twice, too few
            losses, or none that is finite before its first update; or it is a range test.
    """
    if not isinstance(table, pd.DataFrame):
        raise ArgumentError(
            f"curves is {shown(table)}; expected a DataFrame with the columns run, step, loss, or "
            "the path of such a CSV file."
        )
    found = _columns(table)
    if not len(table):
        raise ArgumentError(
            f"curves has no rows; expected at least {MIN_LOSSES} losses of a run, from its start "
            "to its end. Log step and loss while it trains."
        )
    cells = {name: [_number(cell, column) for cell in table[column]]
             for name, column in found.items() if name != "run"}  # fmt: skip
    names = [str(run) for run in table[found["run"]]] if "run" in found else [ONE] * len(table)
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    training, validation = {}, {}
    for run, rows in places.items():
        some = {name: [column[place] for place in rows] for name, column in cells.items()}
        steps, vals = some["step"], some.get("val_loss", [None] * len(rows))
        rates = [rate for rate in some.get("lr", []) if _known(rate)]
        losses = _measured(some["loss"], vals)
        training[run] = _curve(run, zip(steps, losses, strict=True), rates)
        seen = [(step, val) for step, val in zip(steps, vals, strict=True) if _known(val)]
        if seen:
            validation[run] = Curve(*np.array(seen, float).T)
    return training, validation


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    """Our names of columns to those of the table."""
    there = {
        re.sub(r"[\s/.\-]+", "_", str(name).strip().lower()).strip("_"): name for name in table
    }
    found = {}
    for ours, names in NAMES.items():
        usual = [one for one in names if one in there]
        if ours == "lr":
            usual += [one for one in there if one.startswith("lr_")]
        if usual:
            found[ours] = there[usual[0]]
    missing = [ours for ours in ("step", "loss") if ours not in found]
    if missing:
        columns = printable(", ".join(map(str, table.columns)), 200) or "none"
        raise ArgumentError(
            f"no column for {' and '.join(missing)}; there are {columns}. Expected step and loss, "
            f"and run, lr, val_loss where there are such. Rename one: {missing[0]} may be called "
            f"{', '.join(NAMES[missing[0]])}. Curves side by side become rows by "
            "table.melt('step', var_name='run', value_name='loss')."
        )
    return found


def _number(cell: Any, column: str) -> float | None:
    """The number in a cell; None where the cell is empty."""
    if cell is None or cell is pd.NA or (isinstance(cell, str) and not cell.strip()):
        return None
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"the column {column!r} holds {shown(cell)}; expected numbers, and empty cells where "
            "nothing was measured. Remove that row."
        ) from None


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _measured(losses: Sequence[float | None], vals: Sequence[float | None]) -> list[float | None]:
    """The losses, None for NaN that stands for no measurement.

    So it does beside a validation loss, and before a finite loss: a training whose loss is NaN
    never recovers.
    """
    last = max((place for place, loss in enumerate(losses) if _known(loss)), default=-1)
    return [
        None if loss is not None and math.isnan(loss) and (place < last or _known(val)) else loss
        for place, (loss, val) in enumerate(zip(losses, vals, strict=True))
    ]


def _curve(
    run: str, points: Iterable[tuple[float | None, float | None]], rates: Sequence[float | None]
) -> Curve:
    """The curve of a run, after a check."""
    measured = [(step, loss) for step, loss in points if step is not None and loss is not None]
    steps, losses = np.array(measured, float).reshape(-1, 2).T
    order = np.argsort(steps, kind="stable")
    steps, losses = steps[order], losses[order]
    if len(losses) < MIN_LOSSES:
        raise ArgumentError(
            f"run {shown(run)} has {len(losses)} losses; expected at least {MIN_LOSSES}, from its "
            "start to its end. Log more often, or leave the run out."
        )
    if not np.isfinite(losses[0]):
        raise ArgumentError(
            f"run {shown(run)} begins with a loss of {losses[0]:g}; expected a finite one, as no "
            "rate has had an effect before the first update. Look at weights and data first."
        )
    again = np.flatnonzero(np.diff(steps) == 0)
    if len(again):
        raise ArgumentError(
            f"run {shown(run)} has two losses at step {steps[again[0]]:g}; expected one for each "
            "step. Name the runs apart in a column run, or take their mean."
        )
    if not rates:
        return Curve(steps, losses)
    seen = np.array(rates, float)
    if (seen < 0).any():
        raise ArgumentError(
            f"run {shown(run)} has a rate of {seen.min():g}; expected rates >= 0. Give the rates "
            "that the optimizer had, or leave the column out."
        )
    if (np.diff(seen) > 0).all() and seen[-1] > SWEPT * seen[0]:
        raise ArgumentError(
            f"the rate of run {shown(run)} rises from {seen[0]:g} to {seen[-1]:g}; expected a "
            "training. Leave that run out, or use lrtune.range_test, which reads a rate from it."
        )
    peak = float(seen.max())
    return Curve(steps, losses, peak if peak > 0 else math.nan, bool(seen[-1] < DECAYED * peak))
