"""The result of looking at a task: what will be trained, and what is odd about it."""

import math
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from lrtune import figures
from lrtune.errors import ArgumentError, quantity
from lrtune.results.schema import FINDINGS, GROUPS, as_table, table_field
from lrtune.results.serialization import Serializable, fact_lines

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SEVERITIES = ("error", "warning", "note")
"""How much a finding matters, worst first."""

Points = tuple[tuple[float, float], ...]
"""The points of a line."""


@dataclass(frozen=True)
class Chart:
    """A small chart that belongs to a finding.

    Attributes:
        x: What the horizontal axis shows, with its unit.
        y: The same of the vertical axis.
        lines: Names of the lines to their points.
        log: The axes that are logarithmic: `x`, `y`, `xy` or none.
    """

    x: str
    y: str
    lines: dict[str, Points]
    log: str = ""


@dataclass(frozen=True)
class Finding:
    """Something that a check found.

    Attributes:
        name: What it is called, such as `unshuffled`.
        severity: `error` (no answer can be trusted), `warning` (look at it first) or `note`.
        evidence: What was measured, in a sentence with its numbers.
        cause: The likeliest cause.
        remedy: What to do.
        chart: What was measured, to be drawn; None where the numbers of the evidence are enough.
    """

    name: str
    severity: str
    evidence: str
    cause: str
    remedy: str
    chart: Chart | None = None

    @property
    def sentence(self) -> str:
        """Evidence, cause and remedy."""
        return " ".join(filter(None, (self.evidence, self.cause, self.remedy)))


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis(Serializable):
    """What will be trained, and what was found, worst first.

    Attributes:
        facts: What will be trained, as terms and their values.
        findings: What the checks found, worst first; empty for a healthy task.
        looked_at: What was looked at: the names of all findings that there could be.
        manifest: The task and the versions, as text.
        groups: One row per parameter group: `group`, `lr` (as a multiple of the rate, or the rate
            itself where it is `fixed`), `fixed`, `weight_decay`, `parameters`.
        left_out: What was not looked at, to the reason in a sentence; that is empty after Ctrl-C.
        cost: The updates that trials have made, a forward pass counted as a third; NaN of `check`.
        stopped: `interrupted` where Ctrl-C ended it before everything was looked at; else empty.
    """

    kind: ClassVar[str] = "diagnosis"

    facts: dict[str, str]
    findings: tuple[Finding, ...]
    looked_at: tuple[str, ...]
    manifest: dict[str, str]
    groups: pd.DataFrame = table_field(GROUPS)
    left_out: dict[str, str] = field(default_factory=dict)
    cost: float = math.nan
    stopped: str = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """The errors and warnings, each in a few sentences."""
        return tuple(one.sentence for one in self.findings if one.severity != "note")

    @property
    def frame(self) -> pd.DataFrame:
        """The findings as a table: `name`, `severity`, `evidence`, `cause`, `remedy`."""
        rows = [[getattr(one, name) for name in FINDINGS] for one in self.findings]
        return as_table(pd.DataFrame(rows, columns=list(FINDINGS)), FINDINGS)

    @property
    def failed(self) -> bool:
        """Whether there is an error: then no answer can be trusted."""
        return any(one.severity == "error" for one in self.findings)

    @property
    def tried(self) -> bool:
        """Whether it trained: whether it comes from `diagnose`, and not from `check`."""
        return not math.isnan(self.cost)

    def figure(self, name: str = "") -> "Figure":
        """The chart of the finding of this name; of the first one that has a chart if empty.

        Raises:
            ArgumentError: There is no such finding, or it has no chart.
        """
        drawn = {one.name: one.chart for one in reversed(self.findings) if one.chart}
        if not drawn:
            raise ArgumentError("no finding has a chart, so there is no figure.")
        chart = drawn.get(name or next(reversed(drawn), ""))
        if chart is None:
            raise ArgumentError(
                f"no finding called {name!r} has a chart; there are {list(drawn)}. Name one."
            )
        return figures.finding_figure(chart.x, chart.y, chart.lines, chart.log)

    def __repr__(self) -> str:
        """The findings, and what will be trained, in a few lines."""
        found = {f"{one.severity}: {one.name}": one.sentence for one in self.findings}
        verb = "Diagnosis" if self.tried else "Check"
        head = quantity(len(found), "finding") if found and not self.stopped else self.summary
        facts = {"Not looked at": self.unseen.removeprefix("Not looked at: ")}
        if not found:
            facts = {"Looked at": ", ".join(self.looked_at)} | facts
        lines = textwrap.fill(f"{verb}: {head}", 100, break_on_hyphens=False)
        return fact_lines(lines, {**found, **self.facts, **facts})

    @property
    def summary(self) -> str:
        """How much was looked at, and whether anything was found, in a sentence."""
        checks = quantity(len(self.looked_at), "check")
        spent = self.facts.get("Cost", "").partition(", besides")[0] if self.tried else ""
        if self.stopped:
            found = quantity(len(self.findings), "finding") if self.findings else "nothing found"
            after = f" after {spent}" if spent else ""
            return f"Interrupted{after}: {found} so far, in {checks}."
        return f"Nothing found in {checks}{f' ({spent})' if spent else ''}."

    @property
    def unseen(self) -> str:
        """What was not looked at, and why, in some sentences; empty where everything was."""
        names: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            names.setdefault(why, []).append(name)
        told = (f"Not looked at: {', '.join(some)}. {why}".strip() for why, some in names.items())
        return " ".join(told)


def worst_first(findings: list[Finding]) -> tuple[Finding, ...]:
    """The findings in the order of their severity; those of one severity as they come."""
    return tuple(sorted(findings, key=lambda one: SEVERITIES.index(one.severity)))
