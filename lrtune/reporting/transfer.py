"""The section of a transfer: the trend of the best rate, and what it means for the task itself."""

from lrtune.errors import quantity
from lrtune.reporting.sections import Chart, Section, as_sentence, python_call, text_table
from lrtune.results import TransferResult

VERDICTS = {
    "yes": "The best rate transfers",
    "nearly": "The best rate nearly transfers",
    "no": "The best rate does not transfer",
    "not shown": "Whether the best rate transfers is not shown",
}


def transfer_section(result: TransferResult) -> Section:
    """The trends, and the best rate of each size."""
    over = result.over.replace("_", " ")
    verdicts = result.trends["verdict"].tolist()
    headline = VERDICTS.get(verdicts[0] if verdicts else "", "No trend of the best rate is shown")
    short = f"{over}: {verdicts[0]}" if verdicts else over
    equal = f" at equal {result.trends['equal'].iloc[0]}" if verdicts else ""
    numbers = ["steps", "budget", "seeds", "seed"]
    return Section(
        kind=f"Transfer over {over}",
        headline=f"{headline}{equal}",
        short=short,
        lead=" ".join(result.statements),
        facts=[
            ("Runs", f"{quantity(result.length, 'update')} of the task itself"),
            ("Seeds", f"{result.seeds}"),
            ("Cost", f"{result.cost:.2f} of at most {result.budget:g} full trainings"),
        ],
        warnings=result.warnings,
        notes=[as_sentence(note) for note in result.notes],
        limits="Best constant rates of such runs; the best rate of a longer training is lower, and "
        "the peak of a schedule is another one.",
        charts=[_chart(result)],
        tables=[text_table("All runs", result.runs.drop(columns="checkpoint"))],
        manifest=result.manifest,
        call=python_call(
            "transfer",
            result.manifest,
            numbers,
            ["values"],
            texts={"over": result.manifest.get("over", "")},
        ),
    )


def _chart(result: TransferResult) -> Chart:
    points = ", ".join(
        f"{row.lr:.2g} for {row.label} at equal {row.equal}" for row in result.table.itertuples()
    )
    return Chart(
        title="Best rate over size",
        draw=result.figure,
        alt=f"The best constant rate is {points}. {' '.join(result.statements)}",
        caption="Points: the best constant rate of each size, with its 90 % interval. Lines: their "
        "trend. Both axes are logarithmic.",
        tables=[
            text_table("Best rates", result.table),
            text_table("Trends", result.trends),
        ],
    )
