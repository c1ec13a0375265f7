"""The result of a search."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from lrtune import figures
from lrtune.analysis.short_runs import rounded
from lrtune.errors import ArgumentError, CheckpointError
from lrtune.results.optuna_export import ExportedTrial, add_to_optuna, run_id
from lrtune.results.schema import CURVES, RATES, SPENDING, TRIED, table_field
from lrtune.results.serialization import Serializable
from lrtune.schedules import parse
from lrtune.schedules.snippets import snippet

if TYPE_CHECKING:
    from optuna.study import Study
    from plotly.graph_objects import Figure

Load = Callable[[str], dict[str, Any]]
"""Takes the name of a checkpoint, and returns it."""


@dataclass(frozen=True)
class BestRun:
    """The whole training that was kept.

    Attributes:
        lr: Its peak rate.
        seed: Its seed.
        selected: The loss by which it was chosen: on the half of the validation data that selects;
            without validation data the training loss of its last fifth.
        loss: The stated loss, on the half that selected nothing; NaN where there is none.
        stderr: The sampling error of `loss`; NaN where there is none.
        samples: How many validation samples `loss` was measured on.
        of: How many validation samples there are.
        checkpoint: The file that holds its weights, or a name in memory; empty without one.
    """

    lr: float
    seed: int
    selected: float
    loss: float
    stderr: float
    samples: int
    of: int
    checkpoint: str


@dataclass(frozen=True)
class Retrained:
    """What a new training with the recommended settings and another seed ends at.

    Attributes:
        expected: Its expected loss, the mean of the whole trainings at nearly that peak.
        low: Where the 90 % interval of one such training begins.
        high: Where it ends.
        runs: The number of trainings that this rests on.
    """

    expected: float
    low: float
    high: float
    runs: int


@dataclass(frozen=True, eq=False)
class SearchResult(Serializable):
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
        notes: What a reader should know: grown grids, limits, rates that failed.
        stopped: Why the search ended: budget, gain, rate only, time, interrupted.
        budget: The most that could be spent, in full trainings.
        cost: What was spent, validation included.
        scores: What the scores are: logs of losses, or shares of the fall.
        manifest: The task, the settings and the versions, as text.
        frame: One row per rate: `lr`, `stage`, `verdict` (too low, good, high, diverged),
            `schedule`, `steps`, `loss`, `runs`, `failed`.
        runs: One row per run: `run`, `stage`, `lr`, `schedule`, `seed`, `steps`, `until`,
            `outcome`, `start`, `train`, `loss`, `test`, `checkpoint`.
        curves: Training losses of all runs, thinned: `run`, `step`, `loss`.
        spending: One row per stage: `stage`, `planned`, `spent`, in full trainings.
        floor: The number below which the losses cannot fall; None where it is unknown.
    """

    kind: ClassVar[str] = "search"

    lr: float
    schedule: str
    interval: tuple[float, float]
    good_range: tuple[float, float]
    steps: int
    best: BestRun | None
    retrained: Retrained | None
    because: str
    confidence: str
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

    # --- what was trained

    def attach(self, load: Load, make_model: Callable[[], Any]) -> None:
        """Let `model` and `state_dict` work; neither is saved in JSON."""
        object.__setattr__(self, "_load", load)
        object.__setattr__(self, "_make_model", make_model)

    def checkpoint(self) -> dict[str, Any]:
        """The best training's checkpoint: {model, optimizer, scheduler, ema, lr, schedule, step}.

        Raises:
            ArgumentError: No whole training was made.
            CheckpointError: It is not at hand.
        """
        if self.best is None:
            raise ArgumentError(
                "no whole training was made, so there is no model. Give a larger budget: "
                "`lrtune.plan` shows what it buys."
            )
        name, load = self.best.checkpoint, getattr(self, "_load", None)
        if load is not None and name:
            found: dict[str, Any] = load(name)
            return found
        if not name or not Path(name).is_file():
            raise CheckpointError(
                f"the weights of the best training are not at hand ({name or 'not saved'}). They "
                "are kept in memory, or in the folder of a study; `found.save(path)` writes them."
            )
        import torch  # noqa: PLC0415

        loaded: dict[str, Any] = torch.load(name, map_location="cpu", weights_only=True)
        return loaded

    def state_dict(self) -> dict[str, Any]:
        """A copy of the best training's weights and buffers, on the CPU; for `load_state_dict`."""
        return copy.deepcopy(dict(self.checkpoint()["model"]))

    def model(self, task: Any = None) -> Any:
        """A new module with the best training's weights, on the CPU and in eval mode.

        Args:
            task: The task, where this result was read from JSON.
        """
        weights = self.state_dict()
        make = getattr(self, "_make_model", None) if task is None else task.new_model
        if make is None:
            raise ArgumentError("a result that was read from a file needs the task: model(task).")
        made = make()
        made.load_state_dict(weights)
        return made.cpu().eval()

    def save(self, path: str | Path) -> Path:
        """Write the best training's checkpoint; `torch.load(path, weights_only=True)` reads it."""
        import torch  # noqa: PLC0415

        wanted = ("model", "optimizer", "scheduler", "ema", "lr", "schedule", "step")
        found = self.checkpoint()
        torch.save({name: found[name] for name in wanted}, path)
        return Path(path)

    # --- how to use it

    def snippet(self, schedule: str | None = None) -> str:
        """Python code of the recommended rate and schedule, to paste into a training script.

        Args:
            schedule: Another schedule, at the same peak; `self.schedule` when None.

        Raises:
            ArgumentError: There is no such schedule, or it does not take these arguments.
        """
        return snippet(parse(schedule or self.schedule), self.lr, self.steps)

    def scheduler(self, optimizer: Any) -> Any:
        """The recommended schedule as a scheduler of torch; give the optimizer `lr` before."""
        from lrtune.schedules.torch_schedulers import to_torch  # noqa: PLC0415

        return to_torch(parse(self.schedule), optimizer, self.steps)

    def to_optuna(self, storage: Any = None) -> "Study":
        """Add the finished runs as trials to the Optuna study `lrtune-search`.

        The value of a trial is its validation loss, or without one its training loss. Repeating it
        adds nothing twice.

        Args:
            storage: An Optuna storage or its URL; None for a study in memory.

        Raises:
            ArgumentError: The storage cannot be used.
        """
        curves = {
            name: some.set_index("step")["loss"].to_dict()
            for name, some in self.curves.groupby("run")
        }
        trials = [
            ExportedTrial(
                key=run_id(self.manifest, row.steps, row.until, row.lr, row.seed, row.schedule),
                lr=row.lr,
                schedule=row.schedule,
                call=row.schedule,
                seed=row.seed,
                steps=row.until,
                outcome=row.outcome,
                value=row.train if math.isnan(row.loss) else row.loss,
                losses=curves.get(row.run, {}),
                more={"value": "training loss" if math.isnan(row.loss) else "validation loss"},
            )
            for row in self.runs.itertuples()
            if row.stage != "before"
        ]
        return add_to_optuna(trials, "lrtune-search", storage)

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
