"""The model of a checkpoint: everything that training left in it, and whether that is all."""

import math
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from lrtune.errors import AnswerWarning, CheckpointError, first_line
from lrtune.task.batches import to_device
from lrtune.task.checks import TRIAL_LR
from lrtune.task.cloning import deepcopy_module
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.saved_state import restore_modules
from lrtune.task.states import StateMaker, TrainState, evaluating

CLOSE, OF_THE_START = 0.01, 1e-4
"""By convention: losses of one model differ by rounding as far as this share of them, or of the
loss that training began with."""


def first_loss(maker: StateMaker, state: TrainState) -> float:
    """Return the loss of the first training batch in eval mode; NaN where there is none.

    A copy of the model is asked, as a forward pass may change buffers and attributes, and may draw
    from random generators that a module holds.
    """
    # Some models give no loss in eval mode, such as those for detection.
    with suppress(Exception), preserve_random_state(), torch.inference_mode(mode=False):
        model, loss = deepcopy_module((state.model, state.loss))
        asked = TrainState(model, loss, state.optimizer)
        with evaluating(asked):
            seed_everything(derive_seed(0, NOISE))
            return maker.loss(asked, to_device(maker.first, maker.device)).item()
    return math.nan


def trained_model(maker: StateMaker, saved: Mapping[str, Any]) -> nn.Module:
    """Return the model of a checkpoint, on the CPU and in eval mode.

    It is made as for its run, and gets all that a checkpoint holds: weights, buffers, and the other
    attributes that training has changed. Where its loss is another one than at the end of the
    training, a warning says so.

    Raises:
        CheckpointError: It is that of another task.
    """
    state = _made_for(maker, saved.get("seed", 0))
    try:
        restore_modules(state, saved)
    except CheckpointError:
        raise
    except Exception as error:
        reason = first_line(error)
        raise CheckpointError(f"the checkpoint does not fit the task: {reason}") from error
    now, then = first_loss(maker, state), saved.get("first_loss", math.nan)
    if _differ(now, then, saved):
        _warn(
            f"the {type(state.model).__name__} that is handed out is not the model that was "
            f"trained: its loss on the first training batch is {now:.4g}, that of the trained one "
            f"was {then:.4g}; expected the same. Some of what it computes with is no weight, no "
            f"buffer and no attribute that a checkpoint can hold{_besides(state.model, saved)}. "
            "Make that a buffer (self.register_buffer) and search again."
        )
    return state.model.cpu().eval()


def warn_of_missing_state(maker: StateMaker, saved: Mapping[str, Any]) -> None:
    """Warn where the `state_dict` of a checkpoint does not make a new model the trained one."""
    # A new model of another seed is what whoever loads the weights elsewhere begins with.
    state = _made_for(maker, saved.get("seed", 0) + 1)
    restore_modules(state, {"model": saved["model"], "loss": saved.get("loss", {})})
    now, then = first_loss(maker, state), saved.get("first_loss", math.nan)
    if _differ(now, then, saved):
        _warn(
            f"the weights alone are not the trained {type(state.model).__name__}: a new one with "
            f"this state_dict has a loss of {now:.4g} on the first training batch, the trained one "
            f"has {then:.4g}. A state_dict lacks what is neither a parameter nor a persistent "
            f"buffer{_besides(state.model, saved)}. Take found.model(), which has it, and "
            "torch.save(found.model(), path); or make it a buffer (self.register_buffer)."
        )


def _made_for(maker: StateMaker, seed: int) -> TrainState:
    with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
        return maker.init(seed, TRIAL_LR)


def _differ(now: float, then: float, saved: Mapping[str, Any]) -> bool:
    if math.isnan(then):
        return False
    losses = saved.get("losses", torch.zeros(1, dtype=torch.float64))
    scale = float(losses[:1].abs().sum())
    return not math.isclose(now, then, rel_tol=CLOSE, abs_tol=OF_THE_START * scale)


def _besides(model: nn.Module, saved: Mapping[str, Any]) -> str:
    """Return the names of what a model holds besides its `state_dict`, as a part of a sentence."""
    tensors = [
        ".".join(filter(None, (part, name)))
        for part, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    ]
    buffers = [name for name, _ in model.named_buffers() if name not in saved["model"]]
    changed = [
        ".".join(filter(None, (part, name)))
        for part, values in saved.get("attributes", {}).get("model", {}).items()
        for name in values
    ]
    names = list(dict.fromkeys([*tensors, *buffers, *changed]))
    return f" ({', '.join(names[:5])})" if names else ""


def _warn(text: str) -> None:
    warnings.warn(text, AnswerWarning, stacklevel=4)
