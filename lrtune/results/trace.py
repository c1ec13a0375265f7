"""The trace of a cohort: losses, runs, validations and costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from lrtune import figures
from lrtune.results.schema import COSTS, RUNS, TRACE, VALIDATIONS
from lrtune.results.serialization import Serializable, table_field

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Cost:
    """The cost of a call to an evaluator.

    Attributes:
        updates: Optimizer updates made, those of repeated and discarded training included.
        val_samples: Samples validated.
        seconds: Time taken.
    """

    updates: int
    val_samples: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Trace(Serializable):
    """The tables that a cohort recorded.

    Attributes:
        steps: The horizon.
        frame: One row per run and recorded step: `run`, `step`, `lr`, `loss`, `batch`.
        runs: One row per run: `run`, `lr` (peak), `schedule`, `seed`, `outcome`, `steps`.
        validations: One row per run and validation: `run`, `step`, `loss` (validation).
        costs: One row per run: `run`, `updates`, `val_samples`, `seconds`, as this call made them;
            empty where what trained the runs does not count them.
    """

    kind: ClassVar[str] = "trace"

    steps: int
    frame: pd.DataFrame = table_field(TRACE)
    runs: pd.DataFrame = table_field(RUNS)
    validations: pd.DataFrame = table_field(VALIDATIONS)
    costs: pd.DataFrame = table_field(COSTS, optional=True)

    @property
    def cost(self) -> Cost:
        """The cost of all runs."""
        costs = self.costs
        updates, val_samples = int(costs["updates"].sum()), int(costs["val_samples"].sum())
        return Cost(updates, val_samples, float(costs["seconds"].sum()))

    def select(self, names: Sequence[str]) -> "Trace":
        """The rows of these runs, in this order."""
        if list(self.runs["run"]) == list(names):
            return self
        order = {name: index for index, name in enumerate(names)}

        def selected(frame: pd.DataFrame) -> pd.DataFrame:
            place = frame["run"].map(order).astype("float64")
            return frame.loc[place.dropna().sort_values(kind="stable").index].reset_index(drop=True)

        frames = (self.frame, self.runs, self.validations, self.costs)
        return Trace(self.steps, *map(selected, frames))

    def figure(self) -> "Figure":
        """Losses over steps, one line per run."""
        return figures.trace_figure(self.frame)


def concat_traces(traces: Sequence[Trace]) -> Trace:
    """Concatenate traces of different runs over one horizon."""
    return Trace(
        steps=traces[0].steps,
        frame=pd.concat([trace.frame for trace in traces], ignore_index=True),
        runs=pd.concat([trace.runs for trace in traces], ignore_index=True),
        validations=pd.concat([trace.validations for trace in traces], ignore_index=True),
        costs=pd.concat([trace.costs for trace in traces], ignore_index=True),
    )
