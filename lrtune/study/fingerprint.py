"""Fingerprint: what tells one task from another, in words and in digests.

Each part has words, which a message shows, and a digest, which decides. What code does is not
compared by its text but by what it gives: the loss of the first batch at the initial weights.
"""

import copy
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from types import CodeType

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lrtune.study.keys import digest as digest_texts
from lrtune.study.keys import digest_of, plain
from lrtune.study.tables import damaged
from lrtune.task.batch import Batch, clone_batch, count_examples, digest
from lrtune.task.checks import TRIAL_LR
from lrtune.task.random_state import NOISE, derive_seed, preserve_random_state, seed_everything
from lrtune.task.task import Task, TrainState

BATCHES = 3
"""How many first batches are looked at."""

CLOSE = 1e-3
"""Relative difference of first losses that another number of threads or another machine makes."""

HINTS = {
    "weights": "the initial weights are other numbers: hand Task a function that makes the model, "
    "or call torch.manual_seed before you make it",
    "data": "the first batches are other numbers",
    "validation": "the first validation batches are other numbers",
}
"""What to say where the words of both sides are the same."""


@dataclass(frozen=True)
class Fingerprint:
    """What a study remembers of its task.

    Attributes:
        words: Part to what a message shows.
        digests: Part to what decides.
        loss: Of the first batch at the initial weights; NaN where it is not finite.
    """

    words: Mapping[str, str]
    digests: Mapping[str, str]
    loss: float

    @property
    def key(self) -> str:
        """What goes into the identity of every run."""
        return digest_of(dict(self.digests))

    def to_json(self) -> str:
        """As the database keeps it."""
        loss = self.loss if math.isfinite(self.loss) else None
        return json.dumps({"words": self.words, "digests": self.digests, "loss": loss})

    def differences(self, now: "Fingerprint") -> list[str]:
        """What differs, one sentence each: the study's first, then the present one's."""
        told = []
        for part in self.digests.keys() | now.digests.keys():
            if self.digests.get(part) != now.digests.get(part):
                before, after = self.words.get(part, "none"), now.words.get(part, "none")
                same = HINTS.get(part, f"{part}: {before} in both, but with other settings")
                told.append(same if before == after else f"{part}: {before} there, {after} now")
        if not told and not _near(self.loss, now.loss):
            told.append(
                f"the code of model or loss: the first batch has the loss {self.loss:.6g} there, "
                f"{now.loss:.6g} now"
            )
        return sorted(told)


def _near(one: float, two: float) -> bool:
    if math.isnan(one) or math.isnan(two):
        return math.isnan(one) == math.isnan(two)
    return math.isclose(one, two, rel_tol=CLOSE, abs_tol=1e-6)


def from_json(text: str) -> Fingerprint:
    """The fingerprint again.

    Raises:
        StudyError: It is none.
    """
    try:
        plain_ = json.loads(text)
        loss = plain_["loss"]
        words, digests = (
            {str(name): str(value) for name, value in plain_[part].items()}
            for part in ("words", "digests")
        )
        return Fingerprint(words, digests, math.nan if loss is None else float(loss))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(f"the fingerprint of the task cannot be read ({error})") from error


def fingerprint(task: Task) -> Fingerprint:
    """Take the fingerprint; the task, and the global random states, stay as they are."""
    with (
        _looking("the task"),
        preserve_random_state(),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
    ):
        state = task.init_state(seed=0, lr=TRIAL_LR)
        told = task.describe()
        first = next(task.batches(seed=0))
        parts = {
            "model": (told["model"], _structure(state.model)),
            "weights": ("", _weights(state.model)),
            "optimizer": _optimizer(state.optimizer),
            "loss": (told["loss"], _loss(state.loss)),
            "data": (told["batch"], _batches(task, seed=0)),
            "validation": _validation(task),
            "device": (_device(task.device),) * 2,
            "torch": (torch.__version__,) * 2,
            "lrtune": (version("lrtune"),) * 2,
        }
        loss = _first_loss(task, state, first)
    words = {name: word for name, (word, _) in parts.items()}
    return Fingerprint(words, {name: summed for name, (_, summed) in parts.items()}, loss)


def of_seed(task: Task, seed: int) -> str:
    """What one seed begins with: its weights and its first batches, as one digest each, in JSON."""
    with _looking(f"seed {seed}"), preserve_random_state(), torch.inference_mode(mode=False):
        weights = _weights(task.init_state(seed, TRIAL_LR).model)
        return json.dumps({"weights": weights, "data": _batches(task, seed)})


