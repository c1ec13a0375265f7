"""The tables in results: their columns, which are contracts, and the check of a table."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from lrtune.errors import ResultsError

Columns = Mapping[str, str]
"""Names of the columns of a frame to their dtypes, in order."""

TRACE = {
    "run": "str",  # Run.name
    "step": "int64",  # optimizer update, from 0
    "lr": "float64",  # rate applied at that update
    "loss": "float64",  # training loss of the shared batch, before the update
    "batch": "int64",  # digest of the batch: equal for all runs of a seed
}
RUNS = {
    "run": "str",  # Run.name, unique
    "lr": "float64",  # peak rate
    "schedule": "str",  # the call that makes it
    "seed": "int64",
    "outcome": "str",  # a name in lrtune.analysis.curves.Outcome
    "steps": "int64",  # updates recorded
    "checkpoint": "str",  # the name of the run's checkpoint at the last step of the call, or empty
}
OPTIONAL = ("checkpoint",)
"""Columns of text that may be missing, as in a table that a plain function makes: then empty."""

CHECKPOINT_NAME = re.compile(r"([0-9a-f]{32})-([0-9]{1,10})")
"""The name of a checkpoint: the key of its run, and the step. None leads out of a folder."""

VALIDATIONS = {
    "run": "str",
    "step": "int64",  # updates made before
    "loss": "float64",  # mean validation loss
}
COSTS = {
    "run": "str",
    "updates": "int64",  # made for this run by this call, discarded ones included
    "val_samples": "int64",  # validated
    "seconds": "float64",
}
SWEEP = {
    "seed": "int64",
    "lr": "float64",  # the rate of one update
    "loss": "float64",  # training loss right after that update
    "untrained": "float64",  # the untrained model's loss on the same batch
    "smooth": "float64",  # the smoothed loss; NaN beyond the usable part
}
STOPS = {
    "seed": "int64",
    "outcome": "str",  # a name in lrtune.analysis.curves.Outcome
    "lr": "float64",  # the rate there
    "edge": "float64",  # the last rate at which the loss had not risen again; NaN if unreadable
}
ANSWERS = {
    "rule": "str",  # a name in lrtune.analysis.sweep_rules.RULES
    "seed": "int64",
    "lr": "float64",
    "because": "str",
}
RATES = {
    "lr": "float64",
    "stage": "str",  # where it was first trained: coarse, between, longer or fine, answer
    "verdict": "str",  # too low, good, high, diverged
    "mean": "float64",  # mean score over the seeds; lower is better, NaN if a run failed
    "low": "float64",  # interval of its paired difference to the best rate
    "high": "float64",
    "tied": "bool",  # cannot be told apart from the best
    "failed": "int64",  # runs that diverged or became non-finite
}
SCORES = {
    "lr": "float64",
    "seed": "int64",
    "outcome": "str",  # a name in lrtune.analysis.curves.Outcome
    "start": "float64",  # first training loss
    "train": "float64",  # mean training loss of the last fifth of the run
    "val": "float64",  # validation loss at the end; NaN without validation data
    "score": "float64",  # val where there is any, else train; NaN if the run failed
}
CURVES = {"lr": "float64", "seed": "int64", "step": "int64", "loss": "float64"}
CHECKS = {
    "lr": "float64",
    "seed": "int64",
    "outcome": "str",
    "short": "float64",  # training loss at the end of the short run
    "long": "float64",  # training loss at the end of the full length
    "passed": "bool",
}
SPENDING = {
    "stage": "str",
    "planned": "int64",  # updates set aside before anything trained
    "spent": "int64",  # steps of the runs that it asked for
    "val_samples": "int64",  # samples validated
}
RANKING = {
    "rank": "int64",  # 1 is the lowest final loss
    "schedule": "str",  # its name
    "call": "str",  # the call that makes it
    "lr": "float64",  # its own peak rate
    "early": "float64",  # early decrease, a share of the starting loss
    "onset": "float64",  # plateau: the step it begins at; NaN without a plateau
    "level": "float64",  # plateau: its loss
    "noise": "float64",  # plateau: standard deviation of single steps around it
    "slope": "float64",  # plateau: per step
    "released": "str",  # plateau: whether a lower rate let the loss fall on: yes, no, or empty
    "final": "float64",  # mean final loss over the fresh seeds; NaN if a run failed
    "difference": "float64",  # of it to the best schedule's, paired by seed
    "low": "float64",  # interval of the difference, corrected for all comparisons
    "high": "float64",
    "tied": "bool",  # cannot be told apart from the best
    "failed": "int64",  # fresh seeds in which it diverged or became non-finite
    "cost": "int64",  # updates trained for it, all horizons and seeds
}
STABILITY = {
    "horizon": "int64",  # its ranking, compared with that of the fresh seeds
    "tau": "float64",  # Kendall's tau-b
    "low": "float64",  # bootstrap interval over the seeds
    "high": "float64",
}
CANDIDATES = {
    "horizon": "int64",
    "schedule": "str",
    "call": "str",
    "lr": "float64",
    "score": "float64",  # mean over the seeds; NaN if a run failed
}
PATHS = {
    "schedule": "str",
    "seed": "int64",
    "step": "int64",
    "lr": "float64",
    "loss": "float64",
}

# The heading of a column where a table is shown; other columns are headed by their name.
HEADINGS = {
    "because": "reason",
    "call": "code",
    "cost": "updates",
    "early": "early decrease",
    "edge": "rises again from",
    "end": "final training loss",
    "failed": "failed runs",
    "final": "final loss",
    "high": "to",
    "level": "plateau loss",
    "long": "loss at full length",
    "low": "90 % interval from",
    "lr": "learning rate",
    "mean": "mean loss",
    "noise": "plateau noise",
    "onset": "plateau from step",
    "passed": "stable",
    "released": "falls again at a lower rate",
    "short": "loss of the short run",
    "slope": "plateau slope per step",
    "smooth": "smoothed loss",
    "start": "loss before training",
    "tau": "Kendall's tau",
    "tied": "tied with the best",
    "train": "training loss",
    "val": "validation loss",
    "val_samples": "validation samples",
    "validation": "validation loss",
}


def as_table(rows: Iterable[Any], columns: Columns) -> pd.DataFrame:
    """A frame with exactly these columns, from rows in their order, or from columns by name.

    Raises:
        ResultsError: A column is missing that is not in `OPTIONAL`, or holds what its dtype cannot.

    >>> as_table([("x", 1)], {"a": "str", "b": "float64"})
       a    b
    0  x  1.0
    """
    try:
        frame = _frame(rows, columns)
        for name in OPTIONAL:
            if name in columns and name not in frame:
                frame = frame.assign(**{name: ""})
        missing = [name for name in columns if name not in frame]
        if missing:
            raise ResultsError(
                f"a table needs the columns {', '.join(columns)}; {', '.join(missing)} missing."
            )
        return frame[list(columns)].astype(dict(columns)).reset_index(drop=True)
    except (TypeError, ValueError, OverflowError) as error:  # such as lone surrogates, in Arrow
        raise ResultsError(f"a table has a value of the wrong type: {error}") from error


def _frame(rows: Iterable[Any], columns: Columns) -> pd.DataFrame:
    if isinstance(rows, pd.DataFrame | Mapping):
        return pd.DataFrame(rows)
    rows = list(rows)
    width = len(rows[0]) if rows else len(columns)  # without a last column that is optional
    return pd.DataFrame(rows, columns=list(columns)[:width])


def table_field(columns: Columns, *, optional: bool = False) -> Any:
    """A dataclass field for a frame with these columns; without rows by default if `optional`."""
    default: Any = {"default_factory": lambda: as_table([], columns)} if optional else {}
    return dataclasses.field(metadata={"columns": columns}, **default)
