"""The identity of a task: its parts in words, in digests, and in numbers up to rounding.

It tells in words what differs between the task of a study and that of today. Needs no torch.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from lrtune.errors import ResultsError
from lrtune.results.serialization import from_builtins, to_builtins
from lrtune.study import tables

Kept = TypeVar("Kept")


CLOSE = 1e-3
"""Relative difference of losses that another number of threads or another machine makes."""

ROUNDING = 64 * float(np.finfo(np.float32).eps)
"""Relative difference of sums of numbers that were computed in another order."""

GIVEN, MADE, UNSTEADY = (
    "those of the model that was given",
    "made by a function",
    "made by a function, other ones each time",
)
"""Where initial weights come from."""

TRAIN_DATA, VAL_DATA = "training data", "validation data"
"""The parts for all numbers that the data hold in memory."""

HINTS = {
    GIVEN: "the initial weights differ: hand Task a function that makes the model, or call "
    "torch.manual_seed before you make it",
    MADE: "the initial weights differ: the function that makes the model returns other ones than "
    "before, from the same seed. It was changed, or it reads something that was; or it copies a "
    "model that is made elsewhere: make that one in the function, too",
    "data": "the first batches differ: other data, or another order of them. If nothing was "
    "changed, call torch.manual_seed before they are made",
    "validation": "the first validation batches differ",
    TRAIN_DATA: "the training data differ behind the first batches",
    VAL_DATA: "the validation data differ behind the first batches",
}
"""The sentence for a part whose words are the same on both sides: by part, or by these words."""


IMPLIED = {"model": "weights", "data": TRAIN_DATA, "validation": VAL_DATA}
"""A part that differs, to one that then differs anyway."""


class Sums(NamedTuple):
    """What tells one tensor from another, though rounding changes it little."""

    norm: float
    total: float
    wave: float  # of its numbers times a cosine of their place


@dataclass(frozen=True)
class Fingerprint:
    """The identity of a task.

    Attributes:
        words: Each part in words, for a message.
        digests: Each part as a digest.
        numbers: Parts to three sums for each of their tensors of floating-point numbers.
        losses: Those of the first updates with seed 0; NaN if not finite.
    """

    words: dict[str, str]
    digests: dict[str, str]
    numbers: dict[str, tuple[float, ...]]
    losses: tuple[float, ...]

    def to_json(self) -> str:
        """The text that the database keeps."""
        return json.dumps(to_builtins(self))

    def differences(self, now: "Fingerprint") -> list[str]:
        """One sentence for each part of the study's task that differs from the task now."""
        # Another version of lrtune may know other parts.
        found = {
            part for part in self.digests.keys() | now.digests.keys() if self._differs(now, part)
        }
        found -= {part for whole, part in IMPLIED.items() if whole in found}
        told = [self._told(now, part) for part in found]
        if not told and not _close(self.losses, now.losses):
            before, after = (" and ".join(f"{x:.6g}" for x in one.losses) for one in (self, now))
            told.append(
                f"the code of model, loss or optimizer: the first updates have the losses {before} "
                f"there, {after} now"
            )
        return sorted(told)

    def apart_from(self, other: "Fingerprint") -> list[str]:
        """What is other here than in another task, in a few words for each part."""
        found = {part for part in self.words if self._differs(other, part)}
        parts = sorted(found - {part for whole, part in IMPLIED.items() if whole in found})
        known = {part: self.words[part] != other.words.get(part) for part in parts}
        told = [
            f"{name}: {self.words[name]}" if one else f"other {name}" for name, one in known.items()
        ]
        return told or ["other code"] * (not _close(self.losses, other.losses))

    def _differs(self, now: "Fingerprint", part: str) -> bool:
        if self.digests.get(part) != now.digests.get(part):
            return True
        return not same_numbers(self.numbers.get(part, ()), now.numbers.get(part, ()))

    def _told(self, now: "Fingerprint", part: str) -> str:
        """The sentence for a part that differs."""
        before, after = self.words.get(part, "none"), now.words.get(part, "none")
        if before != after:
            return f"{part}: {before} there, {after} now"
        other = f"{part}: {before} in both, but its settings or code differ"
        return HINTS.get(after, HINTS.get(part, other))


def same_numbers(one: Sequence[float], two: Sequence[float]) -> bool:
    """Whether the sums of tensors are the same, up to rounding; see `Sums`."""
    if len(one) != len(two) or len(one) % len(Sums._fields):
        return False
    pairs = np.array([one, two], dtype=float).reshape(2, -1, len(Sums._fields))
    scales = np.abs(pairs).max(axis=0) + np.abs(pairs[..., :1]).max(axis=0)
    first, second = pairs
    with np.errstate(invalid="ignore"):  # infinite weights
        close = np.abs(first - second) <= ROUNDING * scales
    return bool((close | (first == second) | (np.isnan(first) & np.isnan(second))).all())


def _close(one: Sequence[float], two: Sequence[float]) -> bool:
    # Fewer losses are no difference: an update may raise today, as on a disk that is gone.
    return all(
        math.isclose(a, b, rel_tol=CLOSE, abs_tol=1e-6) or (math.isnan(a) and math.isnan(b))
        for a, b in zip(one, two, strict=False)
    )


def fingerprint_from_json(text: str) -> Fingerprint:
    """The fingerprint that `Fingerprint.to_json` wrote; StudyError if the text is damaged."""
    return _from_json(Fingerprint, text)


def _from_json(kind: type[Kept], text: str) -> Kept:
    try:
        return from_builtins(kind, json.loads(text))
    except (ValueError, RecursionError, ResultsError) as error:
        message = f"the fingerprint of the task cannot be read ({error})"
        raise tables.damaged(message) from error


@dataclass(frozen=True)
class SeedFingerprint:
    """The weights and first batches that a seed begins with: digests, and sums of numbers."""

    digests: dict[str, str]
    numbers: dict[str, tuple[float, ...]]

    def differences(self, now: "SeedFingerprint") -> list[str]:
        """The parts that differ."""
        return [
            part
            for part, digest in now.digests.items()
            if digest != self.digests.get(part)
            or not same_numbers(self.numbers.get(part, ()), now.numbers[part])
        ]


def seed_differences(then: str, now: str) -> list[str]:
    """The parts in which two fingerprints of a seed differ; StudyError if one is damaged."""
    one, two = (_from_json(SeedFingerprint, text) for text in (then, now))
    return one.differences(two)
