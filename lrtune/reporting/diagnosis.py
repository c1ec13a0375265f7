"""The section of a diagnosis: what will be trained, and what was found."""

import pandas as pd

from lrtune.errors import quantity
from lrtune.reporting.sections import Chart, Section, python_call, text_table
from lrtune.results import Diagnosis, Finding

NAMED = 3  # by convention: names of findings in a headline


def diagnosis_section(seen: Diagnosis) -> Section:
    """What was found, worst first, and what will be trained."""
    counts = [
        quantity(sum(one.severity == kind for one in seen.findings), kind)
        for kind in ("error", "warning", "note")
        if any(one.severity == kind for one in seen.findings)
    ]
    found = [(one.severity, one.name, one.evidence, one.cause, one.remedy) for one in seen.findings]
    names = list(dict.fromkeys(one.name for one in seen.findings))
    named = ", ".join(names[:NAMED]) + ", ..." * (len(names) > NAMED)
    columns = ["severity", "name", "what was seen", "likeliest cause", "what to do"]
    tables = [text_table("Findings", pd.DataFrame(found, columns=columns))] if found else []
    call = "lrtune.check(task)"
    if seen.tried:
        schedule = seen.manifest.get("schedule", "")
        call = python_call(
            "diagnose", seen.manifest, ["lr", "steps", "seed"], texts={"schedule": schedule}
        )
    return Section(
        kind="Diagnosis" if seen.tried else "Check",
        headline=f"Found {', '.join(counts)}: {named}" if counts else "Nothing odd was found",
        short=", ".join(counts) or "nothing odd",
        lead=" ".join([*([seen.summary] if seen.stopped else []), *seen.warnings]),
        facts=list(seen.facts.items()),
        notes=[one.sentence for one in seen.findings if one.severity == "note"],
        charts=[_chart(seen, one) for one in seen.findings if one.chart],
        tables=[*tables, text_table("Parameter groups", seen.groups)],
        limits=" ".join(filter(None, (f"Looked at: {', '.join(seen.looked_at)}.", seen.unseen))),
        manifest=seen.manifest,
        call="" if "checkpoint" in seen.manifest else call,
    )


def _chart(seen: Diagnosis, one: Finding) -> Chart:
    """The chart of a finding, with its points as a table."""
    assert one.chart is not None, "only findings with a chart are drawn"
    points = [(name, *point) for name, line in one.chart.lines.items() for point in line]
    return Chart(
        title=one.name,
        draw=lambda: seen.figure(one.name),
        alt=f"{one.chart.y} over {one.chart.x}: {', '.join(one.chart.lines)}. {one.evidence}",
        caption=one.evidence,
        tables=[
            text_table("Points", pd.DataFrame(points, columns=["line", one.chart.x, one.chart.y]))
        ],
    )
