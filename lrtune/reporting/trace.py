"""A trace in words: how the runs of a cohort ended."""

import numpy as np
import pandas as pd

from lrtune.analysis.curves import end_level
from lrtune.figures.axes import bounded
from lrtune.reporting.sections import Chart, Section, at_some_steps, count, spoken, table_of
from lrtune.results import Trace


def trace_section(result: Trace) -> Section:
    """How many runs there were, and how they ended."""
    losses = result.frame.assign(loss=bounded(result.frame["loss"]))
    ends = losses.groupby("run", sort=False)["loss"].agg(end_level)
    low = ends[np.isfinite(ends)]
    lead = (
        f"Lowest training loss at the end: {low.min():.3g}, of run {low.idxmin()}."
        if len(low)
        else "No run ended with a finite loss."
    )
    outcomes = spoken(result.runs)["outcome"].value_counts()
    runs, steps = count(len(result.runs), "run"), count(result.steps, "step")
    return Section(
        kind="Trace",
        headline=f"{runs} over {steps}",
        short=f"{runs} over {steps}",
        lead=lead,
        facts=[
            ("Runs", ", ".join(f"{number} {name}" for name, number in outcomes.items()) or "none"),
            ("Horizon", steps),
        ],
        limits="The loss at the end is the mean over the last fifth of a run. A single run says "
        "little: compare runs of several seeds.",
        charts=[_chart(result, ends, f"The training loss of {runs} over {steps}. {lead}")],
    )


def _chart(result: Trace, ends: pd.Series, alt: str) -> Chart:
    summary = spoken(result.runs).assign(end=result.runs["run"].map(ends))
    if len(result.validations):
        last = result.validations.groupby("run")["loss"].last()
        summary["validation"] = summary["run"].map(last)
    rows = at_some_steps(result.frame, "run", "loss")
    return Chart(
        title="Losses over steps",
        draw=result.figure,
        alt=alt,
        caption="Bold: lightly smoothed; thin behind: each step. With many runs, those in grey "
        "end between the others. Crosses: losses that are not finite.",
        tables=[
            table_of("Every run", summary),
            table_of("Training loss at some of the steps", rows),
        ],
    )
