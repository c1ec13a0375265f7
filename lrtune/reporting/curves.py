"""The sections of results that are curves: the sweeps of a range test, and the runs of a trace."""

from functools import partial

import numpy as np
import pandas as pd

from lrtune.analysis.curves import end_level
from lrtune.analysis.scores import digits_that_differ
from lrtune.errors import quantity
from lrtune.figures.axes import clipped_losses
from lrtune.figures.range_test import rise_rate, rule_medians
from lrtune.reporting.sections import (
    Chart,
    Section,
    Table,
    as_sentence,
    outcome_counts,
    python_call,
    spread_indices,
    text_table,
    values_by_step,
)
from lrtune.results import RangeTestResult, Trace
from lrtune.results.runs import validation_losses
from lrtune.results.schema import HEADINGS

NO_RATE = "No rate is shown to train this model"
SETTINGS = ("weight_decay", "momentum", "batch_size")
MAX_ROWS = 60  # of the table of the sweeps; the embedded results contain all


def range_test_section(result: RangeTestResult) -> Section:
    """The suggested rate, the answer of each rule, and the sweeps."""
    told, danger = result.suggestion, rise_rate(result.stops)
    settings = result.varied["setting"].unique()
    rises = f"from {danger:.2g} on" if danger > 0 else "at no rate of the sweep"
    headline, short, lead = NO_RATE, "no rate", "The curves show no rate that trains this model."
    facts = [("Suggested rate", "none")]
    if told is not None:
        headline = f"Start with a learning rate of about {told.lr:.2g}"
        short, lead = f"start with about {told.lr:.2g}", as_sentence(told.because)
        answers = "{:.2g} to {:.2g}".format(*told.interval)
        facts = [("Suggested rate", f"{told.lr:.2g}"), ("90 % of the answers", answers)]
    return Section(
        kind="LR range test",
        headline=headline,
        short=short,
        lead=lead,
        facts=[
            *facts,
            ("The loss rises again", rises),
            ("Sweeps", outcome_counts(result.stops["outcome"])),
        ],
        warnings=result.warnings,
        notes=[as_sentence(note) for note in result.notes],
        limits="A sweep trains each rate for a single update. It shows where rates become too "
        "high and where to start. To find the rate that trains best, run a search.",
        charts=[_sweep_chart(result, rises), *map(partial(_varied_chart, result), settings)],
        manifest=result.manifest,
        call=_range_test_call(result),
    )


def _range_test_call(result: RangeTestResult) -> str:
    call = python_call("range_test", result.manifest, ["low", "high", "steps", "seeds", "seed"])
    known = result.varied[result.varied["setting"].isin(SETTINGS)]  # a file may hold any text
    if known.empty:
        return call
    values = {name: some.tolist() for name, some in known.groupby("setting", sort=False)["value"]}
    return f"{call[:-1]}, vary={values!r})"


def _varied_chart(result: RangeTestResult, setting: str) -> Chart:
    table = result.varied[[name == setting for name in result.varied["setting"]]]
    told = ", ".join(
        f"{row.value:g} reaches {row.loss:.4g} and suggests "
        + (f"{row.lr:.2g}" if np.isfinite(row.lr) else "no rate")
        for row in table.itertuples()
    )
    words = setting.replace("_", " ")
    return Chart(
        title=f"Range tests by {words}",
        draw=lambda: result.varied_figure(setting),
        alt=f"The smoothed loss while the learning rate grows, for each {words}: {told}.",
        caption=f"One line for each {words}, the mean of its smoothed sweeps, on the same batches; "
        "the one that is the task's own says so. Symbols: the rate that it suggests. Its lowest "
        "loss tells how well it trains; of those that are tied the largest is the usual choice "
        "(Smith 2018, arXiv:1803.09820, section 4).",
        tables=[text_table(f"Range tests by {words}", table.drop(columns="setting"))],
    )


def _sweep_chart(result: RangeTestResult, rises: str) -> Chart:
    medians = rule_medians(result.frame, result.answers)
    answers = ", ".join(f"{rule.rule} {rule.lr:.2g}" for rule in medians.itertuples())
    suggested = "no rate" if result.suggestion is None else f"{result.suggestion.lr:.2g}"
    return Chart(
        title="Loss over learning rate",
        draw=result.figure,
        alt=f"The loss while the learning rate grows, for {quantity(len(result.stops), 'seed')}. "
        f"The answers of the rules are {answers}; together they suggest {suggested}. The loss "
        f"rises again {rises}.",
        caption="Thin lines: the loss right after each update. Bold lines: the smoothed loss, one "
        "line per seed. Symbols: the answer of each rule, with a whisker over the seeds. Green: "
        "the suggested rate, and 90 % of the answers. Red: the rates at which the loss has risen "
        "again.",
        tables=[
            text_table("Answers of the rules", result.answers),
            text_table("Ends of the sweeps", result.stops),
            _sweep_table(result.frame),
        ],
    )


def _sweep_table(frame: pd.DataFrame) -> Table:
    """The raw and the smoothed loss of each seed side by side, at up to `MAX_ROWS` rates."""
    columns = [(name, seed) for seed in frame["seed"].unique() for name in ("loss", "smooth")]
    wide = frame.pivot_table(
        index="lr", columns="seed", values=["loss", "smooth"], aggfunc="first", dropna=False
    ).reindex(columns=columns)
    wide.columns = [f"{HEADINGS.get(name, name)}, seed {seed}" for name, seed in columns]
    few = wide.iloc[spread_indices(len(wide), MAX_ROWS)]
    part = "" if len(few) == len(wide) else f", {len(few)} of {quantity(len(wide), 'rate')}"
    return text_table(f"The sweeps{part}", few.reset_index())


def trace_section(result: Trace) -> Section:
    """The number of runs, their outcomes, and the lowest final loss."""
    losses = result.frame.assign(loss=clipped_losses(result.frame["loss"]))
    ends = losses.groupby("run", sort=False)["loss"].agg(end_level)
    finite = ends[np.isfinite(ends)]
    lead = "No run ended with a finite loss."
    if len(finite):
        lowest = f"{finite.min():.{digits_that_differ(finite, least=3)}g}"
        lead = f"Run {finite.idxmin()} has the lowest final training loss: {lowest}."
    runs, steps = quantity(len(result.runs), "run"), quantity(result.steps, "step")
    return Section(
        kind="Trace",
        headline=f"{runs} of {steps}",
        short=f"{runs} of {steps}",
        lead=lead,
        facts=[("Runs", outcome_counts(result.runs["outcome"])), ("Horizon", steps)],
        limits="The final loss is the mean over the last fifth of a run. One seed is not enough "
        "to compare two runs: train each with several seeds.",
        charts=[_trace_chart(result, ends, f"The training loss of {runs} of {steps}. {lead}")],
    )


def _trace_chart(result: Trace, ends: pd.Series, alt: str) -> Chart:
    summary = result.runs.assign(end=result.runs["run"].map(ends))
    if len(result.validations):
        losses = validation_losses(result.validations, by=("run", "step"))
        last = losses.groupby(level=0, sort=False).last()
        summary["validation"] = summary["run"].map(last)
    few_steps = values_by_step(result.frame, "run", "loss")
    return Chart(
        title="Loss over steps",
        draw=result.figure,
        alt=alt,
        caption="Bold lines: the smoothed loss. Thin lines: the loss of each step. Grey: the "
        "remaining runs, if there are more than eight. Crosses: losses that are not finite.",
        tables=[
            text_table("All runs", summary),
            text_table("Training loss at some steps", few_steps),
        ],
    )
