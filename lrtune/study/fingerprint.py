"""The fingerprint of a task: tells one task from another, in words and in digests.

A message shows the words; digests decide, and numbers of weights and data, up to rounding. Data are
compared by their first batches, and by all numbers that they hold in memory. What code does shows
in the losses of the first two updates; the loss function, and the optimizer with its function, are
also compared by what their source does. Bytecode, file names and addresses never count, so a Python
upgrade or a renamed file changes nothing.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrtune.results.serialization import to_builtins
from lrtune.study.identity import (
    GIVEN,
    MADE,
    TRAIN_DATA,
    UNSTEADY,
    VAL_DATA,
    Fingerprint,
    SeedFingerprint,
    Sums,
    same_numbers,
)
from lrtune.task.batches import Batch, clone_batch, count_examples, digest, leaves
from lrtune.task.checks import TRIAL_LR
from lrtune.task.held_data import held_tensors
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.task import Task
from lrtune.task.value_texts import plain_repr, structure_texts, text_digest, value_texts

BATCHES, UPDATES = 3, 2
"""First batches that are compared, and updates that are made on the first of them."""


def task_key(task: Fingerprint) -> str:
    """What identifies a task in the key of every run."""
    numbers = (f"{part} {values}" for part, values in sorted(task.numbers.items()))
    return text_digest([*itertools.chain(*sorted(task.digests.items())), *numbers])


def fingerprint(task: Task) -> Fingerprint:
    """Take a task's fingerprint; the task and the global random states stay as they are."""
    with _on_own_copy("the task"), torch.enable_grad():
        state = task.init_state(seed=0, lr=TRIAL_LR)
        about = task.describe()
        batches = _first_batches(task, seed=0)
        device = str(task.device)
        if task.device.type == "cuda":
            device = f"cuda ({torch.cuda.get_device_name(task.device)})"
        parts = {
            "model": _Part(about["model"], text_digest(structure_texts(state.model))),
            "weights": _initial_weights(task, state.model),
            "optimizer": _Part(*_optimizer(state.optimizer, task.given["optimizer"])),
            "loss": _Part(about["loss"], text_digest(value_texts(task._loss))),  # noqa: SLF001
            "data": _batches(batches, about["batch"]),
            "validation": _validation(task),
            TRAIN_DATA: _held(task.given["train"]),
            VAL_DATA: _held(task.given["val"]),
            "device": _Part(device, device),
            "torch": _Part(torch.__version__, torch.__version__),
            "lrtune": _Part(version("lrtune"), version("lrtune")),
        }
        unsteady = parts["weights"].words == UNSTEADY
        losses = () if unsteady else _first_losses(task, batches[:UPDATES])
    return Fingerprint(
        {name: part.words for name, part in parts.items()},
        {name: part.digest for name, part in parts.items()},
        {name: part.numbers for name, part in parts.items() if part.numbers},
        losses,
    )


def seed_fingerprint(task: Task, seed: int) -> str:
    """The fingerprint of a seed, as JSON."""
    with _on_own_copy(f"seed {seed}"):
        weights = _initial_weights(task, task.init_state(seed, TRIAL_LR).model, seed)
        parts = {"weights": weights, "data": _batches(_first_batches(task, seed))}
    digests, numbers = (
        {k: getattr(v, of) for k, v in parts.items()} for of in ("digest", "numbers")
    )
    return json.dumps(to_builtins(SeedFingerprint(digests, numbers)))


@contextmanager
def _on_own_copy(of: str) -> Iterator[None]:
    with preserve_random_state(), torch.inference_mode(mode=False):
        try:
            yield
        except Exception as error:
            error.add_note(f"while the study looked at the weights and first batches of {of}")
            raise


# --- the parts of a task


class _Part(NamedTuple):
    """A part of a task; what rounding changes is in its numbers, all else in its digest."""

    words: str
    digest: str
    numbers: tuple[float, ...] = ()


def _sums(tensor: Tensor) -> Sums:
    squares = total = wave = 0.0
    place = 0
    for block in torch.split(tensor.detach().reshape(-1), 1 << 20):  # as it becomes float64
        numbers = block.cpu().double()
        places = torch.arange(place, place + len(numbers), dtype=torch.float64)
        place += len(numbers)
        squares += float(numbers.square().sum())
        total += float(numbers.sum())
        wave += float(numbers @ places.cos())
    return Sums(math.sqrt(squares), total, wave)


