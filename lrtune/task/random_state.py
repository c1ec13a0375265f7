"""Global random states: seeded for what we run, given back bit-identical afterwards."""

import contextlib
import functools
import random
from collections.abc import Iterator

import numpy as np
import torch

WEIGHTS, ORDER, NOISE = 1, 2, 3
"""What a seed is used for: initial weights, order (and augmentation) of the data, random layers."""


def derive_seed(*keys: int) -> int:
    """A 32-bit seed that depends on every key and on their order (splitmix64's finaliser).

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
    """Set torch's (CPU, CUDA, MPS), numpy's and Python's global generators to a 32-bit seed.

    It spares `torch.manual_seed`, which costs more, as this is called at every step.
    """
    torch.default_generator.manual_seed(seed)
    if _has_cuda() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    if _has_mps():
        torch.mps.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


_has_cuda = functools.cache(torch.cuda.is_available)
_has_mps = functools.cache(torch.backends.mps.is_available)


def reseed_generator(one: object, seed: int) -> None:
    """Set a generator of torch, numpy or Python to a 32-bit seed; leave anything else alone."""
    if isinstance(one, torch.Generator):
        one.manual_seed(seed)
    elif isinstance(one, np.random.Generator):
        one.bit_generator.state = type(one.bit_generator)(seed).state
    elif isinstance(one, (random.Random, np.random.RandomState)):
        one.seed(seed)


@contextlib.contextmanager
def preserve_random_state() -> Iterator[None]:
    """Give back the global random states exactly as they were, whatever happens inside."""
    python, cpu = random.getstate(), torch.get_rng_state()
    numpy = np.random.get_state(legacy=False)  # of whatever kind its global generator is
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
