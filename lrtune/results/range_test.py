"""The result of an LR range test."""

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from lrtune import figures
from lrtune.analysis.curves import end_level
from lrtune.analysis.sweep_rules import Suggestion
from lrtune.errors import ArgumentError
from lrtune.results.optuna_export import ExportedTrial, add_to_optuna, run_id
from lrtune.results.schema import ANSWERS, STOPS, SWEEP, VARIED, VARIED_SWEEPS, table_field
from lrtune.results.serialization import Serializable, fact_lines

if TYPE_CHECKING:
    from optuna.study import Study
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False, repr=False)
class RangeTestResult(Serializable):
    """The result of an LR range test: a suggested rate, and the sweep of each seed behind it.

    Attributes:
        suggestion: The ensemble of all rules, with its interval and evidence; None where the loss
            fell clear of its noise in too few sweeps, so that no rate is shown to train.
        warnings: What counts against the suggestion, in sentences; empty for a sound one.
        notes: What a reader should know: where each sweep ended.
        frame: One row per seed and rate: `seed`, `lr`, `loss` (right after the update at that
            rate), `untrained` (the untrained model's loss on that batch), `smooth`; without what
            changes by itself in a loss that does.
        stops: One row per seed: `seed`, `outcome` (a name in `Outcome`), `lr` (the last
            rate), `edge` (the last rate at which the loss had not risen again).
        answers: One row per rule and seed: `rule`, `seed`, `lr`, `because`.
        manifest: The task, the settings and the versions, as text.
        floor: The number below which the losses cannot fall; None where it is unknown.
        varied: One row per setting and value that was swept, the task's own included: `setting`,
            `value`, `own`, `lr` (suggested) with `low` and `high`, `edge`, `loss` (the lowest of
            its sweeps), `difference` (to the lowest of the setting), `verdict`, `updates`.
        varied_sweeps: Their sweeps: `setting`, `value`, and the columns of `frame`.
    """

    kind: ClassVar[str] = "range-test"

    suggestion: Suggestion | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    manifest: dict[str, str]
    frame: pd.DataFrame = table_field(SWEEP)
    stops: pd.DataFrame = table_field(STOPS)
    answers: pd.DataFrame = table_field(ANSWERS)
    floor: float | None = None
    varied: pd.DataFrame = table_field(VARIED, optional=True)
    varied_sweeps: pd.DataFrame = table_field(VARIED_SWEEPS, optional=True)

    def __repr__(self) -> str:
        """The suggested rate and the reason, in a few lines."""
        told, facts, headline = self.suggestion, {"warnings": " ".join(self.warnings)}, "no rate"
        if told is not None:
            headline = f"begin near lr {told.lr:.3g} with constant"
            facts["nine of ten answers"] = f"{told.interval[0]:.3g} to {told.interval[1]:.3g}"
            facts["reason"] = told.because
        text = fact_lines(f"Range test: {headline}", facts | {"notes": "; ".join(self.notes)})
        if self.varied.empty:
            return text
        few = self.varied[["setting", "value", "lr", "loss", "difference", "verdict"]]
        table = few.to_string(index=False, float_format="{:.3g}".format, na_rep="")
        return text + "\n" + textwrap.indent(table, "  ")

    def to_optuna(self, storage: Any = None) -> "Study":
        """Add each sweep as a trial to the Optuna study `lrtune-range-test`.

        Its `lr` is the highest rate of the sweep. Repeating it adds nothing twice.

        Args:
            storage: An Optuna storage or its URL; None for a study in memory.

        Raises:
            ArgumentError: The storage cannot be used.
        """
        sweeps = dict(iter(self.frame.groupby("seed")))
        runs = [
            ExportedTrial(
                key=run_id(self.manifest, stop.seed),
                lr=sweeps[stop.seed]["lr"].max(),
                schedule="growth",
                call="growth",
                seed=stop.seed,
                steps=len(sweeps[stop.seed]),
                outcome=stop.outcome,
                value=end_level(sweeps[stop.seed]["loss"].to_numpy()),
                losses=dict(enumerate(sweeps[stop.seed]["loss"])),
                more={"value": "training loss"},
            )
            for stop in self.stops.itertuples()
            if stop.seed in sweeps  # a file may lack the rows of a seed
        ]
        return add_to_optuna(runs, "lrtune-range-test", storage)

    def figure(self) -> "Figure":
        """Loss over rate: raw thin, smoothed bold, the rules marked, divergence shaded."""
        tables = self.frame, self.answers, self.stops
        return figures.sweep_figure(*tables, self.suggestion, self.floor)

    def varied_figure(self, setting: str) -> "Figure":
        """The sweeps of all values of a setting in one chart, with the rate that each suggests.

        Raises:
            ArgumentError: This setting was not varied.
        """
        table, sweeps = (
            one[[name == setting for name in one["setting"]]]
            for one in (self.varied, self.varied_sweeps)
        )
        if table.empty:
            known = ", ".join(self.varied["setting"].unique()) or "none was"
            raise ArgumentError(f"{setting!r} was not varied ({known}). Pass vary={{...}}.")
        return figures.varied_figure(table, sweeps, self.floor)
