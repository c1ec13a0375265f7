"""The result of a comparison of schedules."""

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from lrtune import figures
from lrtune.errors import ArgumentError, LrtuneError, quantity
from lrtune.results.schema import CURVES, RANKING, SPENDING, TRIED, table_field
from lrtune.results.serialization import fact_lines
from lrtune.results.trained import BestRun, Retrained, Trained
from lrtune.schedules import parse
from lrtune.schedules.snippets import snippet

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False, repr=False)
class ComparisonResult(Trained):
    """The result of a comparison: the recommended schedule, and how the others stand against it.

    Attributes:
        winner: The recommended schedule, if whole trainings show every other one behind it; else
            empty.
        schedule: The recommended schedule: that of the search, unless whole trainings show another
            one ahead of it.
        call: The call of `lrtune.schedules` that makes it.
        lr: Its peak rate.
        because: Why this one, in a sentence.
        warnings: What counts against the recommendation, in sentences, those of the search that it
            begins with included; empty for a sound one.
        notes: What a reader should know: which rivals were trained, what their seeds can show, what
            would settle the ties.
        stopped: Why the comparison ended: budget, time, interrupted.
        steps: The length of training that the answer is for, in optimizer updates.
        horizon: The length of the compressed runs that chose rivals; 0 without them.
        seeds: On how many seeds rivals were trained for all steps, in pairs with the reference.
        budget: The most that could be spent, in full trainings.
        cost: What was spent, validation included.
        scores: What the scores are: logs of losses, or shares of the fall.
        best: The best of all whole trainings, those of the search included; None without any.
        retrained: What to expect of a new training with the recommended settings.
        manifest: The task, the settings and the versions, as text.
        table: One row per schedule: `rank`, `schedule`, `call`, `lr`, `verdict`, `estimate` with
            `low` and `high` (its score at `steps` less that of the recommended one, by whole
            trainings, or without them by the rest); `prior` with its `tasks`; `final`, the loss
            whose score is the mean score of its `runs`, on the data that select; `horizon`; then
            `early`, the plateau (`onset`, `level`, `noise`, `slope`, `released`), `failed`, `cost`.
        runs: One row per run, those of the search that were compared with included: `run`, `stage`,
            `lr`, `schedule`, `seed`, `steps`, `until`, `outcome`, `start`, `train`, `loss`, `test`,
            `checkpoint`.
        curves: Their training losses, thinned: `run`, `step`, `loss`.
        spending: One row per stage: `stage`, `planned`, `spent`, in full trainings.
    """

    kind: ClassVar[str] = "comparison"
    optuna_study: ClassVar[str] = "lrtune-comparison"

    winner: str
    schedule: str
    call: str
    lr: float
    because: str
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    stopped: str
    steps: int
    horizon: int
    seeds: int
    budget: float
    cost: float
    scores: str
    best: BestRun | None
    retrained: Retrained | None
    manifest: dict[str, str]
    table: pd.DataFrame = table_field(RANKING)
    runs: pd.DataFrame = table_field(TRIED)
    curves: pd.DataFrame = table_field(CURVES)
    spending: pd.DataFrame = table_field(SPENDING)

    def __repr__(self) -> str:
        """The answer, what it rests on, and how the schedules stand, in a few lines."""
        facts = {
            "warnings": " ".join(self.warnings),
            "best training": self.best,
            "retrained": self.retrained,
            "cost": f"{self.cost:.2f} of at most {self.budget:g} full trainings",
            "reason": self.because,
        }
        answer = f"lr {self.lr:.3g} with {self.schedule}, for {quantity(self.steps, 'step')}"
        ranks = self.table[["schedule", "lr", "verdict", "final"]].rename(columns={"final": "loss"})
        ranks = ranks.to_string(index=False, float_format="{:.3g}".format, na_rep="")
        return fact_lines(f"Comparison: {answer}", facts) + "\n" + textwrap.indent(ranks, "  ")

    @property
    def frame(self) -> pd.DataFrame:
        """The table, by the name that every result has."""
        return self.table

    def snippet(self, schedule: str | None = None) -> str:
        """Python to paste into a training script: a schedule at its own peak, for `steps` steps.

        Args:
            schedule: A schedule of the table; the recommended one when None.

        Raises:
            ArgumentError: There is no such schedule; or it is one of your own, or one that reacts
                to the loss: only you have its code.
        """
        if schedule is None:
            recommended = self._recommended(self.call)
            return snippet(recommended, self.lr, self.steps, name=self.schedule)
        rows = self.table[self.table["schedule"] == schedule]
        if rows.empty:
            known = ", ".join(self.table["schedule"])
            raise ArgumentError(f"{schedule!r} was not compared. There are {known}.")
        shape, lr = parse(rows["call"].item()), rows["lr"].item()
        return snippet(shape, lr, self.steps, name=schedule)

    def figure(self) -> "Figure":
        """How every schedule stands against the recommended one, with intervals and verdicts."""
        return figures.ranking_figure(self.table)

    def rates_figure(self) -> "Figure":
        """The rate of every schedule over the run, at its own peak."""
        return figures.schedules_figure(self.table, self.steps)

    def losses_figure(self) -> "Figure":
        """Training losses of whole trainings over the steps, as means over the seeds."""
        return figures.losses_figure(self.curves, self.runs, self.table, self.steps)


def snippet_or_none(result: ComparisonResult) -> str | None:
    """The snippet, or None for a schedule of the user's own: only they have its code."""
    try:
        return result.snippet()
    except LrtuneError:
        return None
