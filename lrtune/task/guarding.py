"""The user's own model, while their loss runs: it is not used, and it stays as it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from lrtune.errors import TaskError

OBJECTIVE_HINT = (
    "Each run trains a copy of it; expected a loss that uses that copy. Pass the loss as an "
    "objective, and use its argument: Task(..., objective=lambda model, batch: ...)."
)


def check_loss_uses_copy(loss: Tensor, model: object) -> None:
    """Raise if the loss depends on the user's own model instead of the copy that is trained."""
    if not isinstance(model, nn.Module):
        return
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    waiting, seen = [loss.grad_fn], set()
    while waiting:  # walk back through the graph to the tensors that get gradients
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = names.get(id(getattr(node, "variable", None)))
        if name is not None:
            raise TaskError(
                f"the loss depends on {name} of your {type(model).__name__} itself. "
                f"{OBJECTIVE_HINT}"
            )
        waiting.extend(following for following, _ in node.next_functions)


class UsersTensors(TorchFunctionMode):
    """Notes whether a function of torch's is called with a tensor of the user's own model.

    Without gradients, as of pseudo labels, no graph leads there.
    """

    def __init__(self, model: object) -> None:
        super().__init__()
        named = model.named_parameters() if isinstance(model, nn.Module) else ()
        self._names = {id(parameter): name for name, parameter in named}
        self._kind, self._found = type(model).__name__, ""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Note which of the user's tensors a function of torch is called with, and call it."""
        del types
        used = (self._names.get(id(one)) for one in (*args, *(kwargs or {}).values()))
        self._found = self._found or next(filter(None, used), "")
        return func(*args, **(kwargs or {}))

    def check(self) -> None:
        """Raise if the user's own model took part."""
        if self._found:
            raise TaskError(
                f"the loss is computed with {self._found} of your {self._kind} itself, which is "
                f"not trained. {OBJECTIVE_HINT} If its weights are meant as they are, use a "
                "copy.deepcopy of it."
            )


@contextmanager
def guard_model(model: object) -> Iterator[None]:
    """Restore the attributes and buffers of the user's model on exit.

    Raises:
        TaskError: The code inside, which runs the user's loss, has changed the model.
    """
    # The loss may be a closure around the user's model, and a forward pass moves the statistics of
    # its BatchNorm layers.
    parts = list(model.modules()) if isinstance(model, nn.Module) else []
    dicts = [one for part in parts for one in (vars(part), part._buffers)]  # noqa: SLF001
    saved = [(one, one.copy()) for one in dicts if isinstance(one, dict)]  # TorchScript has others
    buffers = [one for part in parts for one in part.buffers(recurse=False) if not is_lazy(one)]
    numbers = [(one, one.detach().clone()) for one in buffers]
    changed = False
    try:
        yield
    finally:
        for now, before in saved:  # compared by identity: a new value is a change, even if equal
            if now.keys() != before.keys() or any(now[key] is not before[key] for key in before):
                changed = True
                for key in now.keys() - before.keys():
                    del now[key]
                now.update(before)
        for buffer, values in numbers:
            # The version counter would be cheaper, but the kernels of BatchNorm do not increase it.
            if not torch.allclose(buffer, values, rtol=0, atol=0, equal_nan=True):
                changed = True
                buffer.data.copy_(values)
    if changed:
        raise TaskError(f"the loss changes your {type(model).__name__} itself. {OBJECTIVE_HINT}")
