"""The result of an LR range test."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from lrtune import figures
from lrtune.analysis.sweep_rules import Suggestion
from lrtune.results.schema import ANSWERS, STOPS, SWEEP
from lrtune.results.serialization import Serializable, table_field

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False)
class RangeTestResult(Serializable):
    """The result of an LR range test: a suggested rate, and the sweeps behind it.

    Attributes:
        suggestion: The ensemble of all rules, with its interval and evidence.
        notes: What a reader should know: where each sweep ended, whether the rules disagree.
        frame: One row per seed and rate: `seed`, `lr`, `loss` (right after the update at that
            rate), `untrained` (the untrained model's loss on that batch), `smooth`.
        stops: One row per seed: `seed`, `outcome` (a name in `Outcome`), `lr` (the last
            rate), `edge` (the last rate at which the loss had not risen again).
        answers: One row per rule and seed: `rule`, `seed`, `lr`, `because`.
        manifest: The task, the settings and the versions, as text.
    """

    kind: ClassVar[str] = "range-test"

    suggestion: Suggestion
    notes: tuple[str, ...]
    manifest: dict[str, str]
    frame: pd.DataFrame = table_field(SWEEP)
    stops: pd.DataFrame = table_field(STOPS)
    answers: pd.DataFrame = table_field(ANSWERS)

    def figure(self) -> "Figure":
        """Loss over rate: raw thin, smoothed bold, the rules marked, divergence shaded."""
        return figures.sweep_figure(self.frame, self.answers, self.stops, self.suggestion)
