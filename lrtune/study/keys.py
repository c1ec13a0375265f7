"""Keys: what makes two runs the same run, whatever they are called."""

import hashlib
import re
from collections.abc import Iterable, Mapping

import numpy as np

from lrtune.results.runs import Run, Shape
from lrtune.schedules import Schedule, momenta, multipliers
from lrtune.schedules.feedback import Feedback, replay


def run_key(task: str, run: Run, steps: int, engine: str, schedule: str) -> str:
    """The identity of a run: what it is made of decides, its name does not.

    Args:
        task: The study's fingerprint.
        run: Its rate and seed are taken.
        steps: The horizon.
        engine: The class of the engine that trains it: engines agree up to rounding only.
        schedule: What `schedule_key` said.

    Returns:
        32 hexadecimal digits.
    """
    return digest([task, run.lr.hex(), schedule, str(run.seed), str(steps), engine])


def schedule_key(shape: Shape, steps: int) -> str:
    """The identity of a schedule over a horizon: its text, and the numbers that it gives.

    The numbers matter: all lambdas have one name. One that reacts to the loss is asked about
    three losses: one that falls, one that stands still, one that fails.
    """
    if isinstance(shape, Schedule):
        momentum = momenta(shape, steps) or []
        return digest([_named(shape), _numbers(multipliers(shape, steps)), _numbers(momentum)])
    assert not callable(shape), "a run makes a Schedule of every function"
    return digest([type(shape).__qualname__, _named(shape), *_probed(shape, steps)])


def digest(parts: Iterable[str]) -> str:
    """32 hexadecimal digits over texts, each kept apart from the next.

    >>> digest(["a", "bc"]) == digest(["ab", "c"])
    False
    """
    summed = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        summed.update(len(raw).to_bytes(8, "little") + raw)
    return summed.hexdigest()


def digest_of(parts: Mapping[str, str]) -> str:
    """The digest of texts with names, in whatever order they come."""
    return digest([text for name in sorted(parts) for text in (name, parts[name])])


def plain(value: object) -> str:
    """The value's repr without addresses, which differ from process to process.

    >>> plain(len), plain(object())
    ('<built-in function len>', '<object object at 0x>')
    """
    return re.sub(r"0x[0-9a-fA-F]+", "0x", repr(value))


def _named(shape: object) -> str:
    return plain(shape)


def _probed(shape: "Feedback[object]", steps: int) -> list[str]:
    falling = np.geomspace(4.0, 0.01, steps).tolist()
    return [
        _numbers(replay(shape, losses))
        for losses in (
            falling,
            [1.0] * steps,
            [*falling[: steps // 2], *[np.nan] * (steps - steps // 2)],
        )
    ]


def _numbers(numbers: Iterable[float]) -> str:
    return np.asarray(list(numbers), dtype="<f8").tobytes().hex()
