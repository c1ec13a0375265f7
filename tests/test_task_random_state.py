"""Random state: derived seeds do not collide, and global generators are restored."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
import zoo
from hypothesis import given
from hypothesis import strategies as st

from lrtune.task.random_state import (
    NOISE,
    ORDER,
    WEIGHTS,
    derive_seed,
    preserve_random_state,
    reseed_generator,
    seed_everything,
)

KEYS = st.lists(st.integers(0, 2**40), min_size=1, max_size=4)


def drawn():
    """One number of each global generator."""
    return float(torch.rand(())), float(np.random.random()), random.random()


@given(one=KEYS, other=KEYS)
def test_seeds_depend_on_every_key_and_their_order(one, other):
    assert derive_seed(*one) == derive_seed(*one)
    assert (derive_seed(*one) == derive_seed(*other)) == (one == other)
    assert 0 <= derive_seed(*one) < 2**32


def test_derived_seeds_never_change():
    """They are documented, and results depend on them."""
    assert derive_seed() == 0
    assert [derive_seed(0, use) for use in (WEIGHTS, ORDER, NOISE)] == [
        derive_seed(0, n) for n in (1, 2, 3)
    ]
    assert derive_seed(0, NOISE, 7) == 510651633
    assert derive_seed(-1) == derive_seed(2**64 - 1)


def test_neighbouring_seeds_give_unrelated_numbers():
    seeds = [derive_seed(seed, NOISE, step) for seed in range(40) for step in range(40)]
    assert len(set(seeds)) == 1600
    flipped = [(one ^ other).bit_count() for one, other in pairwise(seeds)]
    assert 15 < np.mean(flipped) < 17, "half of the 32 bits"


def test_one_seed_sets_every_generator():
    with preserve_random_state():
        seed_everything(5)
        first = drawn()
        assert drawn() != first
        seed_everything(5)
        assert drawn() == first
        torch.manual_seed(5)
        assert float(torch.rand(())) == first[0], "as torch.manual_seed would"


def disturb():
    seed_everything(1)
    return drawn(), torch.randn(3), np.random.normal(), random.gauss(0, 1)


def test_the_global_states_are_restored():
    before = zoo.world()
    with preserve_random_state():
        disturb()
        assert zoo.world() != before
    assert zoo.world() == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_global_states_are_restored_after_any_exception(error):
    def fail():
        disturb()
        raise error

    before = zoo.world()
    with pytest.raises(error), preserve_random_state():
        fail()
    assert zoo.world() == before


def test_preserving_can_be_nested():
    with preserve_random_state():
        seed_everything(3)
        expected = drawn()
        seed_everything(3)
        with preserve_random_state():
            drawn()
        assert drawn() == expected


GENERATORS = {
    "torch": (torch.Generator, lambda one: float(torch.rand((), generator=one))),
    "numpy": (np.random.default_rng, lambda one: float(one.random())),
    "numpy's philox": (
        lambda: np.random.Generator(np.random.Philox()),
        lambda one: float(one.random()),
    ),
    "numpy's old": (np.random.RandomState, lambda one: float(one.random())),
    "python": (random.Random, lambda one: one.random()),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_of_any_kind_can_be_seeded(kind):
    make, draw = GENERATORS[kind]
    one, other = make(), make()
    draw(other)
    reseed_generator(one, 9)
    reseed_generator(other, 9)
    first = draw(one)
    assert draw(other) == first
    reseed_generator(one, 10)
    assert draw(one) != first


def test_an_object_that_is_no_generator_is_not_changed():
    thing = {"seed": 3}
    reseed_generator(thing, 5)
    reseed_generator(None, 5)
    assert thing == {"seed": 3}
