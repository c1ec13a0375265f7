"""A comparison in words: the schedule, what it is tied with, and how far that can be trusted."""

from lrtune.errors import LrtuneError
from lrtune.figures.comparison import path_points
from lrtune.reporting.sections import Chart, Section, at_some_steps, call, count, sentence, table_of
from lrtune.results import ComparisonResult


def comparison_section(result: ComparisonResult) -> Section:
    """The schedule, why this one, the code to paste, and the charts that show it."""
    name, peak = result.schedule, f"{result.lr:.3g}"
    tied = int(result.table["tied"].sum())
    seeds = result.paths["seed"].nunique()
    if result.winner:
        headline = f"Use the schedule {name}, with a peak rate of {peak}"
    elif tied > 1:
        headline = f"A tie: take {name}, with a peak rate of {peak}"
    else:
        headline = f"No winner yet; {name} with a peak rate of {peak} was ahead"
    return Section(
        kind="Comparison",
        headline=headline,
        short=f"{name} at {peak}" if result.winner else f"a tie, take {name} at {peak}",
        lead=sentence(result.because),
        facts=[
            ("Schedule", name),
            ("Its peak rate", peak),
            ("Tied for the best", f"{tied} of {count(len(result.table), 'schedule')}"),
            ("Judged by", f"{count(seeds, 'fresh seed')}, {count(result.horizon, 'step')} each"),
            ("Meant for", f"{count(result.steps, 'step')} of training"),
        ],
        notes=[sentence(note) for note in result.notes],
        code=_code(result),
        charts=[_ranking(result), _rates(result), _losses(result), _heat(result), _stable(result)],
        manifest=result.manifest,
        again=call(
            "compare", result.manifest, ["lr", "steps", "horizon", "seeds", "seed", "samples"]
        ),
    )


def _code(result: ComparisonResult) -> str:
    try:
        return result.snippet()
    except LrtuneError:
        return ""  # a schedule of the user's own, or one that reacts to the loss


def _ranking(result: ComparisonResult) -> Chart:
    ahead = ", ".join(result.table.sort_values("rank")["schedule"].head(3))
    return Chart(
        title="Final loss of every schedule",
        draw=result.figure,
        alt=f"How far each of {count(len(result.table), 'schedule')} ends behind the best, with "
        f"intervals. The first are {ahead}.",
        caption="How far each schedule ends behind the best one, each at its own peak rate: paired "
        "differences on fresh seeds, with intervals that hold for all at once. Circles: cannot be "
        "told apart from the best. Triangles: behind it. Crosses: diverged in some seed.",
        tables=[table_of("The ranking", result.table)],
    )


def _rates(result: ComparisonResult) -> Chart:
    rows = at_some_steps(path_points(result.paths, "lr"), "schedule", "value")
    return Chart(
        title="Rates over the run",
        draw=result.rates_figure,
        alt="The learning rate of every schedule over the steps, at its own peak rate.",
        caption="Every schedule at its own peak rate, complete, and compressed to the length "
        "of the short runs.",
        tables=[table_of("Rate at some of the steps", rows)],
    )


def _losses(result: ComparisonResult) -> Chart:
    rows = at_some_steps(path_points(result.paths, "loss"), "schedule", "value")
    return Chart(
        title="Losses over the run",
        draw=result.losses_figure,
        alt="The training loss of every schedule over the steps, the mean over the fresh seeds.",
        caption="The mean over the fresh seeds, lightly smoothed. Colours and dashes as above.",
        tables=[table_of("Training loss at some of the steps, smoothed", rows)],
    )


def _heat(result: ComparisonResult) -> Chart:
    return Chart(
        title="Rate and schedule",
        draw=result.heat_figure,
        alt="A heat map of the lowest score of every schedule in every half decade of the rate.",
        caption="The lowest loss of every schedule in each half decade of the peak rate, on the "
        "shortest horizon, where rates were tried. Dark is low, which is good; empty: not tried, "
        "or diverged.",
        tables=[table_of("Every candidate", result.candidates)],
    )


def _stable(result: ComparisonResult) -> Chart:
    return Chart(
        title="How stable the ranking is",
        draw=result.stability_figure,
        alt="The rank of every schedule on every horizon, and on the fresh seeds.",
        caption="The rank of every schedule, by its best candidate, on each horizon and on the "
        "fresh seeds. Kendall's tau is 1 where a ranking agrees with that on the fresh seeds, and "
        "0 where it says nothing about it.",
        tables=[table_of("Agreement with the fresh seeds", result.stability)],
    )
