"""The section of a comparison: the recommended schedule, the ranking, and how reliable it is."""

from lrtune.analysis.paired import LEVEL
from lrtune.figures.comparison import mean_paths
from lrtune.reporting.sections import (
    Chart,
    Section,
    Table,
    as_sentence,
    python_call,
    quantity,
    text_table,
    values_by_step,
)
from lrtune.results.comparison import ComparisonResult, snippet_or_none


def comparison_section(result: ComparisonResult) -> Section:
    """The recommended schedule with its peak rate, the reason, the code, and five charts."""
    name, peak = result.schedule, f"{result.lr:.3g}"
    tied = int(result.table["tied"].sum())
    seeds = quantity(result.paths["seed"].nunique(), "fresh seed")
    headline = f"No clear winner: {name} with a peak rate of {peak} was ahead"
    if result.winner:
        headline = f"Use the schedule {name} with a peak rate of {peak}"
    elif tied > 1:
        headline = f"A tie: use {name} with a peak rate of {peak}"
    settings = ["lr", "steps", "horizon", "seeds", "seed", "samples"]
    return Section(
        kind="Comparison",
        headline=headline,
        short=f"{name} at {peak}" if result.winner else f"no winner, use {name} at {peak}",
        lead=as_sentence(result.because),
        facts=[
            ("Schedule", name),
            ("Peak rate", peak),
            ("Tied with the best", f"{tied} of {quantity(len(result.table), 'schedule')}"),
            ("Compared on", f"{seeds}, {quantity(result.horizon, 'step')} each"),
            ("Training length", quantity(result.steps, "step")),
        ],
        notes=[as_sentence(note) for note in result.notes],
        code=snippet_or_none(result) or "",
        charts=[_ranking(result), _rates(result), _losses(result), _heat(result), _stable(result)],
        manifest=result.manifest,
        call=python_call("compare", result.manifest, settings),
    )


def _ranking(result: ComparisonResult) -> Chart:
    ahead = ", ".join(result.table.sort_values("rank")["schedule"].head(3))
    return Chart(
        title="Final loss of every schedule",
        draw=result.figure,
        alt=f"The difference in final loss of {quantity(len(result.table), 'schedule')} to the "
        f"best one, with intervals. The first are {ahead}.",
        caption="The difference in final loss to the best schedule, each schedule at its own peak "
        f"rate, paired by fresh seed. The {100 * LEVEL:.0f} % intervals hold for all schedules at "
        "once. Circles: tied with the best. Triangles: worse than the best. Crosses: diverged "
        "with some seed.",
        tables=[text_table("The ranking", result.table)],
    )


def _rates(result: ComparisonResult) -> Chart:
    return Chart(
        title="Learning rate over steps",
        draw=result.rates_figure,
        alt="The learning rate of every schedule over the steps, at its own peak rate.",
        caption="Every schedule at its own peak rate, compressed as a whole to the length of the "
        "short runs.",
        tables=[_at_some_steps("Learning rate at some steps", result, "lr")],
    )


def _losses(result: ComparisonResult) -> Chart:
    return Chart(
        title="Loss over steps",
        draw=result.losses_figure,
        alt="The training loss of every schedule over the steps, the mean over the fresh seeds.",
        caption="The smoothed mean over the fresh seeds. Colours and dashes as in the chart above.",
        tables=[_at_some_steps("Smoothed training loss at some steps", result, "loss")],
    )


def _at_some_steps(caption: str, result: ComparisonResult, column: str) -> Table:
    means = mean_paths(result.paths, column)
    return text_table(caption, values_by_step(means, "schedule", "value"))


def _heat(result: ComparisonResult) -> Chart:
    return Chart(
        title="Score by rate and schedule",
        draw=result.heat_figure,
        alt="A heat map of the lowest score of every schedule in every half decade of the rate.",
        caption="The lowest loss of every schedule in each half decade of the peak rate, at the "
        "shortest horizon, where the peak rates were chosen. Dark is low, which is good. Empty: "
        "not trained, or diverged.",
        tables=[text_table("All candidates", result.candidates)],
    )


def _stable(result: ComparisonResult) -> Chart:
    return Chart(
        title="Rank at every horizon",
        draw=result.stability_figure,
        alt="The rank of every schedule at every horizon and on the fresh seeds.",
        caption="The rank of the best candidate of every schedule, at each horizon and on the "
        "fresh seeds. Kendall's tau compares each ranking with the one on the fresh seeds: 1 "
        "means the same order, 0 means no relation.",
        tables=[text_table("Agreement with the fresh seeds", result.stability)],
    )
