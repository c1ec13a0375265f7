"""What the sweep of one seed shows: its losses beside those of its control, and how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lrtune.analysis.curves import Floats, drifts
from lrtune.analysis.sweep_rules import RULES, Suggestion, Sweep, answer, ensemble, read_sweep
from lrtune.results import Trace
from lrtune.task.task import Task


@dataclass(frozen=True, eq=False)
class Swept:
    """The sweep of one seed: its losses, what can be read of them, and how it ended."""

    frame: pd.DataFrame  # lr, loss, untrained, smooth
    curve: Sweep | None
    outcome: str

    @classmethod
    def of(cls, trace: Trace, sweep: str, twin: Floats, task: Task, batches: int = 1) -> "Swept":
        """Pair each rate with the loss right after its update, and with the control's loss.

        Both are taken without what changes by itself.

        Args:
            trace: What was recorded.
            sweep: The name of the sweep's run.
            twin: The losses of the control.
            task: What was trained.
            batches: How many batches made an update; their mean loss is that of the update.
        """
        step = task.loss_kind.resolution
        swept = trace.frame.groupby("run", sort=False).get_group(sweep)
        rates, losses = swept["lr"].to_numpy()[batches - 1 :: batches], swept["loss"].to_numpy()
        known = twin
        # What begins later than a task has tried shows in the control.
        drift = task.drift_within(len(twin)) if drifts(twin, step) else task.drift
        if drift is not None:
            losses, known = (drift.without(one, twin=twin) for one in (losses, twin))
        known = means_of(known[: len(losses)], batches)[1:]
        losses = means_of(losses, batches)[1:]
        rates = rates[: max(len(losses), 1)]
        if not len(losses):  # not even the untrained model has a finite loss on this seed's batch
            rates, losses = swept["lr"].to_numpy()[:1], np.array([np.nan])
        untrained, smooth = np.full((2, len(losses)), np.nan)
        untrained[: len(known)] = known
        if curve := read_sweep(rates, losses, untrained, step):
            smooth[: len(curve.curve)] = curve.curve
        columns = {"lr": rates, "loss": losses, "untrained": untrained, "smooth": smooth}
        outcome = trace.runs.set_index("run").loc[sweep, "outcome"]
        return cls(pd.DataFrame(columns), curve, str(outcome))

    @property
    def falls(self) -> bool:
        """Whether its loss fell clear of its noise."""
        return self.curve is not None and self.curve.falls

    @property
    def lowest(self) -> float:
        """The lowest smoothed loss; NaN where none can be read."""
        return np.nan if self.curve is None else float(self.curve.curve[self.curve.bottom])

    @property
    def stop(self) -> tuple[str, float, float]:
        """Its outcome, its last rate, and the last one at which the loss had not risen again."""
        edge = self.curve.lr[self.curve.edge] if self.curve else np.nan
        return self.outcome, self.frame["lr"].iloc[-1], edge

    def answer(self, rule: str) -> Suggestion:
        """What a rule suggests."""
        return answer(rule, self.curve, float(self.frame["lr"].iloc[0]))


@np.errstate(over="ignore", invalid="ignore")
def means_of(losses: Floats, count: int) -> Floats:
    """The mean of each `count` losses; of those that are left at the end, a mean of their own.

    >>> means_of(np.array([1.0, 3.0, 5.0]), 2).tolist()
    [2.0, 5.0]
    """
    if count == 1 or not len(losses):
        return losses
    starts = np.arange(0, len(losses), count)
    sums: Floats = np.add.reduceat(losses, starts)
    return sums / np.diff([*starts, len(losses)])


def suggestion_of(swept: Mapping[int, Swept]) -> Suggestion | None:
    """The ensemble of the rules; None where most sweeps have seen nothing fall.

    Then the medians over the seeds rest on noise.
    """
    if 2 * sum(one.falls for one in swept.values()) < len(swept):
        return None
    return ensemble({rule: [one.answer(rule) for one in swept.values()] for rule in RULES})
