"""The result of a transfer: how the best rate changes with the size of something."""

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from lrtune import figures
from lrtune.errors import quantity
from lrtune.results.schema import TRANSFER, TRENDS, TRIED, table_field
from lrtune.results.serialization import Serializable, fact_lines

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False, repr=False)
class TransferResult(Serializable):
    """The best constant rate of each size, its trend, and what that means for the task itself.

    Attributes:
        over: What was varied: `data`, `width` or `batch_size`.
        statements: The answer: for each thing that sizes may have in common, two sentences.
        warnings: What counts against it, in sentences; empty for a sound one.
        notes: What a reader should know.
        stopped: Why it ended: budget, time, interrupted.
        steps: The length of a whole training, in updates.
        length: The updates of the runs of the task itself.
        seeds: Runs of each rate.
        budget: The most that could be spent, in full trainings.
        cost: What was spent, validation included.
        manifest: The task, the settings and the versions, as text.
        table: One row per size and what is `equal`: `label`, `value`, `ratio` (over the task's
            own), `updates`, `lr` with `low` and `high`, `loss` (the lowest), `edge`.
        trends: One row for each thing that is `equal`: `slope` of the log rate over the log size
            with `low` and `high`; the `factor` of the rate for `per` times the size, with its
            interval; `verdict`: whether the rate transfers.
        runs: One row per run, as in a search; `stage` is the size.
    """

    kind: ClassVar[str] = "transfer"

    over: str
    statements: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    stopped: str
    steps: int
    length: int
    seeds: int
    budget: float
    cost: float
    manifest: dict[str, str]
    table: pd.DataFrame = table_field(TRANSFER)
    trends: pd.DataFrame = table_field(TRENDS)
    runs: pd.DataFrame = table_field(TRIED)

    def __repr__(self) -> str:
        """The answer and the best rates, in a few lines."""
        facts = {
            "warnings": " ".join(self.warnings),
            "answer": " ".join(self.statements),
            "runs": f"{quantity(self.seeds, 'seed')}, {quantity(self.length, 'update')}",
            "cost": f"{self.cost:.2f} of at most {self.budget:g} full trainings",
            "notes": "; ".join(self.notes),
        }
        few = self.table[["equal", "label", "updates", "lr", "low", "high", "loss"]]
        rows = few.to_string(index=False, float_format="{:.3g}".format, na_rep="")
        head = fact_lines(f"Transfer over {self.over.replace('_', ' ')}", facts)
        return head + "\n" + textwrap.indent(rows, "  ")

    @property
    def frame(self) -> pd.DataFrame:
        """The table, by the name that every result has."""
        return self.table

    def figure(self) -> "Figure":
        """The best rate over the size, with intervals and trends, on logarithmic axes."""
        return figures.transfer_figure(self.table, self.trends, self.over)
