"""The section of a trace: how the runs of a cohort ended."""

import numpy as np
import pandas as pd

from lrtune.analysis.curves import end_level
from lrtune.figures.axes import clipped_losses
from lrtune.reporting.sections import (
    Chart,
    Section,
    as_table,
    outcome_counts,
    quantity,
    values_by_step,
)
from lrtune.results import Trace


def trace_section(result: Trace) -> Section:
    """The number of runs, their outcomes, and the lowest final loss."""
    losses = result.frame.assign(loss=clipped_losses(result.frame["loss"]))
    ends = losses.groupby("run", sort=False)["loss"].agg(end_level)
    finite = ends[np.isfinite(ends)]
    lead = (
        f"Run {finite.idxmin()} has the lowest final training loss: {finite.min():.3g}."
        if len(finite)
        else "No run ended with a finite loss."
    )
    runs, steps = quantity(len(result.runs), "run"), quantity(result.steps, "step")
    return Section(
        kind="Trace",
        headline=f"{runs} of {steps}",
        short=f"{runs} of {steps}",
        lead=lead,
        facts=[("Runs", outcome_counts(result.runs["outcome"])), ("Horizon", steps)],
        limits="The final loss is the mean over the last fifth of a run. One seed is not enough "
        "to compare two runs: train each with several seeds.",
        charts=[_chart(result, ends, f"The training loss of {runs} of {steps}. {lead}")],
    )


def _chart(result: Trace, ends: pd.Series, alt: str) -> Chart:
    summary = result.runs.assign(end=result.runs["run"].map(ends))
    if len(result.validations):
        last = result.validations.groupby("run")["loss"].last()
        summary["validation"] = summary["run"].map(last)
    few_steps = values_by_step(result.frame, "run", "loss")
    return Chart(
        title="Loss over steps",
        draw=result.figure,
        alt=alt,
        caption="Bold lines: the smoothed loss. Thin lines: the loss of each step. Grey: the "
        "remaining runs, if there are more than eight. Crosses: losses that are not finite.",
        tables=[
            as_table("All runs", summary),
            as_table("Training loss at some steps", few_steps),
        ],
    )
