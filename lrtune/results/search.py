"""The result of a search."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from lrtune import figures
from lrtune.analysis.curves import Outcome
from lrtune.analysis.rate_estimate import decays
from lrtune.results.optuna_export import ExportedTrial, add_to_optuna, run_id
from lrtune.results.schema import CHECKS, CURVES, RATES, SCORES, SPENDING, table_field
from lrtune.results.serialization import Serializable
from lrtune.schedules import parse
from lrtune.schedules.snippets import snippet

if TYPE_CHECKING:
    from optuna.study import Study
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False)
class SearchResult(Serializable):
    """The result of a search: a rate with its interval, a schedule, and the evidence.

    Attributes:
        lr: The learning rate that is best when it is kept to the end.
        interval: 90 % interval of the best rate.
        schedule: The recommended schedule, a name in `schedules.SCHEDULES`.
        peak: The peak rate for that schedule.
        because: Why this rate, in a sentence.
        notes: What a reader should know: grown grids, steps down.
        steps: The length of training that the answer is for, in optimizer updates.
        horizon: The length of the short runs.
        verified: Whether `lr` stayed stable in every run of the full length that was made with it:
            one from a budget of 2 on, one for each seed without a limit.
        frame: One row per rate: `lr`, `stage`, `verdict` (too low, good, high, diverged), `mean`
            score, `low` and `high` of its paired difference to the best, `tied`, `failed` runs.
        scores: One row per rate and seed: `lr`, `seed`, `outcome`, `start`, `train`, `val`,
            `score`.
        curves: One row per rate, seed and step of the short runs: `lr`, `seed`, `step`, `loss`.
        checks: One row per seed of each longer run: `lr`, `seed`, `outcome`, `short`, `long`,
            `passed`.
        manifest: The task, the settings and the versions, as text.
        confidence: How far the answer can be trusted, and what would make it surer.
        spending: With a budget, one row per stage: `stage`, `planned`, `spent`, in updates.
        floor: The number below which the losses cannot fall; None where it is unknown.
    """

    kind: ClassVar[str] = "search"

    lr: float
    interval: tuple[float, float]
    schedule: str
    peak: float
    because: str
    confidence: str
    notes: tuple[str, ...]
    steps: int
    horizon: int
    verified: bool
    manifest: dict[str, str]
    frame: pd.DataFrame = table_field(RATES)
    scores: pd.DataFrame = table_field(SCORES)
    curves: pd.DataFrame = table_field(CURVES)
    checks: pd.DataFrame = table_field(CHECKS)
    spending: pd.DataFrame = table_field(SPENDING)
    floor: float | None = None

    @property
    def check(self) -> str:
        """Whether the rate stayed stable at the full length: `held`, `not held`, `not tried`."""
        if self.verified:
            return "held"
        return "not held" if len(self.checks) else "not tried"

    def snippet(self, schedule: str | None = None) -> str:
        """Python code of a schedule for `steps` steps, to paste into a training script.

        The recommended schedule starts at `peak`. So does any other that decays; one that hardly
        leaves its peak, such as `constant`, starts at `lr`.

        Args:
            schedule: A name in `schedules.SCHEDULES`, or a call such as `cosine(floor=0.1)`;
                `self.schedule` when None.

        Raises:
            ArgumentError: There is no such schedule, or it does not take these arguments.
        """
        shape = parse(schedule or self.schedule)
        at_peak = schedule is None or decays(shape)
        return snippet(shape, self.peak if at_peak else self.lr, self.steps)

    def to_optuna(self, storage: Any = None) -> "Study":
        """Add the finished runs as trials to the Optuna study `lrtune-search`.

        The value of a short run is its score, that of a run of the full length its training loss.
        Repeating it adds nothing twice.

        Args:
            storage: An Optuna storage or its URL; None for a study in memory.

        Raises:
            ArgumentError: The storage cannot be used.
        """
        losses = dict(iter(self.curves.groupby(["lr", "seed"])))

        def trial(row: Any, steps: int, value: float, *more: str, **others: Any) -> ExportedTrial:
            return ExportedTrial(
                key=run_id(self.manifest, steps, row.lr, row.seed, *more),
                lr=row.lr,
                schedule="constant",
                call="constant()",
                seed=row.seed,
                steps=steps,
                outcome=row.outcome,
                value=value,
                **others,
            )

        # A run that was stopped early, far behind, has no final loss that a trial could hold.
        short = [
            trial(
                row,
                self.horizon,
                row.score,
                losses=losses[row.lr, row.seed].set_index("step")["loss"].to_dict(),
                more={"value": "training loss" if math.isnan(row.val) else "validation loss"},
            )
            for row in self.scores[self.scores["outcome"] != Outcome.RETIRED.name].itertuples()
        ]
        full = [
            trial(row, self.steps, row.long, "full length", more={"value": "training loss"})
            for row in self.checks.itertuples()
        ]
        return add_to_optuna([*short, *full], "lrtune-search", storage)

    def figure(self) -> "Figure":
        """Score over rate, with every seed; verdicts in colour; the interval shaded."""
        return figures.rates_figure(self.frame, self.scores, self.lr, self.interval)

    def curves_figure(self) -> "Figure":
        """Losses of the short runs over steps, the mean over the seeds, verdicts in colour."""
        return figures.curves_figure(self.curves, self.frame, self.floor)
