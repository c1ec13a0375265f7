"""A range test in words: where to begin, and where rates become too high."""

import pandas as pd

from lrtune.figures.sweep import rises_from, rule_points
from lrtune.reporting.sections import (
    Chart,
    Section,
    Table,
    call,
    count,
    evenly,
    sentence,
    spoken,
    table_of,
)
from lrtune.results import RangeTestResult

ROWS = 60
"""Rows of the table that thins the sweeps out."""


def range_test_section(result: RangeTestResult) -> Section:
    """Where to begin, why, and what the sweeps looked like."""
    rate, (low, high) = result.suggestion.lr, result.suggestion.interval
    danger = rises_from(result.stops)
    rises = f"from {danger:.2g} on" if danger > 0 else "nowhere below the last rate"
    outcomes = spoken(result.stops)["outcome"].value_counts()
    ended = [f"{outcome} in {n} of {len(result.stops)}" for outcome, n in outcomes.items()]
    return Section(
        kind="LR range test",
        headline=f"Begin with a learning rate of about {rate:.2g}",
        short=f"begin with about {rate:.2g}",
        lead=sentence(result.suggestion.because),
        facts=[
            ("Suggested", f"{rate:.2g}"),
            ("Nine tenths of the answers", f"{low:.2g} to {high:.2g}"),
            ("The loss rises again", rises),
            ("The sweeps", ", ".join(ended) or "none"),
        ],
        notes=[sentence(note) for note in result.notes],
        limits="A sweep gives each rate one update only. It tells where rates become too high, "
        "and where to begin; a search tells which rate trains best.",
        charts=[_chart(result, rises)],
        manifest=result.manifest,
        again=call("range_test", result.manifest, ["low", "high", "steps", "seeds", "seed"]),
    )


def _chart(result: RangeTestResult, rises: str) -> Chart:
    rules = rule_points(result.frame, result.answers)
    said = ", ".join(f"{rule.rule} {rule.lr:.2g}" for rule in rules.itertuples())
    return Chart(
        title="Loss over learning rate",
        draw=result.figure,
        alt=f"The loss while the learning rate grows, for {count(len(result.stops), 'seed')}. "
        f"The rules say {said}; together {result.suggestion.lr:.2g}. The loss rises {rises}.",
        caption="Thin: the loss right after each update. Bold: the same without its noise, one "
        "line per seed. Symbols: what each rule says, with a whisker over the seeds. Green: the "
        "rules together, and nine tenths of their answers. Red: the loss has risen again.",
        tables=[
            table_of("What the rules say", result.answers),
            table_of("Where the sweeps ended", spoken(result.stops)),
            _sweeps(result.frame),
        ],
    )


def _sweeps(frame: pd.DataFrame) -> Table:
    """Every so many rates, the raw and the smoothed loss of each seed side by side."""
    seeds, names = frame["seed"].unique(), ("loss", "smooth")
    wide = frame.pivot_table(
        index="lr", columns="seed", values=list(names), aggfunc="first", dropna=False
    )
    wide = wide.reindex(columns=[(name, seed) for seed in seeds for name in names])
    wide.columns = [f"{name}, seed {seed}" for seed in seeds for name in names]
    shown = wide.iloc[evenly(len(wide), ROWS)]
    thinned = "" if len(shown) == len(wide) else f", {len(shown)} of {count(len(wide), 'rate')}"
    return table_of(f"The sweeps{thinned}", shown.reset_index())
