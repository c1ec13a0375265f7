"""Checkpoints: everything that training has changed in one run, as plain data on the CPU.

`torch.load(weights_only=True)` reads a saved checkpoint, so nothing in it is ever executed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import SGD

from lrtune.errors import ArgumentError, CheckpointError
from lrtune.results.runs import Run
from lrtune.schedules import ReduceOnPlateau, Schedule
from lrtune.schedules.torch_schedulers import set_group_momentum, to_torch
from lrtune.task.value_texts import plain_repr

Checkpoint = dict[str, Any]
"""The state of one run after `step` updates:

- `model`, `optimizer`, `loss`: what `load_state_dict` takes; `loss` is empty if it is no module.
  The optimizer's groups have the rate and the momentum of the next update.
- `train_weights`: the parameters that training goes on with, where the optimizer validates with
  others (schedule-free), which `model` holds; else empty. `optimizer.train()` gives them up to
  rounding.
- `scheduler`: what `load_state_dict` of `schedules.to_torch(...)` takes; empty for a schedule that
  reacts to the losses of batches.
- `ema`: None.
- `buffers`, `attributes`: of model and loss, what is no part of a `state_dict`: buffers that are
  not persistent, and other attributes that training has changed, such as a counter.
- `optimizer_attributes`: digests of what the optimizer holds besides its `state_dict`, by name.
- `lr` (peak), `schedule` (text), `seed`, `step`, `steps` (the horizon).
- `losses`: of every step so far, float64. `batches`: the digest of every batch so far, int64.
- `first_loss`: at the end of a run, the loss of its first batch in eval mode, by which a model that
  is handed out is recognised; else NaN.
- `val_losses`: the validation losses that the schedule has reacted to, float64.
"""

FIELDS: dict[str, type] = {
    "model": dict, "optimizer": dict, "loss": dict, "train_weights": dict, "scheduler": dict,
    "ema": type(None),
    "buffers": dict, "attributes": dict, "lr": float, "schedule": str, "seed": int, "step": int,
    "steps": int, "losses": Tensor, "batches": Tensor, "val_losses": Tensor,
    "first_loss": float, "optimizer_attributes": dict,
}  # fmt: skip
"""The fields of a checkpoint, and the type of each."""


def add_peaks(optimizer: Any, peaks: Sequence[float]) -> None:
    """Note the peak rate of each group in the state of an optimizer, as torch's schedulers do."""
    groups = optimizer.get("param_groups", []) if isinstance(optimizer, dict) else []
    if len(groups) != len(peaks) or not all("lr" in group for group in groups):
        raise CheckpointError("the state_dict of the optimizer has not the param_groups it should.")
    for group, peak in zip(groups, peaks, strict=True):
        tensor = isinstance(group["lr"], Tensor)
        group["initial_lr"] = torch.full_like(group["lr"], peak) if tensor else peak


def complete(
    saved: Checkpoint,
    run: Run,
    *,
    steps: int,
    losses: Sequence[float],
    batches: Sequence[int],
    val_losses: Sequence[float] = (),
) -> Checkpoint:
    """Return what an engine has saved of a run, with all other fields of a checkpoint."""
    step = len(batches)
    _add_schedule(saved, run, step, steps, val_losses)
    return saved | {
        "ema": None,
        "lr": run.lr,
        "schedule": plain_repr(run.schedule),
        "seed": run.seed,
        "step": step,
        "steps": steps,
        "losses": torch.tensor(losses, dtype=torch.float64),
        "batches": torch.tensor(batches, dtype=torch.int64),
        "val_losses": torch.tensor(val_losses, dtype=torch.float64),
    }


def _add_schedule(
    saved: Checkpoint, run: Run, step: int, steps: int, val_losses: Sequence[float]
) -> None:
    """Add the scheduler as it is after `step` updates, and set the optimizer's rates accordingly.

    `add_peaks` has noted the peak rates.
    """
    saved["scheduler"] = {}
    shape = run.schedule
    watches = isinstance(shape, ReduceOnPlateau) and shape.on == "val"
    if not (watches or isinstance(shape, Schedule)):
        return
    groups = saved["optimizer"]["param_groups"]
    peaks = [float(group["initial_lr"]) for group in groups]
    # A dummy with these peaks, because making a scheduler changes its optimizer.
    dummy = SGD([{"params": [torch.zeros(1)], "lr": peak} for peak in peaks])
    scheduler = to_torch(cast("Any", shape), dummy, steps)
    if step:
        dummy.step()
    if watches:
        for loss in val_losses:
            scheduler.step(loss)
    elif step:
        # As if it had been stepped so often; the rate depends on the number of the step alone.
        scheduler.last_epoch, scheduler._step_count = step - 1, step  # noqa: SLF001
        scheduler.step()
    saved["scheduler"] = scheduler.state_dict()
    for group, now in zip(groups, dummy.param_groups, strict=True):
        tensor = isinstance(group["lr"], Tensor)
        group["lr"] = torch.full_like(group["lr"], now["lr"]) if tensor else now["lr"]
        if isinstance(shape, Schedule) and shape.momentum is not None:
            set_group_momentum(group, now["momentum"])


def check_checkpoint(saved: object) -> Checkpoint:
    """Return a checkpoint as it is.

    Raises:
        CheckpointError: It is none: a field is missing, or has another type or length.
    """
    if not isinstance(saved, dict):
        raise CheckpointError(f"expected the dict of a checkpoint, got a {type(saved).__name__}.")
    for name, kind in FIELDS.items():
        if not isinstance(saved.get(name, ...), kind):
            raise CheckpointError(f"this is no checkpoint: its field {name!r} is missing or odd.")
    step, losses, batches = saved["step"], saved["losses"], saved["batches"]
    val_losses = saved["val_losses"]
    if not (
        0 <= step <= saved["steps"]
        and losses.dtype == torch.float64
        and batches.dtype == torch.int64
        and batches.shape == (step,)
        and losses.ndim == 1
        and len(losses) <= step
        and val_losses.dtype == torch.float64
        and val_losses.ndim == 1
        and len(val_losses) <= step
    ):
        raise CheckpointError("this is no checkpoint: its losses or batches do not fit its step.")
    return saved


def resume_point(
    runs: Sequence[Run], steps: int, resume: Mapping[str, Checkpoint]
) -> tuple[int, dict[int, list[int]]]:
    """Return the step of all checkpoints, and the digests of each seed's batches up to it.

    Raises:
        ArgumentError: Not every run has a checkpoint, or their steps differ.
        CheckpointError: A checkpoint is none, or that of another run.
    """
    if set(resume) != {run.name for run in runs}:
        raise ArgumentError(
            f"resume has checkpoints of {sorted(resume)}; expected one for each run and no other: "
            f"{sorted(run.name for run in runs)}."
        )
    batches: dict[int, list[int]] = {}
    for run in runs:
        saved = check_checkpoint(resume[run.name])
        whose = saved["lr"], saved["schedule"], saved["seed"], saved["steps"]
        wanted = run.lr, plain_repr(run.schedule), run.seed, steps
        if whose != wanted:
            raise CheckpointError(
                f"the checkpoint for run {run.name!r} is that of another run: peak rate, schedule, "
                f"seed and steps are {whose}, expected {wanted}."
            )
        if batches.setdefault(run.seed, saved["batches"].tolist()) != saved["batches"].tolist():
            raise CheckpointError(f"two checkpoints of seed {run.seed} saw different batches.")
    reached = {saved["step"] for saved in resume.values()}
    if len(reached) > 1:
        raise ArgumentError(f"checkpoints of the steps {sorted(reached)}; expected a single step.")
    return reached.pop(), batches
