"""The result of a comparison of schedules."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from lrtune import figures
from lrtune.errors import LrtuneError
from lrtune.results.optuna_export import ExportedTrial, add_to_optuna, run_id
from lrtune.results.schema import CANDIDATES, PATHS, RANKING, STABILITY, table_field
from lrtune.results.serialization import Serializable
from lrtune.schedules import parse
from lrtune.schedules.snippets import snippet

if TYPE_CHECKING:
    from optuna.study import Study
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False)
class ComparisonResult(Serializable):
    """The result of a comparison: the recommended schedule, and the ranking behind it.

    Attributes:
        winner: The schedule that beats every other; empty when it is a tie, or when the horizons
            do not agree.
        schedule: The one recommended: the winner, or of those tied with the best that which did
            best on other tasks.
        call: The call of `lrtune.schedules` that makes it, with the best parameters found.
        lr: Its own peak rate.
        because: Why this one, in a sentence.
        notes: What a reader should know: how far the ranking can be trusted, and what it needs.
        steps: The length of training that the answer is for, in optimizer updates.
        horizon: The length of the runs that it was judged by.
        manifest: The task, the settings and the versions, as text.
        table: One row per schedule: `rank`, `schedule`, `call`, `lr`, `early`, the plateau
            (`onset`, `level`, `noise`, `slope`, `released`), `final`, `difference` to the best
            with `low` and `high`, `tied`, `failed`, `cost` in updates.
        stability: One row per horizon: `horizon`, `tau`, `low`, `high`.
        candidates: One row per candidate and horizon: `horizon`, `schedule`, `call`, `lr`,
            `score`.
        paths: One row per schedule, fresh seed and step: `schedule`, `seed`, `step`, `lr`, `loss`.
    """

    kind: ClassVar[str] = "comparison"

    winner: str
    schedule: str
    call: str
    lr: float
    because: str
    notes: tuple[str, ...]
    steps: int
    horizon: int
    manifest: dict[str, str]
    table: pd.DataFrame = table_field(RANKING)
    stability: pd.DataFrame = table_field(STABILITY)
    candidates: pd.DataFrame = table_field(CANDIDATES)
    paths: pd.DataFrame = table_field(PATHS)

    @property
    def frame(self) -> pd.DataFrame:
        """The table, by the name that every result has."""
        return self.table

    def snippet(self) -> str:
        """Python to paste into a training script: the recommended schedule, for `steps` steps.

        Raises:
            ArgumentError: It is a schedule of your own, or one that reacts to the loss: only you
                have its code.
        """
        return snippet(parse(self.call), self.lr, self.steps)

    def to_optuna(self, storage: Any = None) -> "Study":
        """Add each candidate at each horizon as a trial to the Optuna study `lrtune-comparison`.

        A trial has no `seed`: its value is the mean score over the seeds, and it failed if a run of
        any seed failed. Repeating it adds nothing twice.

        Args:
            storage: An Optuna storage or its URL; None for a study in memory.

        Raises:
            ArgumentError: The storage cannot be used.
        """
        # Nothing forbids two equal rows, so the place of each is part of its key.
        runs = [
            ExportedTrial(
                key=run_id(self.manifest, place, row.horizon, row.call, row.lr),
                lr=row.lr,
                schedule=row.schedule,
                call=row.call,
                steps=row.horizon,
                value=row.score,
                more={"value": "mean score over the seeds"},
            )
            for place, row in enumerate(self.candidates.itertuples())
        ]
        return add_to_optuna(runs, "lrtune-comparison", storage)

    def figure(self) -> "Figure":
        """Final loss of every schedule against the best, with intervals; ties in one colour."""
        return figures.ranking_figure(self.table)

    def rates_figure(self) -> "Figure":
        """Every schedule's rate over the run."""
        return figures.paths_figure(self.paths, self.table, "lr")

    def losses_figure(self) -> "Figure":
        """Losses over steps, the mean over the fresh seeds."""
        return figures.paths_figure(self.paths, self.table, "loss")

    def heat_figure(self) -> "Figure":
        """Best score of every schedule at every rate, on the shortest horizon."""
        return figures.heat_figure(self.candidates, self.table)

    def stability_figure(self) -> "Figure":
        """How the ranking changes with the horizon."""
        return figures.stability_figure(self.candidates, self.table, self.stability)


def snippet_or_none(result: ComparisonResult) -> str | None:
    """The snippet, or None for a schedule of the user's own: only they have its code."""
    try:
        return result.snippet()
    except LrtuneError:
        return None
