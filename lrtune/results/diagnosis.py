"""The result of looking at a task: what will be trained, and what is odd about it."""

import math
import textwrap
from dataclasses import dataclass
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

WIDER = "capacity"
"""The finding for which a wider model has to be made."""

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
        left_out: What was not looked at, as the budget did not allow for it, or it could not be
            trained.
        cost: The updates that trials have made, a forward pass counted as a third; NaN of `check`.
        stopped: `interrupted` where Ctrl-C ended it before everything was looked at; else empty.
    """

    kind: ClassVar[str] = "diagnosis"

    facts: dict[str, str]
    findings: tuple[Finding, ...]
    looked_at: tuple[str, ...]
    manifest: dict[str, str]
    groups: pd.DataFrame = table_field(GROUPS)
    left_out: tuple[str, ...] = ()
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
        head = f"{verb}: " + (quantity(len(found), "finding") if found else self.nothing)
        facts = {**self.facts, **({"Left out": self.unseen} if self.left_out else {})}
        return fact_lines(textwrap.fill(head, 100), {**found, **facts})

    @property
    def nothing(self) -> str:
        """What to say where nothing was found."""
        return f"Nothing found. Looked at: {', '.join(self.looked_at)}."

    @property
    def unseen(self) -> str:
        """What was left out, and why, in a sentence or two; empty where nothing was."""
        names = [name for name in self.left_out if name != WIDER]
        said = (
            f"Left out, for want of budget: {', '.join(names)}; larger `steps` have a larger one."
        )
        if WIDER not in self.left_out:
            return said if names else ""
        wider = (
            f"{WIDER} needs a model that is made by a function with an argument `width`, and the "
            "budget to train a wider one."
        )
        return f"{said} {wider}" if names else wider


def worst_first(findings: list[Finding]) -> tuple[Finding, ...]:
    """The findings in the order of their severity; those of one severity as they come."""
    return tuple(sorted(findings, key=lambda one: SEVERITIES.index(one.severity)))
