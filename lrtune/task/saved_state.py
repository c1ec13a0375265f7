"""What training has changed in model, loss and optimizer of a run: saved and restored."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lrtune.errors import CheckpointError
from lrtune.task.optimizer_attributes import optimizer_attributes
from lrtune.task.optimizers import eval_weights, switches_weights, trained_weights
from lrtune.task.plain_data import on_cpu
from lrtune.task.saved_attributes import (
    Texts,
    attribute_texts,
    changed_attributes,
    restore_attributes,
)
from lrtune.task.states import TrainState
from lrtune.task.value_texts import text_digest, value_texts

SavedState = dict[str, Any]
"""What a checkpoint holds of a state: `model`, `optimizer`, `loss`, `train_weights`, `buffers`,
`attributes` and `optimizer_attributes`; see `Checkpoint`."""

Fresh = dict[str, Texts]
"""`model` and `loss` to what their attributes were before the first update."""


def fresh_attributes(state: TrainState) -> Fresh:
    """Return what the attributes of model and loss are now, before the first update."""
    return {whole: attribute_texts(module) for whole, module in _modules(state).items()}


def save_state(state: TrainState, fresh: Fresh) -> SavedState:
    """Return what training has changed in a run, as copies on the CPU.

    Model and optimizer are saved with the weights that are validated.

    Args:
        state: Stays as it is.
        fresh: What `fresh_attributes` returned; of the attributes only those that differ are saved.

    Raises:
        CheckpointError: A part of the state is no plain data; the message names its type.
    """
    saved = SavedState(loss={}, buffers={}, attributes={}, train_weights={})
    if switches_weights(state.optimizer):
        saved["train_weights"] = on_cpu(_trained(state), "the model")
    with eval_weights(state.optimizer):
        return saved | _saved_parts(state, fresh)


def _trained(state: TrainState) -> dict[str, Tensor]:
    own = {id(weight) for weight in trained_weights(state.optimizer)}
    return {name: one for name, one in state.model.named_parameters() if id(one) in own}


def _saved_parts(state: TrainState, fresh: Fresh) -> SavedState:
    saved = SavedState(loss={}, buffers={}, attributes={})
    for whole, module in _modules(state).items():
        saved[whole] = _saved(f"the {whole}", module)
        unsaved = {k: v for k, v in module.named_buffers() if k not in saved[whole]}
        saved["buffers"][whole] = on_cpu(unsaved, f"the {whole}")
        saved["attributes"][whole] = changed_attributes(module, fresh[whole])
    about = {name: text_digest(texts) for name, texts in optimizer_attributes(state.optimizer)}
    return saved | {
        "optimizer": _saved("the optimizer", state.optimizer),
        "optimizer_attributes": about,
    }


def restore_state(state: TrainState, saved: SavedState) -> None:
    """Give a new state, made for the same run, everything that a checkpoint holds.

    Raises:
        CheckpointError: It does not fit the state, or the state does not take it back as it was.
    """
    optimizer: Any = state.optimizer
    switches = switches_weights(optimizer)
    try:
        if switches:  # as it was when it was saved
            optimizer.eval()
        restore_modules(state, saved)
        _restore_optimizer(state.optimizer, saved["optimizer"])
        if switches:  # `train()` gives the weights back up to rounding only
            optimizer.train()
            for name, weight in _trained(state).items():
                weight.data.copy_(saved["train_weights"][name])
        again = save_state(state, fresh_attributes(state))
        again["optimizer"] = again["optimizer"]["state"]  # its groups are set before each update
        known = saved | {"optimizer": saved["optimizer"]["state"]}
        for part in ("model", "loss", "buffers", "optimizer"):
            if list(value_texts(again[part])) != list(value_texts(known[part])):
                _refuse(f"what its {part} was given back is not what was saved of it")
        now, then = (one.get("optimizer_attributes", {}) for one in (again, saved))
        if lost := sorted(
            name for name in now.keys() | then.keys() if now.get(name) != then.get(name)
        ):
            _refuse(
                f"what the {type(optimizer).__name__} holds in {', '.join(lost[:3])} is not what "
                "was saved, so it would not go on as it was. Add it to its state_dict and "
                "load_state_dict"
            )
    except CheckpointError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"the checkpoint does not fit the task: {reason}") from error


def restore_modules(state: TrainState, saved: Mapping[str, Any]) -> None:
    """Give model and loss of a new state what a checkpoint holds of them.

    Raises:
        CheckpointError: It does not fit the state.
    """
    for whole, module in _modules(state).items():
        _restore_module(module, saved.get(whole, {}))
        _restore_buffers(module, saved.get("buffers", {}).get(whole, {}))
        restore_attributes(module, saved.get("attributes", {}).get(whole, {}))


def _modules(state: TrainState) -> dict[str, nn.Module]:
    loss = {"loss": state.loss} if isinstance(state.loss, nn.Module) else {}
    return {"model": state.model, **loss}


def _saved(what: str, owner: nn.Module | Optimizer) -> Any:
    try:
        state = owner.state_dict()
    except Exception as error:
        raise CheckpointError(f"{what} has no state_dict: {error}.") from error
    return on_cpu(state, f"{what} ({type(owner).__name__})")


def _restore_module(module: nn.Module, saved: Mapping[str, Any]) -> None:
    """Load a `state_dict`, but for frozen weights that have their values already.

    The models of a function may share the memory of frozen weights, also with the user's own.
    """
    held = {
        name
        for name, own in module.state_dict(keep_vars=True).items()
        if isinstance(own, nn.Parameter)
        and not own.requires_grad
        and list(value_texts(own.detach())) == list(value_texts(saved.get(name)))
    }
    wanted = OrderedDict((k, v) for k, v in saved.items() if k not in held)
    if hasattr(saved, "_metadata"):
        wanted._metadata = saved._metadata  # type: ignore[attr-defined]  # noqa: SLF001
    missing, unexpected = module.load_state_dict(wanted, strict=False)
    if odd := sorted({*missing, *unexpected} - held):
        _refuse(f"{type(module).__name__} and checkpoint differ in {', '.join(odd[:3])}")


def _restore_buffers(module: nn.Module, saved: Mapping[str, Tensor]) -> None:
    own = dict(module.named_buffers())
    for name, tensor in saved.items():
        if name in own and own[name].shape == tensor.shape and own[name].dtype == tensor.dtype:
            own[name].detach().copy_(tensor)
        else:
            owner, _, key = name.rpartition(".")
            device = next(module.parameters(), tensor).device
            setattr(module.get_submodule(owner), key, tensor.to(device, copy=True))


def _restore_optimizer(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    fresh = [dict(group) for group in optimizer.param_groups]
    sharing = [one for one in vars(optimizer).values() if _shares_groups(one, optimizer)]
    # It takes over the tensors that it is given, so it is given copies.
    optimizer.load_state_dict(on_cpu(dict(saved), "the optimizer"))
    if not all(_shares_groups(one, optimizer) for one in sharing):
        _refuse(
            f"the param_groups of the {type(optimizer).__name__} are no longer those of the "
            "optimizer that it wraps, which load_state_dict has replaced. Write "
            "self.param_groups = base.param_groups in its load_state_dict"
        )
    for group, before in zip(optimizer.param_groups, fresh, strict=True):
        if isinstance(before["lr"], Tensor):  # on the device, where a capturable optimizer reads it
            group["lr"] = before["lr"].fill_(float(group["lr"]))
        if "initial_lr" not in before:
            group.pop("initial_lr", None)


def _shares_groups(wrapped: object, optimizer: Optimizer) -> bool:
    if not isinstance(wrapped, Optimizer):
        return False
    pairs = zip(wrapped.param_groups, optimizer.param_groups, strict=False)
    return all(one is other for one, other in pairs)


def _refuse(why: str) -> None:
    raise CheckpointError(f"the checkpoint does not fit the task: {why}.")
