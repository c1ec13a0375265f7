"""A search in words: the rate, where the best one lies, how it was found, how long it held."""

from lrtune.analysis.curves import Outcome
from lrtune.figures.curves import breaks, curve_points
from lrtune.reporting.sections import (
    Chart,
    Section,
    at_some_steps,
    call,
    count,
    sentence,
    spoken,
    table_of,
)
from lrtune.results import SearchResult


def search_section(result: SearchResult) -> Section:
    """The rate, why this one, and the charts that show it."""
    lr, (low, high) = result.lr, result.interval
    rates, seeds = len(result.frame), result.scores["seed"].nunique()
    horizon = f"up to {count(result.horizon, 'step')} each"
    lost = result.check == "not held" and (result.checks["lr"] == lr).any()
    held = int(result.checks.loc[result.checks["lr"] == lr, "passed"].sum())
    asked = len(result.checks.loc[result.checks["lr"] == lr])
    stable = f"stable in {held} of {count(asked, 'seed')}" if asked else "not trained"
    bought = len(result.spending) > 0
    return Section(
        kind="Search",
        headline=f"No learning rate stayed stable, not even {lr:.3g}"
        if lost
        else f"Use a learning rate of {lr:.3g}",
        short="no rate stayed stable" if lost else f"use {lr:.3g}",
        lead=sentence(result.because),
        facts=[
            ("Learning rate", f"{lr:.3g}"),
            ("Probably best", f"between {low:.3g} and {high:.3g}"),
            ("Meant for", f"{count(result.steps, 'step')} of training"),
            ("With a schedule", f"{result.peak:.3g} as the peak of {result.schedule}"),
            ("A run of that length", stable),
            ("Trained", ", ".join([count(rates, "rate"), count(seeds, "seed"), horizon])),
            *([("Spent", _spent(result))] if bought else []),
        ],
        notes=[sentence(note) for note in result.notes],
        limits=" ".join(filter(None, [result.confidence, _limits(result, seeds)])),
        charts=[_rates(result, seeds), _curves(result, seeds)],
        code=result.snippet(),
        manifest=result.manifest,
        again=call(
            "search",
            result.manifest,
            ["steps", *(["budget"] if bought else ["horizon"]), "seeds", "seed"],
            ["coarse", *([] if bought else ["fine"])],
        ),
    )


def _spent(result: SearchResult) -> str:
    return f"{result.spending['spent'].sum() / result.steps:.2f} full trainings"


def _limits(result: SearchResult, seeds: int) -> str:
    told = f"The rates were judged by short runs of {count(result.horizon, 'step')}."
    told += (
        f" Over {result.steps:,} only the chosen one was trained, to see that it stays stable; "
        "whether another would end lower there was not measured."
        if len(result.checks)
        else f" None was trained over {result.steps:,}."
    )
    alone = " With a single seed nothing is known about chance, and ties go unseen."
    return told + alone if seeds == 1 else told


def _rates(result: SearchResult, seeds: int) -> Chart:
    verdicts = result.frame["verdict"].value_counts()
    told = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
    best = result.frame.dropna(subset="mean").nsmallest(1, "mean")["lr"]
    lowest = f" The lowest mean is at {best.iloc[0]:.3g}." if len(best) else ""
    symbols = "Full symbols: the mean over the seeds. Open ones: each seed. " if seeds > 1 else ""
    failed = "Crosses at the upper edge: runs that failed. " if result.frame["failed"].any() else ""
    if (result.scores["outcome"] == Outcome.RETIRED.name).any():
        failed += "Diamonds there: runs that were given up early, far behind the best. "
    return Chart(
        title="Final loss over learning rate",
        draw=result.figure,
        alt=f"The loss at the end of the short runs for {count(len(result.frame), 'rate')}: "
        f"{told}.{lowest} Chosen: {result.lr:.3g}.",
        caption=f"{symbols}{failed}Green: the chosen rate, and where the best one probably lies. "
        "Where rates are crowded, a second panel shows them close up.",
        tables=[
            table_of("Every rate", result.frame),
            table_of("Every run", spoken(result.scores)),
            table_of("The longer runs", spoken(result.checks)),
            *([table_of("What was spent", result.spending)] if len(result.spending) else []),
        ],
    )


def _curves(result: SearchResult, seeds: int) -> Chart:
    points = curve_points(result.curves).sort_values(["lr", "step"])
    rows = at_some_steps(points, "lr", "mean")
    verdicts = dict(zip(result.frame["lr"], result.frame["verdict"], strict=True))
    rows.insert(1, "verdict", [verdicts.get(lr, "") for lr in rows["lr"]])
    behind = (
        "Lines: the mean over the seeds, lightly smoothed; bands: from the lowest to the highest "
        "seed, smoothed likewise."
        if seeds > 1
        else "Bold: lightly smoothed; thin behind: each step."
    )
    ended = (
        " Crosses: runs that diverged or met a loss that is not finite."
        if len(breaks(result.curves, result.frame))
        else ""
    )
    return Chart(
        title="Losses of the short runs",
        draw=result.curves_figure,
        alt=f"The training loss of the short runs over their {count(result.horizon, 'step')}, "
        "one line per rate, grouped by verdict: too low, good, high, diverged.",
        caption=f"{behind} Colour, dash and symbol: the verdict. Grey: the other rates.{ended}",
        tables=[table_of("Mean training loss at some of the steps", rows)],
    )
