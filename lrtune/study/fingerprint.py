"""The fingerprint of a task: tells one task from another, in words and in digests.

A message shows the words, the digests decide. What code does shows in the losses of the first two
updates; the loss function is also compared by its source. Bytecode, file names and addresses never
count, so a Python upgrade or a renamed file changes nothing.
"""

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version

import torch
from torch import nn
from torch.optim import Optimizer

from lrtune.errors import ResultsError
from lrtune.results.serialization import from_builtins, to_builtins
from lrtune.study import tables
from lrtune.task.batches import Batch, clone_batch, count_examples, digest
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.task import Task
from lrtune.task.value_texts import plain_repr, structure_texts, text_digest, value_texts

BATCHES, UPDATES = 3, 2
"""First batches that are compared, and updates that are made on the first of them."""

CLOSE = 1e-3
"""Relative difference of losses that another number of threads or another machine makes."""

HINTS = {
    "weights": "the initial weights differ: hand Task a function that makes the model, or call "
    "torch.manual_seed before you make it",
    "data": "the first batches differ",
    "validation": "the first validation batches differ",
}
"""The sentence for a part whose words are the same on both sides."""


@dataclass(frozen=True)
class Fingerprint:
    """The identity of a task: for each part words for a message, and the digest that decides."""

    words: dict[str, str]
    digests: dict[str, str]
    losses: tuple[float, ...]  # of the first updates with seed 0; NaN if not finite

    @property
    def key(self) -> str:
        """What identifies the task in the key of every run."""
        return text_digest(text for item in sorted(self.digests.items()) for text in item)

    def to_json(self) -> str:
        """The text that the database keeps."""
        return json.dumps(to_builtins(self))

    def differences(self, now: "Fingerprint") -> list[str]:
        """One sentence for each part of the study's task that differs from the task now."""
        found = []
        # Another version of lrtune may know other parts.
        for part in self.digests.keys() | now.digests.keys():
            if self.digests.get(part) != now.digests.get(part):
                before, after = self.words.get(part, "none"), now.words.get(part, "none")
                same = HINTS.get(part, f"{part}: {before} in both, but its settings or code differ")
                found.append(same if before == after else f"{part}: {before} there, {after} now")
        if not found and not _close(self.losses, now.losses):
            before, after = (" and ".join(f"{x:.6g}" for x in one.losses) for one in (self, now))
            found.append(
                f"the code of model, loss or optimizer: the first updates have the losses {before} "
                f"there, {after} now"
            )
        return sorted(found)


def _close(one: Sequence[float], two: Sequence[float]) -> bool:
    # Fewer losses are no difference: an update may raise today, as on a disk that is gone.
    return all(
        math.isclose(a, b, rel_tol=CLOSE, abs_tol=1e-6) or (math.isnan(a) and math.isnan(b))
        for a, b in zip(one, two, strict=False)
    )


def fingerprint_from_json(text: str) -> Fingerprint:
    """The fingerprint that `Fingerprint.to_json` wrote; StudyError if the text is damaged."""
    try:
        return from_builtins(Fingerprint, json.loads(text))
    except (ValueError, RecursionError, ResultsError) as error:
        message = f"the fingerprint of the task cannot be read ({error})"
        raise tables.damaged(message) from error


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
            "model": (about["model"], text_digest(structure_texts(state.model))),
            "weights": ("", _weights(state.model)),
            "optimizer": _optimizer(state.optimizer),
            "loss": (about["loss"], text_digest(value_texts(task._loss))),  # noqa: SLF001
            "data": (about["batch"], _batch_digest(batches)),
            "validation": _validation(task),
            "device": (device,) * 2,
            "torch": (torch.__version__,) * 2,
            "lrtune": (version("lrtune"),) * 2,
        }
        losses = _first_losses(task, batches[:UPDATES])
    words, digests = ({name: part[n] for name, part in parts.items()} for n in (0, 1))
    return Fingerprint(words, digests, losses)


def seed_fingerprint(task: Task, seed: int) -> str:
    """The digests of the weights and first batches that a seed begins with, as JSON."""
    with _on_own_copy(f"seed {seed}"):
        weights = _weights(task.init_state(seed, TRIAL_LR).model)
        return json.dumps({"weights": weights, "data": _batch_digest(_first_batches(task, seed))})


@contextmanager
def _on_own_copy(of: str) -> Iterator[None]:
    with preserve_random_state(), torch.inference_mode(mode=False):
        try:
            yield
        except Exception as error:
            error.add_note(f"while the study looked at the weights and first batches of {of}")
            raise


# --- the parts of a task


def _weights(model: nn.Module) -> str:
    return text_digest(value_texts(dict(model.state_dict())))


def _optimizer(optimizer: Optimizer) -> tuple[str, str]:
    """Its class and settings; rates as multiples of the peak rate."""
    texts = []
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


def _batch_digest(batches: Sequence[Batch]) -> str:
    return text_digest(str(digest(batch)) for batch in batches)


def _validation(task: Task) -> tuple[str, str]:
    data = task._val  # noqa: SLF001 - nobody else has to know it
    if data is None:
        return "none", "none"
    batches = list(data.first(BATCHES))
    words = f"batches of {count_examples(batches[0])}" if batches else "no batch"
    known = _batch_digest(batches)
    if task.batch_weight is not None or task.val_batches is not None:
        known = text_digest([known, *value_texts([task.batch_weight, task.val_batches])])
    return words, known


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
