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
SELECTION, TEST = PARTS = ("selection", "test")
"""The halves of the validation data: one selects among runs, the other gives the stated loss."""
OPTIONAL = ("checkpoint",)
"""Columns of text that may be missing, as in a table that a plain function makes: then empty."""

CHECKPOINT_NAME = re.compile(r"([0-9a-f]{32})-([0-9]{1,10})")
"""The name of a checkpoint: the key of its run, and the step. None leads out of a folder."""

VALIDATIONS = {
    "run": "str",
    "step": "int64",  # updates made before
    "part": "str",  # a half of the validation data: selection or test
    "loss": "float64",  # mean loss per example
    "stderr": "float64",  # its standard error; NaN with fewer than two batches
    "samples": "int64",  # that were measured
}
COSTS = {
    "run": "str",
    "updates": "int64",  # made for this run by this call, discarded ones included
    "val_samples": "int64",  # validated
    "seconds": "float64",
}
FINDINGS = {
    "name": "str",  # such as unshuffled
    "severity": "str",  # error, warning or note
    "evidence": "str",  # what was measured
    "cause": "str",  # the likeliest one
    "remedy": "str",  # what to do
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
VARIED = {
    "setting": "str",  # weight_decay, momentum, batch_size
    "value": "float64",
    "own": "bool",  # whether it is the task's own
    "lr": "float64",  # suggested; NaN where no rate is shown to train
    "low": "float64",  # nine of ten answers
    "high": "float64",
    "edge": "float64",  # the last rate at which the loss had not risen again, over the seeds
    "loss": "float64",  # lowest smoothed loss of the sweeps, a mean over the seeds
    "difference": "float64",  # of that to the lowest, a mean over the seeds
    "verdict": "str",  # lowest, tied, behind, does not train
    "updates": "int64",  # of each sweep
}
VARIED_SWEEPS = {"setting": "str", "value": "float64", **SWEEP}
TRANSFER = {
    "equal": "str",  # updates, epochs: what the sizes have in common
    "label": "str",  # the size, such as 5 %
    "value": "float64",  # share of the data, width, batch size
    "ratio": "float64",  # the same over the task's own
    "updates": "int64",  # of each of its runs
    "lr": "float64",  # best constant rate
    "low": "float64",  # 90 % interval
    "high": "float64",
    "loss": "float64",  # the lowest mean loss
    "edge": "str",  # low or high, where the best rate is at the edge of those that were tried
}
TRENDS = {
    "equal": "str",
    "slope": "float64",  # of the log best rate over the log size
    "low": "float64",  # 90 % interval
    "high": "float64",
    "per": "int64",  # for so many times the size
    "factor": "float64",  # the best rate changes by this factor
    "factor_low": "float64",  # 90 % interval
    "factor_high": "float64",
    "verdict": "str",  # whether it transfers: yes, nearly, no, not shown
}
RATES = {
    "lr": "float64",
    "stage": "str",  # where it was first trained: coarse, horizons, current, fine
    "verdict": "str",  # too low, good, high, diverged
    "schedule": "str",  # of its longest run
    "steps": "int64",  # how far that was trained
    "loss": "float64",  # mean loss of its longest runs; NaN if one failed
    "runs": "int64",  # how many those are
    "failed": "int64",  # runs that diverged or became non-finite, of all with this rate
}
TRIED = {
    "run": "str",
    "stage": "str",
    "lr": "float64",  # peak rate
    "schedule": "str",  # the call that makes it
    "seed": "int64",
    "steps": "int64",  # the horizon
    "until": "int64",  # how far it was trained
    "outcome": "str",  # a name in lrtune.analysis.curves.Outcome
    "start": "float64",  # first training loss
    "train": "float64",  # mean training loss of the last fifth of what was trained
    "loss": "float64",  # validation loss on what selects; NaN where it was not measured
    "test": "float64",  # validation loss on what selected nothing; NaN likewise
    "checkpoint": "str",  # the name of its checkpoint; empty if there is none
}
CURVES = {"run": "str", "step": "int64", "loss": "float64"}
GROUPS = {
    "group": "int64",  # its place in the optimizer's parameter groups
    "lr": "float64",  # its multiple of the rate; the rate itself where it is fixed
    "fixed": "bool",  # whether it stays the same, whatever the rate is
    "weight_decay": "float64",  # NaN where the optimizer has none
    "parameters": "int64",
}
VERDICTS = {
    "run": "str",
    "lr": "float64",  # peak rate; NaN where the curves came without rates
    "verdict": "str",  # too low, good, high, very high
    "certain": "bool",  # whether it failed, or rates on both sides within a decade show it
    "reason": "str",
    "start": "float64",  # first loss
    "end": "float64",  # mean of the last fifth, where the shortest curve ends that did not fail
    "left": "float64",  # share of the best fall that is left; NaN for a curve that failed
    "slope": "float64",  # change of the loss per step, at the end
    "pace": "float64",  # that slope, as a multiple of the mean slope since the start
    "noise": "float64",  # standard deviation of single losses, at the end
    "spikes": "int64",  # losses that stand out upwards
    "stalls": "float64",  # step from which the loss stands; NaN where it does not
    "failed": "float64",  # step at which it diverged or became non-finite; NaN likewise
    "overfits": "float64",  # step from which the validation loss rises; NaN likewise
}
PLAN = {
    "stage": "str",
    "runs": "int64",
    "steps": "int64",  # of its longest run
    "cost": "float64",  # in full trainings
}
SPENDING = {
    "stage": "str",
    "planned": "float64",  # in full trainings, before anything trained
    "spent": "float64",
}
RANKING = {
    "rank": "int64",
    "schedule": "str",  # its name
    "call": "str",  # the call that makes it
    "lr": "float64",  # its own peak rate
    "verdict": "str",  # recommended; behind, ahead or tied by whole trainings; not trained
    "estimate": "float64",  # final score less that of the recommended schedule; NaN if unknown
    "low": "float64",  # 90 % interval of the estimate
    "high": "float64",
    "prior": "float64",  # that difference on other tasks; NaN if unknown
    "tasks": "int64",  # how many other tasks that rests on
    "final": "float64",  # loss of its whole trainings, a mean by score; NaN if none, or one failed
    "runs": "int64",  # how many those are
    "horizon": "float64",  # difference in score at the horizon; NaN if not measured
    "early": "float64",  # early decrease, a share of the fall
    "onset": "float64",  # plateau: the step it begins at; NaN without a plateau
    "level": "float64",  # plateau: its loss
    "noise": "float64",  # plateau: standard deviation of single steps around it
    "slope": "float64",  # plateau: per step
    "released": "str",  # plateau: whether a lower rate let the loss fall on: yes, no, or empty
    "failed": "int64",  # whole trainings that diverged or became non-finite
    "cost": "float64",  # spent on it here, in full trainings
}

# The heading of a column where a table is shown; other columns are headed by their name.
HEADINGS = {
    "because": "reason",
    "call": "code",
    "cost": "full trainings",
    "difference": "difference to the lowest",
    "early": "early decrease",
    "edge": "rises again from",
    "end": "final training loss",
    "estimate": "difference to the recommended",
    "equal": "at equal",
    "factor": "best rate times",
    "factor_high": "to times",
    "factor_low": "from times",
    "failed": "failed runs",
    "final": "final loss",
    "high": "to",
    "horizon": "difference at the horizon",
    "level": "plateau loss",
    "low": "90 % interval from",
    "lr": "learning rate",
    "label": "size",
    "noise": "plateau noise",
    "onset": "plateau from step",
    "per": "for times the size",
    "planned": "planned, in trainings",
    "prior": "difference on other tasks",
    "ratio": "over the task's own",
    "released": "falls again at a lower rate",
    "slope": "plateau slope per step",
    "smooth": "smoothed loss",
    "spent": "spent, in trainings",
    "start": "loss before training",
    "tasks": "other tasks",
    "test": "stated loss",
    "train": "training loss",
    "until": "trained to step",
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
    return dataclasses.field(metadata={"columns": columns}, repr=False, **default)
