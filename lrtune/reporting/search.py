"""The section of a search: the rate, its interval, its check at full length, and the short runs."""

from lrtune.analysis.curves import Outcome
from lrtune.figures.losses import failed_runs, mean_curves
from lrtune.figures.search import close_up_span
from lrtune.reporting.sections import (
    Chart,
    Section,
    as_sentence,
    python_call,
    quantity,
    text_table,
    values_by_step,
)
from lrtune.results import SearchResult


def search_section(result: SearchResult) -> Section:
    """The recommended rate, the reason, the code, and two charts."""
    lr, (low, high) = result.lr, result.interval
    seeds, budgeted = result.scores["seed"].nunique(), len(result.spending) > 0
    passed = result.checks.loc[result.checks["lr"] == lr, "passed"]
    unstable = len(passed) > 0 and result.check == "not held"
    trained = [quantity(len(result.frame), "rate"), quantity(seeds, "seed")]
    stable = f"stable in {passed.sum()} of {quantity(len(passed), 'run')}"
    facts = [
        ("Learning rate", f"{lr:.3g}"),
        ("90 % interval", f"{low:.3g} to {high:.3g}"),
        ("Training length", quantity(result.steps, "step")),
        ("With a schedule", f"{result.schedule} with a peak of {result.peak:.3g}"),
        ("At full length", stable if len(passed) else "not trained"),
        ("Trained", ", ".join([*trained, f"up to {quantity(result.horizon, 'step')} each"])),
    ]
    if budgeted:
        trainings = result.spending["spent"].sum() / result.steps
        facts.append(("Cost", f"{trainings:.2f} full trainings"))
    return Section(
        kind="Search",
        headline=f"No learning rate stayed stable, not even {lr:.3g}"
        if unstable
        else f"Use a learning rate of {lr:.3g}",
        short="no rate stayed stable" if unstable else f"use {lr:.3g}",
        lead=f"{as_sentence(result.because)} {result.confidence}".rstrip(),
        facts=facts,
        notes=[as_sentence(note) for note in result.notes],
        limits=_limits(result, seeds),
        charts=[_rates(result, seeds), _curves(result, seeds)],
        code=result.snippet(),
        manifest=result.manifest,
        call=python_call(
            "search",
            result.manifest,
            ["steps", "budget" if budgeted else "horizon", "seeds", "seed"],
            ["coarse"] if budgeted else ["coarse", "fine"],
        ),
    )


def _limits(result: SearchResult, seeds: int) -> str:
    limits = [f"The rates were compared in runs of {quantity(result.horizon, 'step')}."]
    if len(result.checks):
        limits.append(
            f"At the full {result.steps:,} steps only the chosen rate was trained, to check its "
            "stability. Whether another rate ends lower there was not measured."
        )
    else:
        limits.append(f"No rate was trained for the full {result.steps:,} steps.")
    if seeds == 1:
        limits.append("A single seed does not show the influence of chance, so ties go unseen.")
    return " ".join(limits)


def _rates(result: SearchResult, seeds: int) -> Chart:
    verdicts = result.frame["verdict"].value_counts()
    counted = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
    best = result.frame.dropna(subset="mean").nsmallest(1, "mean")["lr"]
    lowest = f" The lowest mean is at {best.iloc[0]:.3g}." if len(best) else ""
    caption = ["Full symbols: the mean over the seeds. Open symbols: each seed."] * (seeds > 1)
    if result.frame["failed"].any():
        caption.append("Crosses at the upper edge: failed runs.")
    if (result.scores["outcome"] == Outcome.RETIRED.name).any():
        caption.append("Diamonds there: runs that were stopped early, far behind the best.")
    caption.append("Green: the chosen rate and its 90 % interval.")
    if close_up_span(result.frame, result.interval):
        caption.append("The second panel magnifies the crowded rates.")
    # In this table the interval is that of a difference, which has no column of its own.
    rates = result.frame.rename(columns={"low": "difference to the best from"})
    tables = [
        text_table("All rates", rates),
        text_table("All short runs", result.scores),
        text_table("Checks at full length", result.checks),
    ]
    if len(result.spending):
        tables.append(text_table("Cost by stage, in updates", result.spending))
    return Chart(
        title="Final loss over learning rate",
        draw=result.figure,
        alt=f"The final loss of the short runs for {quantity(len(result.frame), 'rate')}: "
        f"{counted}.{lowest} The chosen rate is {result.lr:.3g}.",
        caption=" ".join(caption),
        tables=tables,
    )


def _curves(result: SearchResult, seeds: int) -> Chart:
    means = mean_curves(result.curves).sort_values(["lr", "step"])
    few_steps = values_by_step(means, "lr", "mean")
    verdicts = dict(zip(result.frame["lr"], result.frame["verdict"], strict=True))
    few_steps.insert(1, "verdict", [verdicts.get(lr, "") for lr in few_steps["lr"]])
    caption = (
        "Lines: the smoothed mean over the seeds. Bands: from the lowest to the highest seed."
        if seeds > 1
        else "Bold lines: the smoothed loss. Thin lines: the loss of each step."
    )
    caption += " Colour, dash and symbol: the verdict. Grey: the other rates."
    if len(failed_runs(result.curves, result.frame)):
        caption += " Crosses: runs that diverged, or whose loss was no longer finite."
    return Chart(
        title="Loss of the short runs",
        draw=result.curves_figure,
        alt=f"The training loss of the short runs over {quantity(result.horizon, 'step')}, one "
        "line per rate, grouped by verdict: too low, good, high, diverged.",
        caption=caption,
        tables=[text_table("Mean training loss at some steps", few_steps)],
    )
