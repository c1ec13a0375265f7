"""What the losses of a run come to: a score, and whether it held out. Pure."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from lrtune.columns import CHECKS, SCORES
from lrtune.curves import FAILED, Outcome, end_level, noise
from lrtune.records import table
from lrtune.results import Trace


def scored(trace: Trace) -> pd.DataFrame:
    """One row per run: its outcome and its score, NaN where it failed or was given up."""
    rows = []
    val = trace.evaluated.set_index("run")["loss"]
    losses = trace.frame.groupby("run", sort=False)["loss"]
    for run in trace.runs.itertuples():
        loss = losses.get_group(run.run).to_numpy()
        train, validation = end_level(loss), float(val.get(run.run, np.nan))
        lost = run.outcome in FAILED or run.outcome == Outcome.RETIRED.name
        score = np.nan if lost else validation if len(val) else train
        rows.append((run.lr, run.seed, run.outcome, loss[0], train, validation, score))
    return table(pd.DataFrame(rows, columns=list(SCORES)), SCORES)


def blended(traces: Sequence[Trace]) -> pd.Series:
    """By run: the mean of validation and training loss, over several rungs; infinite if it failed.

    The training loss of the last fifth of a run scatters less than its validation loss, which
    tells what it is worth; over short runs their mean finds better rates than either.
    """
    levels = []
    for trace in traces:
        losses = trace.frame.groupby("run", sort=False)["loss"].agg(end_level)
        losses = losses.mask(trace.runs.set_index("run")["outcome"].isin(FAILED))
        val = trace.evaluated.set_index("run")["loss"]
        levels.append((losses + val.reindex(losses.index)) / 2 if len(val) else losses)
    mean = pd.concat(levels, axis=1).mean(axis=1, skipna=False)
    return mean.fillna(math.inf)


def held(loss: pd.Series, outcome: str, horizon: int) -> tuple[float, float, bool]:
    """Training loss at the end of the short and of the long run, and whether it held."""
    losses = loss.to_numpy()
    short, long = end_level(losses[:horizon]), end_level(losses)
    window = max(1, len(losses) // 5)
    spread = noise(losses[-window:]) * math.sqrt(1 / window + 5 / horizon)
    return short, long, outcome not in FAILED and long <= short + 3 * spread


def checked(trace: Trace, horizon: int) -> pd.DataFrame:
    """One row per run of the full length: columns `CHECKS`."""
    losses = trace.frame.groupby("run", sort=False)["loss"]
    rows = [
        (run.lr, run.seed, run.outcome, *held(losses.get_group(run.run), run.outcome, horizon))
        for run in trace.runs.itertuples()
    ]
    return table(pd.DataFrame(rows, columns=list(CHECKS)), CHECKS)


def retired(trace: Trace) -> Trace:
    """The runs of the trace that did not fail were given up at its end."""
    outcome = trace.runs["outcome"].where(trace.runs["outcome"].isin(FAILED), Outcome.RETIRED.name)
    return dataclasses.replace(trace, runs=trace.runs.assign(outcome=outcome))