@contextmanager
def _looking(at: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"while the study looked at the weights and first batches of {at}")
        raise


def _structure(model: nn.Module) -> str:
    lines = []
    for name, part in model.named_modules():
        kind = f"{type(part).__module__}.{type(part).__qualname__}"
        lines.append(f"{name} {kind} {plain(part.extra_repr())} {part.training} {_settings(part)}")
    for name, one in (*model.named_parameters(), *model.named_buffers()):
        lines.append(f"{name} {one.dtype} {tuple(one.shape)} {one.requires_grad}")
    return digest_texts(lines)


def _settings(part: nn.Module) -> str:
    """Numbers and names that a module keeps: not all of them stand in its repr."""
    plain_ = (bool, int, float, str, tuple, type(None))
    kept = {k: v for k, v in vars(part).items() if not k.startswith("_") and isinstance(v, plain_)}
    return plain(sorted(kept.items()))


def _weights(model: nn.Module) -> str:
    summed = hashlib.blake2b(digest_size=16)
    for name, value in model.state_dict().items():
        summed.update(name.encode())
        summed.update(_raw(value) if isinstance(value, Tensor) else plain(value).encode())
    return summed.hexdigest()


def _raw(tensor: Tensor) -> memoryview | bytes:
    dense = tensor.detach().cpu()
    if dense.layout is not torch.strided:
        dense = dense.to_dense()
    dense = dense.resolve_conj().resolve_neg().contiguous().reshape(-1)
    return dense.view(torch.uint8).numpy().data if dense.numel() else b""


def _optimizer(made: Optimizer) -> tuple[str, str]:
    """Its class and settings; rates as multiples of the peak rate."""
    groups = []
    for group in made.param_groups:
        settings = {
            k: plain(v) for k, v in group.items() if k not in ("params", "lr", "initial_lr")
        }
        rate = f"{float(group['lr']) / TRIAL_LR:.9g}"
        groups.append({**settings, "lr": rate, "tensors": str(len(group["params"]))})
    name = type(made).__name__
    usual = {k: v for k, v in made.defaults.items() if k != "lr" and v not in (None, False, 0)}
    told = ", ".join(f"{key}={plain(value)}" for key, value in sorted(usual.items()))
    texts = [f"{key}={group[key]}" for group in groups for key in sorted(group)]
    return f"{name}({told})", digest_texts([type(made).__module__, name, *texts])


def _loss(loss: object) -> str:
    if isinstance(loss, nn.Module):
        return digest_texts([_structure(loss), _weights(loss)])
    code = getattr(loss, "__code__", None)
    if not isinstance(code, CodeType):
        return digest_texts([type(loss).__qualname__, plain(getattr(loss, "__name__", ""))])
    return digest_texts([getattr(loss, "__qualname__", ""), *_code(code)])


def _code(code: CodeType) -> Iterator[str]:
    """What a function does, without where it stands."""
    yield from (code.co_code.hex(), repr(code.co_names))
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _code(value)
        else:
            yield plain(value)


def _batches(task: Task, seed: int) -> str:
    first = itertools.islice(task.batches(seed), BATCHES)
    return digest_texts([str(digest(batch)) for batch in first])


def _validation(task: Task) -> tuple[str, str]:
    if not task.has_validation:
        return "none", "none"
    data = task._val  # noqa: SLF001 - nobody else has to know it
    assert data is not None
    first = list(itertools.islice(data.epoch(0, 0), BATCHES))
    told = f"batches of {count_examples(first[0])}" if first else "no batch"
    return told, digest_texts([str(digest(batch)) for batch in first])


def _device(device: torch.device) -> str:
    if device.type != "cuda":
        return str(device)
    return f"cuda ({torch.cuda.get_device_name(device)})"


def _first_loss(task: Task, state: TrainState, batch: Batch) -> float:
    """The loss of the first batch; NaN where it cannot be had: then training will say why."""
    seed_everything(derive_seed(0, NOISE, 0))
    with suppress(Exception), torch.no_grad():
        loss = float(task.loss(copy.copy(state), task.to_device(clone_batch(batch))))
        return loss if math.isfinite(loss) else math.nan
    return math.nan
