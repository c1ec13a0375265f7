"""The user's own checkpoint, as a state that a task can go on from."""

import inspect
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from lrtune.diagnosis.observations.groups import parameter_groups
from lrtune.diagnosis.observations.stalls import Stall
from lrtune.errors import CheckpointError, first_line, printable, quantity, shown
from lrtune.task.random_state import preserve_random_state
from lrtune.task.saved_state import restore_state
from lrtune.task.states import TrainState
from lrtune.task.task import Task
from lrtune.training.checkpoints import FIELDS

MODEL = ("model", "model_state_dict", "state_dict", "model_state", "net")
OPTIMIZER = ("optimizer", "optimizer_state_dict", "optimizer_state", "optim")
"""Names under which training scripts save what `state_dict` returns; Lightning's are lists."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and Lightning put before the name of every weight."""

WAY_OUT = (
    "Pass model.state_dict(), or {'model': model.state_dict(), 'optimizer': "
    "optimizer.state_dict()}, of the model that is handed to Task."
)


def read_checkpoint(path: str | Path) -> Any:
    """What is in a file of `torch.save`, as plain data: nothing in it is executed.

    Raises:
        CheckpointError: There is no such file, or it holds something other than plain data.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        why = error.strerror or first_line(error)
        raise CheckpointError(
            f"{printable(path)} cannot be read as a checkpoint: {why}. Give a file of torch.save."
        ) from error
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path):
            raise _no_checkpoint(path) from error
        raise CheckpointError(
            f"{printable(path)} holds a pickled model or other objects; expected tensors in plain "
            "dicts. Save model.state_dict()."
        ) from error
    except Exception as error:
        raise _no_checkpoint(path) from error


def _no_checkpoint(path: str | Path) -> CheckpointError:
    return CheckpointError(f"{printable(path)} is no file of torch.save. {WAY_OUT}")


def state_of(task: Task, checkpoint: object, lr: float | None) -> Stall:
    """The state in a checkpoint: a `state_dict` of the model, or a dict with model and optimizer.

    Args:
        task: Whose model and optimizer it is of.
        checkpoint: As a training script saves it, or one of lrtune's own.
        lr: The rate to go on with; that of the checkpoint's optimizer when None.

    Raises:
        CheckpointError: It does not fit the model or the optimizer, its weights are not finite, or
            it tells no rate, and none was given.
    """
    if not isinstance(checkpoint, Mapping) or not checkpoint:
        raise CheckpointError(
            f"the checkpoint is {shown(checkpoint)}; expected a state_dict. {WAY_OUT}"
        )
    saved: Any = next((checkpoint[name] for name in OPTIMIZER if name in checkpoint), None)
    if isinstance(checkpoint.get("optimizer_states"), list):  # Lightning
        saved = checkpoint["optimizer_states"][0]
    now, peak = _rates(task, saved, lr)
    with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
        state = task.init_state(0, peak)
        if FIELDS.keys() <= checkpoint.keys():
            restore_state(state, dict(checkpoint))
        else:
            _load_model(state, checkpoint)
            if saved is not None:
                _load_optimizer(state.optimizer, saved)
    _check_finite(state.model)
    return Stall(
        state=state,
        lr=now,
        peak=peak,
        step=0,
        losses=np.empty(0),
        rates=np.empty(0),
        validations=(),
        failed=False,
    )


def _check_finite(model: nn.Module) -> None:
    broken = [
        name for name, one in model.named_parameters() if not torch.isfinite(one.detach()).all()
    ]
    if broken:
        raise CheckpointError(
            f"the checkpoint holds NaN or infinite numbers in {', '.join(broken[:3])}; expected "
            "finite weights. The training has diverged before it was saved: give an earlier "
            "checkpoint, or lr= and steps= without one, and diagnose says why."
        )


def _rates(task: Task, saved: Any, lr: float | None) -> tuple[float, float]:
    """The present rate and the peak rate: those given, or of the optimizer in a checkpoint.

    A group's rate is a multiple of what the optimizer was made with; torch's schedulers note the
    peak as `initial_lr`.
    """
    groups = saved.get("param_groups", []) if isinstance(saved, Mapping) else []
    known = parameter_groups(task)
    for group, one in zip(groups, known, strict=False):
        if not one.fixed and one.lr > 0 and "lr" in group:
            now = float(group["lr"]) / one.lr if lr is None else lr
            peak = max(now, float(group.get("initial_lr", group["lr"])) / one.lr)
            if peak > 0:
                return now, peak
    if lr is None:
        raise CheckpointError(
            "the checkpoint tells no learning rate above 0; expected the optimizer's state_dict "
            "beside the model's. Pass lr=..., the last rate that it was trained with."
        )
    return lr, lr


def _load_model(state: TrainState, checkpoint: Mapping[str, Any]) -> None:
    """Load the weights, whose names may have a prefix."""
    inside = (checkpoint[name] for name in MODEL if isinstance(checkpoint.get(name), Mapping))
    weights = dict(next(inside, checkpoint))
    own = state.model.state_dict().keys()
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in weights) and not weights.keys() & own:
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    try:
        state.model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        kind, why = type(state.model).__name__, _misfit(state.model.state_dict(), weights)
        raise CheckpointError(
            f"the checkpoint does not fit the {kind}: {printable(why, 200)}; expected its weights. "
            f"{WAY_OUT}"
        ) from error


def _misfit(own: Mapping[str, Any], weights: Mapping[str, Any]) -> str:
    """The first ways in which weights do not fit a model, in words."""
    if missing := sorted(own.keys() - weights.keys()):
        return f"it lacks {', '.join(missing[:3])}"
    if odd := sorted(map(str, weights.keys() - own.keys())):
        return f"it has {', '.join(odd[:3])} besides"
    shapes = {
        name: (getattr(weights[name], "shape", ()), value.shape) for name, value in own.items()
    }
    for name, (theirs, ours) in shapes.items():
        if theirs != ours:
            return f"its {name} has the shape {list(theirs)}, that of the model {list(ours)}"
    return "its values have another type"


def _load_optimizer(optimizer: Optimizer, saved: Any) -> None:
    fresh = [dict(group) for group in optimizer.param_groups]
    try:
        why = _other_optimizer(optimizer.state_dict(), saved)
        if not why:
            optimizer.load_state_dict(saved)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = first_line(error)
    if why:
        raise CheckpointError(
            f"the checkpoint's optimizer does not fit the {type(optimizer).__name__} of the task: "
            f"{why}; expected one of its kind and groups. Leave it out, or give Task the optimizer "
            "that it was saved from."
        )
    for group, before in zip(optimizer.param_groups, fresh, strict=True):
        if "initial_lr" not in before:
            group.pop("initial_lr", None)


IGNORED = {"params", "foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay"}
"""What versions of torch add to groups, and how updates are computed: no settings of their own."""


def _other_optimizer(own: Mapping[str, Any], saved: Mapping[str, Any]) -> str:
    """How settings, groups or weights of two optimizers differ; empty if they do not."""
    ours, theirs = own["param_groups"], saved["param_groups"]
    if len(ours) != len(theirs):
        return f"it has {quantity(len(theirs), 'parameter group')}, the task's {len(ours)}"
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        counts = [len(group["params"]) for group in (other, mine)]
        if counts[0] != counts[1]:
            return f"its group {number} has {counts[0]} parameters, the task's {counts[1]}"
        if lacks := mine.keys() - other.keys() - IGNORED:
            more = ", ".join(sorted(other.keys() - mine.keys() - IGNORED)) or "nothing besides"
            kinds = " or ".join(_kinds(other))
            whose = f"it is that of {kinds}, with" if kinds else "it has"
            return f"{whose} {more}, the task's has {', '.join(sorted(lacks))}"
    return ""


def _kinds(group: Mapping[str, Any]) -> list[str]:
    """The optimizers of torch that have just these settings."""
    found = []
    for name, kind in vars(torch.optim).items():
        if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer:
            settings = inspect.signature(kind).parameters.keys() - IGNORED
            if settings and settings == group.keys() - IGNORED - {"initial_lr"}:
                found.append(name)
    return found
