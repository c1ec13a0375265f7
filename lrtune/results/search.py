"""The result of a search."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from lrtune import figures
from lrtune.analysis.short_runs import rounded
from lrtune.errors import ArgumentError, quantity, shown, warn_about
from lrtune.results.schema import CURVES, RATES, SPENDING, TRIED, table_field
from lrtune.results.serialization import fact_lines
from lrtune.results.trained import BestRun, Retrained, Trained
from lrtune.schedules import parse
from lrtune.schedules.snippets import snippet

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ROUNDED = 0.01
"""By convention: a rate that was typed in differs by less from the one that was printed."""


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
        if schedule is not None and not isinstance(schedule, str):
            raise ArgumentError(
                f"schedule is {shown(schedule)}; expected the text of one, such as 'cosine' or "
                "'wsd(0.2, 0.1)'. Leave it out for the recommended one."
            )
        wanted = parse(schedule) if schedule else self._recommended(self.schedule)
        return snippet(wanted, self.lr, self.steps, name=schedule or self.schedule)

    def scheduler(self, optimizer: Any) -> Any:
        """The recommended schedule as a scheduler of torch; give the optimizer `lr` before.

        Its `step()` is called after each update; `step(val_loss)` of a ReduceLROnPlateau as often
        as `snippet` says. An `AnswerWarning` says where the optimizer has another rate than `lr`,
        or a scheduler already.

        Raises:
            ArgumentError: As of `snippet`; or `optimizer` is none.
        """
        from lrtune.schedules.torch_schedulers import to_torch  # noqa: PLC0415

        warn_about(list(self._misfits(optimizer)))
        return to_torch(self._recommended(self.schedule), optimizer, self.steps)

    def _misfits(self, optimizer: Any) -> Iterator[str]:
        """Why a scheduler would give an optimizer other rates than those that were recommended."""
        groups = getattr(optimizer, "param_groups", None)
        if not groups:
            raise ArgumentError(
                f"optimizer is {shown(optimizer)}; expected an optimizer of torch. Make one with "
                f"lr={printed_rate(self.lr)}."
            )
        rates = [float(group["lr"]) for group in groups]
        if not any(math.isclose(rate, self.lr, rel_tol=ROUNDED) for rate in rates):
            peaks = ", ".join(f"{rate:.3g}" for rate in rates)
            yield (
                f"The optimizer has lr {peaks}, and a scheduler multiplies that; expected the "
                f"recommended rate. Make the optimizer with lr={printed_rate(self.lr)}."
            )
        if any("initial_lr" in group for group in groups):
            yield (
                "The optimizer has a scheduler already, and two of them change each other's rates. "
                "Make a new optimizer, and one scheduler."
            )

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