def _part(words: str, named: Iterable[tuple[str, Any]], digest_of: Callable[[Any], str]) -> _Part:
    """A part of tensors and other values; `digest_of` is for all but floating-point tensors."""
    texts, numbers = list[str](), list[float]()
    for name, value in named:
        texts.append(name)
        dense = isinstance(value, Tensor) and value.layout is torch.strided
        if dense and value.is_floating_point():
            texts.append(f"{value.dtype} {tuple(value.shape)}")
            numbers += _sums(value)
        else:
            texts.append(digest_of(value))
    return _Part(words, text_digest(texts), tuple(numbers))


def _weights(model: nn.Module, words: str) -> _Part:
    return _part(words, model.state_dict().items(), lambda one: text_digest(value_texts(one)))


def _initial_weights(task: Task, model: nn.Module, seed: int = 0) -> _Part:
    """The weights that a seed begins with; nothing tells them where a function gives others."""
    if not task.makes_model:
        return _weights(model, GIVEN)
    first, again = (_weights(one, MADE) for one in (model, task.init_state(seed, TRIAL_LR).model))
    same = first.digest == again.digest and same_numbers(first.numbers, again.numbers)
    return first if same else _Part(UNSTEADY, UNSTEADY)


def _held(source: object) -> _Part:
    """All numbers that data hold in memory, as a change may come after the first batches."""
    tensors = list(held_tensors(source))
    words = f"{sum(one.numel() for _, one in tensors):,} numbers in memory"
    return _part(words, tensors, lambda one: text_digest(value_texts(one)))


def _optimizer(optimizer: Optimizer, given: object) -> tuple[str, str]:
    """Its class and settings, rates as multiples of the peak rate; and what its code does."""
    wrapped = [one for one in vars(optimizer).values() if isinstance(one, Optimizer)]
    texts = list(value_texts([given, *map(type, [optimizer, *wrapped])]))
    for group in optimizer.param_groups:
        settings = {k: v for k, v in group.items() if k not in ("params", "lr", "initial_lr")}
        rate = f"{float(group['lr']) / TRIAL_LR:.9g}"
        texts += [rate, str(len(group["params"])), *value_texts(dict(sorted(settings.items())))]
    name = type(optimizer).__name__
    usual = {k: v for k, v in optimizer.defaults.items() if k != "lr" and v not in (None, False, 0)}
    words = ", ".join(f"{key}={plain_repr(usual[key])}" for key in sorted(usual))
    return f"{name}({words})", text_digest([name, *texts])


def _first_batches(task: Task, seed: int) -> list[Batch]:
    return list(itertools.islice(task.batches(seed), BATCHES))


def _batches(batches: Sequence[Batch], words: str = "") -> _Part:
    named = ((str(place), leaf) for place, batch in enumerate(batches) for leaf in leaves(batch))
    return _part(words, named, lambda leaf: str(digest(leaf)))


def _validation(task: Task) -> _Part:
    data = task._val  # noqa: SLF001 - nobody else has to know it
    if data is None:
        return _Part("none", "none")
    batches = list(data.first(BATCHES))
    words = f"batches of {count_examples(batches[0])}" if batches else "no batch"
    part, more = _batches(batches, words), [task.batch_weight, task.val_batches]
    if any(one is not None for one in more):
        part = part._replace(digest=text_digest([part.digest, *value_texts(more)]))
    return part


def _first_losses(task: Task, batches: Sequence[Batch]) -> tuple[float, ...]:
    """The losses of the first updates, up to one that raises: training will say why."""
    losses: list[float] = []
    with suppress(Exception):
        state = task.init_state(seed=0, lr=TRIAL_LR)
        for step, batch in enumerate(batches):
            seed_everything(derive_seed(0, NOISE, step))
            state.optimizer.zero_grad()
            loss = task.loss(state, task.to_device(clone_batch(batch)))
            value = loss.item()
            losses.append(value if math.isfinite(value) else math.nan)
            loss.backward()  # type: ignore[no-untyped-call]
            state.optimizer.step()
    return tuple(losses)
