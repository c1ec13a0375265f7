"""The section of a comparison: the recommended schedule, and how the others stand against it."""

from lrtune.analysis.paired import LEVEL
from lrtune.errors import quantity
from lrtune.figures.comparison import mean_losses, schedule_rates
from lrtune.reporting.sections import (
    Chart,
    Section,
    as_sentence,
    python_call,
    text_table,
    values_by_step,
)
from lrtune.reporting.statements import peak_note
from lrtune.results.comparison import ComparisonResult, snippet_or_none

# What is read first comes first.
FIRST = ("rank", "schedule", "lr", "verdict", "estimate", "low", "high")
NEXT = ("early", "onset", "level", "noise", "slope", "released")


def comparison_section(result: ComparisonResult) -> Section:
    """The recommended schedule with its peak rate, the reason, the code, and three charts."""
    name, rate = result.schedule, f"{result.lr:.3g}"
    kind = "peak rate" if peak_note(result.call) else "rate"
    said = result.table["verdict"].value_counts()
    headline = f"Keep the schedule {name} with a {kind} of {rate}"
    if result.winner:
        headline = f"Use the schedule {name} with a {kind} of {rate}"
    elif said.get("tied"):
        headline = f"A tie: use {name} with a {kind} of {rate}"
    trained = int(said.reindex(["behind", "tied", "ahead"]).sum())
    facts = [
        ("Schedule", name),
        (kind.capitalize(), rate),
        ("Training length", quantity(result.steps, "step")),
        ("Trained for all steps", f"{trained} of {quantity(len(result.table) - 1, 'rival')}"),
        ("Tied", str(said.get("tied", 0))),
        ("Cost", f"{result.cost:.2f} full trainings"),
    ]
    if result.best is not None and result.best.samples:
        best = result.best
        facts.append(("Best training", f"{best.schedule}, loss {best.loss:.4g}"))
    call = python_call("compare", result.manifest, ["found", "steps", "seeds", "samples", "budget"])
    if "found=" not in call:
        call = call.replace("(task", "(task, found", 1)
    return Section(
        kind="Comparison",
        headline=headline,
        short=f"{name} at {rate}" if result.winner else f"no winner, use {name} at {rate}",
        lead=as_sentence(result.because),
        facts=facts,
        warnings=result.warnings,
        notes=[as_sentence(note) for note in result.notes],
        code=snippet_or_none(result) or "",
        charts=[_ranking(result), _rates(result), _losses(result)],
        manifest=result.manifest,
        call=call,
    )


def _ranking(result: ComparisonResult) -> Chart:
    table = result.table
    ahead = ", ".join(table.sort_values("rank")["schedule"].head(3))
    rest = [name for name in table if name not in (*FIRST, *NEXT)]
    tables = [text_table("The ranking", table[[*FIRST, *NEXT, *rest]])]
    return Chart(
        title="Final score of every schedule",
        draw=result.figure,
        alt=f"The difference in final score of {quantity(len(table), 'schedule')} to the "
        f"recommended one, {result.schedule}, with intervals. The first are {ahead}.",
        caption="The final score less that of the recommended schedule, each schedule at its own "
        f"peak rate, with its {100 * LEVEL:.0f} % interval. Colour and symbol: the verdict, which "
        "rests on whole trainings, paired by seed. Grey: not trained for all steps. Open circles: "
        "the difference on other tasks. Crosses: diverged.",
        tables=[*tables, text_table("All runs", result.runs), text_table("Cost", result.spending)],
    )


def _rates(result: ComparisonResult) -> Chart:
    rates = schedule_rates(result.table, result.steps)
    return Chart(
        title="Learning rate over steps",
        draw=result.rates_figure,
        alt="The learning rate of every schedule over the steps, at its own peak rate.",
        caption="Every schedule at its own peak rate.",
        tables=[text_table("Rate at some steps", values_by_step(rates, "schedule", "value"))],
    )


def _losses(result: ComparisonResult) -> Chart:
    means = mean_losses(result.curves, result.runs, result.table, result.steps)
    return Chart(
        title="Loss over steps",
        draw=result.losses_figure,
        alt="The training loss of every schedule over the steps, the mean over the seeds.",
        caption="The smoothed mean over the seeds, of what was trained for all steps.",
        tables=[text_table("Loss at some steps", values_by_step(means, "schedule", "value"))],
    )
