"""Seeds, and the global random states of torch, numpy and Python."""

import contextlib
import functools
import random
from collections.abc import Iterator

import numpy as np
import torch

WEIGHTS, ORDER, NOISE, SPLIT = 1, 2, 3, 4
"""Purposes of a seed: weights, order and augmentation of the data, random layers, parts of data."""


def derive_seed(*keys: int) -> int:
    """Return a 32-bit seed that depends on every key and their order (splitmix64's finaliser).

    >>> derive_seed(0, NOISE, 7), derive_seed(0, NOISE, 8)
    (510651633, 2656734333)
    """
    state = 0
    for key in keys:
        state = (state + (key & 0xFFFFFFFFFFFFFFFF) + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 32


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch (CPU, CUDA, MPS), numpy and Python with 32 bits."""
    # Every step calls this, so it avoids torch.manual_seed, which looks for devices each time.
    torch.default_generator.manual_seed(seed)
    if _has_cuda() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    if _has_mps():
        torch.mps.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


_has_cuda = functools.cache(torch.cuda.is_available)
_has_mps = functools.cache(torch.backends.mps.is_available)


def reseed_generator(generator: object, seed: int) -> None:
    """Seed a generator object of torch, numpy or Python; do nothing for any other object."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = type(generator.bit_generator)(seed).state
    elif isinstance(generator, (random.Random, np.random.RandomState)):
        generator.seed(seed)


@contextlib.contextmanager
def preserve_random_state() -> Iterator[None]:
    """Restore the global random states bit for bit on exit, also after an exception."""
    python, cpu = random.getstate(), torch.get_rng_state()
    numpy = np.random.get_state(legacy=False)  # also of generators other than MT19937
    cuda = torch.cuda.get_rng_state_all() if _has_cuda() else []
    mps = torch.mps.get_rng_state() if _has_mps() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)
