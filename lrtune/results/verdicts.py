"""verdicts(): which of these loss curves would you pick?"""

import math
from pathlib import Path

import pandas as pd

from lrtune.analysis.overfitting import turn
from lrtune.analysis.verdicts import Verdict, judge_curves
from lrtune.results.curves_file import curves_of, read_curves_file
from lrtune.results.schema import VERDICTS, as_table


def verdicts(curves: pd.DataFrame | str | Path) -> pd.DataFrame:
    """Judge the learning rate of each loss curve: too low, good, high or very high.

    They are the four curves that every course draws. Several curves of one task are judged beside
    the lowest of them: with their rates a verdict is certain where worse rates lie on both sides
    within a decade. A single curve is judged by its shape, which is never certain, unless it fails.
    Which of four curves has a rate that is too high shows beside the others only.

    Args:
        curves: One row per run and step: `step`, `loss` (of training), and where there are such
            `run`, `lr`, `val_loss`; or the path of a file with these columns, divided by commas,
            tabs or semicolons. Other usual names will do: `iteration`, `epoch`, `train_loss`,
            `learning_rate`, Lightning's `lr-SGD`.
            Empty losses were not measured; NaN at the end of a run is a loss that became NaN.

    Returns:
        One row per run: `run`, `lr` (peak), `verdict`, `certain`, `reason`, and what it rests on:
        `start`, `end`, `left` (the share of the best fall), `slope` (per step), `pace` (that slope
        over the mean slope), `noise`, `spikes`, `stalls`, `failed` and `overfits` (steps).

    Raises:
        ArgumentError: A column is missing or odd, there are no rows, a rate is negative, a run has
            fewer than four losses, begins with one that is not finite, has a step twice, or is a
            range test; or there is no such file.

    >>> steps = range(50)
    >>> rows = [("slow", step, 2 - 0.01 * step) for step in steps]
    >>> rows += [("fast", step, 2 * 0.9**step) for step in steps]
    >>> verdicts(pd.DataFrame(rows, columns=["run", "step", "loss"]))["verdict"].tolist()
    ['too low', 'good']
    """
    table = read_curves_file(curves) if isinstance(curves, str | Path) else curves
    training, validation = curves_of(table)
    rows = []
    for run, judged in judge_curves(training).items():
        turned = turn(validation[run].steps, validation[run].losses) if run in validation else None
        overfits = math.nan if turned is None else turned.step
        rows.append(_row(run, training[run].lr, judged, overfits))
    return as_table(rows, VERDICTS)


def _row(run: str, lr: float, judged: Verdict, overfits: float) -> tuple[object, ...]:
    read, reason = judged.read, judged.reason
    if not math.isnan(overfits):
        reason += f" The validation loss rises from step {overfits:,.0f} on: it overfits."
    return (
        run,
        lr,
        judged.verdict,
        judged.certain,
        reason,
        read.start,
        read.end,
        judged.left,
        read.slope,
        read.pace,
        read.noise,
        read.spikes,
        read.stalls,
        read.failed,
        overfits,
    )
