"""The result of a search."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from lrtune import figures
from lrtune.analysis.short_runs import rounded
from lrtune.errors import quantity
from lrtune.results.schema import CURVES, RATES, SPENDING, TRIED, table_field
from lrtune.results.serialization import fact_lines
from lrtune.results.trained import BestRun, Retrained, Trained
from lrtune.schedules import parse
from lrtune.schedules.snippets import snippet

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult(Trained):
    """The result of a search: a rate with its schedule, the best training, and the evidence.

    Attributes:
        lr: The recommended peak rate, for `schedule`: the rate to hand to the optimizer.
        schedule: The schedule that it goes with, as a call that `schedules.parse` reads.
        interval: With 90 % probability it holds the best peak for `steps` with that schedule.
        good_range: Peaks whose expected loss is within 5 % of the best one's.
        steps: The length of training that the answer is for, in optimizer updates.
        best: The best of the whole trainings; None where none was trained to its end.
        retrained: What to expect of a new training; None without `best`.
        because: Why this rate, in a sentence.
        confidence: What was trained to verify it.
        warnings: What counts against the answer, in sentences; empty for a sound one.
        notes: What a reader should know: grown grids, how the present setting compares.
        stopped: Why the search ended: budget, gain, rate only, time, interrupted.
        budget: The most that could be spent, in full trainings.
        cost: What was spent, validation included.
        scores: What the scores are: logs of losses, or shares of the fall.
        manifest: The task, the settings and the versions, as text.
        frame: One row per rate: `lr`, `stage`, `verdict` (good within `interval`, too low or high
            beside it, diverged), `schedule`, `steps`, `loss`, `runs`, `failed`.
        runs: One row per run: `run`, `stage`, `lr`, `schedule`, `seed`, `steps`, `until`,
            `outcome`, `start`, `train`, `loss`, `test`, `checkpoint`.
        curves: Training losses of all runs, thinned, and without what changes by itself in a loss
            that does: `run`, `step`, `loss`.
        spending: One row per stage: `stage`, `planned`, `spent`, in full trainings.
        floor: The number below which the losses cannot fall; None where it is unknown.
    """

    kind: ClassVar[str] = "search"
    optuna_study: ClassVar[str] = "lrtune-search"

    lr: float
    schedule: str
    interval: tuple[float, float]
    good_range: tuple[float, float]
    steps: int
    best: BestRun | None
    retrained: Retrained | None
    because: str
    confidence: str
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    stopped: str
    budget: float
    cost: float
    scores: str
    manifest: dict[str, str]
    frame: pd.DataFrame = table_field(RATES)
    runs: pd.DataFrame = table_field(TRIED)
    curves: pd.DataFrame = table_field(CURVES)
    spending: pd.DataFrame = table_field(SPENDING)
    floor: float | None = None

    def __repr__(self) -> str:
        """The answer, and what it rests on, in a few lines."""
        low, high = self.interval
        facts = {
            "warnings": " ".join(self.warnings),
            "90 % interval": f"{low:.3g} to {high:.3g}",
            "best training": self.best,
            "retrained": self.retrained,
            "cost": f"{self.cost:.2f} of at most {self.budget:g} full trainings",
            "reason": self.because,
        }
        answer = f"lr {self.lr:.3g} with {self.schedule}"
        return fact_lines(f"Search: {answer}, for {quantity(self.steps, 'step')}", facts)

    def snippet(self, schedule: str | None = None) -> str:
        """Python code of the recommended rate and schedule, to paste into a training script.

        Args:
            schedule: Another schedule, at the same peak; `self.schedule` when None.

        Raises:
            ArgumentError: There is no such schedule, or it does not take these arguments; or the
                recommended one reacts to the losses of batches, or is a function of your own and
                this result was read from a file, which keeps its name only.
        """
        wanted = parse(schedule) if schedule else self._recommended(self.schedule)
        return snippet(wanted, self.lr, self.steps, name=schedule or self.schedule)

    def scheduler(self, optimizer: Any) -> Any:
        """The recommended schedule as a scheduler of torch; give the optimizer `lr` before.

        Its `step()` is called after each update; `step(val_loss)` of a ReduceLROnPlateau as often
        as `snippet` says.

        Raises:
            ArgumentError: As of `snippet`.
        """
        from lrtune.schedules.torch_schedulers import to_torch  # noqa: PLC0415

        return to_torch(self._recommended(self.schedule), optimizer, self.steps)

    def figure(self) -> "Figure":
        """Loss over peak rate, one panel of it for each length; verdicts in colour."""
        return figures.rates_figure(self.frame, self.runs, self.lr, self.interval)

    def curves_figure(self) -> "Figure":
        """Training losses of all runs over steps, verdicts in colour."""
        return figures.curves_figure(self.curves, self.runs, self.frame, self.floor)


def printed_rate(rate: float) -> str:
    """A rate as it is printed.

    >>> printed_rate(0.012345)
    '0.0123'
    """
    return f"{rounded(rate):g}"
