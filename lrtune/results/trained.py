"""What results of trained runs share: the best of them with its weights, and trials of Optuna."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from lrtune.errors import ArgumentError, CheckpointError, LrtuneError, quantity
from lrtune.results.optuna_export import ExportedTrial, add_to_optuna, run_id
from lrtune.results.serialization import Serializable
from lrtune.schedules import ReduceOnPlateau, Schedule, parse
from lrtune.schedules.registry import schedule_text

if TYPE_CHECKING:
    from optuna.study import Study

Load = Callable[[], dict[str, Any]]
"""Returns a checkpoint."""


@dataclass(frozen=True)
class BestRun:
    """The whole training that was kept.

    Attributes:
        lr: Its peak rate.
        schedule: Its schedule, as a call that `schedules.parse` reads.
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
    schedule: str
    seed: int
    selected: float
    loss: float
    stderr: float
    samples: int
    of: int
    checkpoint: str

    def __str__(self) -> str:
        """Its setting and its loss, rounded."""
        setting = f"lr {self.lr:.3g} with {self.schedule}, seed {self.seed}"
        if not math.isfinite(self.loss):
            return f"{setting}: chosen by a loss of {self.selected:.3g}; none is stated"
        error = f" (standard error {self.stderr:.2g})" if math.isfinite(self.stderr) else ""
        samples = f"{self.samples:,} of {self.of:,} validation samples"
        return f"{setting}: loss {self.loss:.3g}{error} on {samples}"


@dataclass(frozen=True)
class Retrained:
    """What a new training with the recommended settings and another seed ends at.

    Its loss is meant on the part of the data on which those of the search are stated: on other
    data the error of that part comes on top.

    Attributes:
        expected: Its loss, the middle of what is expected.
        low: Where the 90 % interval of one such training begins.
        high: Where it ends.
        runs: The number of trainings that this rests on.
        near: Whether they were at nearly the recommended peak; else the way there is estimated.
    """

    expected: float
    low: float
    high: float
    runs: int
    near: bool = True

    def __post_init__(self) -> None:
        """Turn numbers of numpy into Python's."""
        for name in ("expected", "low", "high"):
            object.__setattr__(self, name, float(getattr(self, name)))

    def __str__(self) -> str:
        """The loss to expect, rounded, with its interval."""
        between = f"90 % interval {self.low:.3g} to {self.high:.3g}"
        runs, where = (
            quantity(self.runs, "training"),
            "nearly this rate" if self.near else "other rates",
        )
        return f"a loss of {self.expected:.3g} ({between}), estimated from {runs} at {where}"


class Trained(Serializable):
    """A result that holds trained runs, and hands out the best of them.

    Attributes:
        optuna_study: The name of the Optuna study that `to_optuna` adds to.
        best: The best whole training; None where none was trained to its end.
        lr: The recommended peak rate.
        steps: The length of training that it is for.
        manifest: The task, the settings and the versions, as text.
        runs: One row per run: columns `TRIED`.
        curves: Their training losses, thinned: columns `CURVES`.
    """

    optuna_study: ClassVar[str]

    best: BestRun | None
    lr: float
    steps: int
    manifest: dict[str, str]
    runs: pd.DataFrame
    curves: pd.DataFrame

    def attach(self, load: Load, task: Any) -> None:
        """Give the result what `model` and `state_dict` need, which JSON does not hold."""
        object.__setattr__(self, "_load", load)
        object.__setattr__(self, "_task", task)

    def name_file(self, file: str) -> None:
        """Note the file of the best training's checkpoint."""
        assert self.best is not None, "there is a checkpoint of a training only"
        object.__setattr__(self, "best", replace(self.best, checkpoint=file))

    def attach_like(self, other: "Trained") -> None:
        """The same, for a best training that is that of another result."""
        held = vars(other)
        if "_load" in held:
            self.attach(held["_load"], held["_task"])
        if "_schedule" in held:
            self.keep_schedule(held["_schedule"])

    def keep_schedule(self, schedule: object) -> None:
        """Keep the schedule itself, which may be a function of the user's own; not in JSON."""
        object.__setattr__(self, "_schedule", schedule)

    def _recommended(self, text: str) -> Schedule | ReduceOnPlateau:
        """The schedule of this text, the recommended one, which torch has as well.

        Raises:
            ArgumentError: It reacts to the losses of batches; or it is a function of the user's
                own, and this result was read from a file.
        """
        shape: object = vars(self).get("_schedule")
        if shape is None or schedule_text(shape) != text:
            try:
                shape = parse(text)
            except LrtuneError:
                shape = None
        if isinstance(shape, Schedule):
            return shape
        if isinstance(shape, ReduceOnPlateau) and shape.on == "val":
            return shape
        if shape is not None:
            raise ArgumentError(
                f"the schedule {text} reacts to the loss of each batch, and torch has no such "
                "scheduler. Call its `start(steps)` and `next(state, loss)` in your training loop."
            )
        raise ArgumentError(
            f"the schedule {text!r} is a function of your own, and a file keeps its name only. "
            "Give torch the function, LambdaLR(optimizer, lambda step: mine(min(step, "
            f"{self.steps - 1}) / {self.steps})) with lr={self.lr:g}, or print "
            f"lrtune.schedules.snippet(mine, lr={self.lr:g}, steps={self.steps})."
        )

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
            found: dict[str, Any] = load()
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
        """A copy of the best training's weights and buffers, on the CPU; for `load_state_dict`.

        Where they do not make a new model the trained one, a warning says what is missing.
        """
        found = self.checkpoint()
        self._warn_of_missing_state(found)
        return copy.deepcopy(dict(found["model"]))

    def model(self, task: Any = None) -> Any:
        """A new module that is what the best training left, on the CPU and in eval mode.

        Besides weights and buffers it has the other attributes that training has changed, such as
        a counter. Where its loss is not that of the training, a warning says so.

        Args:
            task: The task, where this result was read from JSON.
        """
        found = self.checkpoint()
        task = vars(self).get("_task") if task is None else task
        if task is None:
            raise ArgumentError("a result that was read from a file needs the task: model(task).")
        return task.trained_model(found)

    def save(self, path: str | Path) -> Path:
        """Write the best training's checkpoint; `torch.load(path, weights_only=True)` reads it.

        It warns as `state_dict` does.
        """
        import torch  # noqa: PLC0415

        wanted = ("model", "optimizer", "scheduler", "ema", "lr", "schedule", "step")
        found = self.checkpoint()
        self._warn_of_missing_state(found)
        torch.save({name: found[name] for name in wanted}, path)
        return Path(path)

    def _warn_of_missing_state(self, found: dict[str, Any]) -> None:
        task = vars(self).get("_task")
        if task is not None:
            task.warn_of_missing_state(found)

    def to_optuna(self, storage: Any = None) -> "Study":
        """Add the runs as trials to the Optuna study `lrtune-search`, or `lrtune-comparison`.

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
        return add_to_optuna(trials, self.optuna_study, storage)
