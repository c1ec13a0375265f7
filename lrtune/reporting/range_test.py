"""The section of a range test: which rate to start with, and where rates become too high."""

import pandas as pd

from lrtune.figures.range_test import rise_rate, rule_medians
from lrtune.reporting.sections import (
    Chart,
    Section,
    Table,
    as_sentence,
    as_table,
    outcome_counts,
    python_call,
    quantity,
    spread_indices,
)
from lrtune.results import RangeTestResult

MAX_ROWS = 60
"""Rows of the table of the sweeps; the complete ones are part of the embedded results."""


def range_test_section(result: RangeTestResult) -> Section:
    """The suggested rate, the answer of each rule, and the sweeps."""
    rate, (low, high) = result.suggestion.lr, result.suggestion.interval
    danger = rise_rate(result.stops)
    rises = f"from {danger:.2g} on" if danger > 0 else "at no rate of the sweep"
    return Section(
        kind="LR range test",
        headline=f"Start with a learning rate of about {rate:.2g}",
        short=f"start with about {rate:.2g}",
        lead=as_sentence(result.suggestion.because),
        facts=[
            ("Suggested rate", f"{rate:.2g}"),
            ("90 % of the answers", f"{low:.2g} to {high:.2g}"),
            ("The loss rises again", rises),
            ("Sweeps", outcome_counts(result.stops["outcome"])),
        ],
        notes=[as_sentence(note) for note in result.notes],
        limits="A sweep trains each rate for a single update. It shows where rates become too "
        "high and where to start. To find the rate that trains best, run a search.",
        charts=[_chart(result, rises)],
        manifest=result.manifest,
        call=python_call("range_test", result.manifest, ["low", "high", "steps", "seeds", "seed"]),
    )


def _chart(result: RangeTestResult, rises: str) -> Chart:
    medians = rule_medians(result.frame, result.answers)
    answers = ", ".join(f"{rule.rule} {rule.lr:.2g}" for rule in medians.itertuples())
    return Chart(
        title="Loss over learning rate",
        draw=result.figure,
        alt=f"The loss while the learning rate grows, for {quantity(len(result.stops), 'seed')}. "
        f"The answers of the rules are {answers}; together they suggest "
        f"{result.suggestion.lr:.2g}. The loss rises again {rises}.",
        caption="Thin lines: the loss right after each update. Bold lines: the smoothed loss, one "
        "line per seed. Symbols: the answer of each rule, with a whisker over the seeds. Green: "
        "the suggested rate, and 90 % of the answers. Red: the rates at which the loss has risen "
        "again.",
        tables=[
            as_table("Answers of the rules", result.answers),
            as_table("Ends of the sweeps", result.stops),
            _sweeps(result.frame),
        ],
    )


def _sweeps(frame: pd.DataFrame) -> Table:
    """The raw and the smoothed loss of each seed side by side, at up to `MAX_ROWS` rates."""
    columns = [(name, seed) for seed in frame["seed"].unique() for name in ("loss", "smooth")]
    wide = frame.pivot_table(
        index="lr", columns="seed", values=["loss", "smooth"], aggfunc="first", dropna=False
    ).reindex(columns=columns)
    wide.columns = [f"{name}, seed {seed}" for name, seed in columns]
    few = wide.iloc[spread_indices(len(wide), MAX_ROWS)]
    part = "" if len(few) == len(wide) else f", {len(few)} of {quantity(len(wide), 'rate')}"
    return as_table(f"The sweeps{part}", few.reset_index())
