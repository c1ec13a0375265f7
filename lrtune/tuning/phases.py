"""How the training loss of a candidate goes: its early level, its plateau, its end."""

import math

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Outcome, end_level
from lrtune.analysis.plateau import early_level, plateau
from lrtune.schedules import Schedule
from lrtune.schedules.registry import schedule_text
from lrtune.tuning.candidates import Candidate

Phases = dict[str, float | str]
"""Columns of the table: early, onset, level, noise, slope, released; and the `end`."""


def runs_of(one: Candidate, runs: pd.DataFrame, steps: int) -> pd.DataFrame:
    """Its longest runs: whole ones, or without any those of the horizon."""
    chose = runs["stage"] == "samples"  # whole runs that chose parameters have seeds of their own
    mine = runs[(runs["schedule"] == schedule_text(one.named.shape)) & ~chose]
    return mine[mine["steps"] == (mine["steps"].max() if len(mine) else steps)]


def phases(one: Candidate, runs: pd.DataFrame, curves: pd.DataFrame) -> Phases:
    """The early level, a mean over the seeds, and the plateau of the mean curve.

    Args:
        one: The candidate.
        runs: Its runs, all of one length: columns `TRIED`.
        curves: Training losses of these runs and of others, thinned: columns `CURVES`.
    """
    nothing = dict.fromkeys(("onset", "level", "noise", "slope", "end"), math.nan)
    finished = runs.loc[runs["outcome"] == Outcome.FINISHED.name, "run"]
    some = curves[curves["run"].isin(finished)]
    if some.empty:  # it was not trained, or every run failed
        return {"early": math.inf if len(runs) else math.nan, **nothing, "released": ""}
    losses = [each["loss"].to_numpy() for _, each in some.groupby("run", sort=False)]
    mean = some.groupby("step")["loss"].mean()
    block = int(mean.index[1]) if len(mean) > 1 else 1  # steps that a point of the curve stands for
    steps, shape = int(runs["steps"].iloc[0]), one.named.shape
    rates = None
    if isinstance(shape, Schedule):
        rates = [one.lr * shape(step / steps) for step in mean.index]
    flat = plateau(mean.to_numpy(), rates)
    early = float(np.mean([early_level(each) for each in losses]))
    end = float(np.mean([end_level(each) for each in losses]))
    if flat is None:
        return {"early": early, **nothing, "end": end, "released": ""}
    return {
        "early": early,
        "onset": float(flat.onset * block),
        "level": flat.level,
        "noise": flat.noise * math.sqrt(block),
        "slope": flat.slope / block,
        "end": end,
        "released": {True: "yes", False: "no", None: ""}[flat.released],
    }
