"""What continuations show: planted losses, with known differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrtune.analysis.continued import (
    Difference,
    bounded,
    effect,
    fall_of,
    late_fall,
    mean_difference,
    spikes,
)
from lrtune.analysis.overfitting import turn


def planted(gain, *, orders=3, steps=40, noise=0.05, seed=0):
    """Losses of a run and of one that lies `gain` lower, on batches that are hard or easy."""
    random = np.random.default_rng(seed)
    hard = random.normal(size=(orders, steps))
    own = noise * random.normal(size=(2, orders, steps))
    return hard + own[0], hard - gain + own[1]


def test_a_planted_gain_is_read_though_batches_differ_twenty_times_as_much():
    again, lower = planted(0.2)
    read = effect(lower, again, most=99.0)
    assert read.lowers(0.1)
    assert not read.idle(0.1)
    assert abs(read.late.mean - 0.2) < 0.05


def test_nothing_is_read_from_noise():
    """At 90 % intervals one in twenty lies above zero, in either of two windows."""
    found = sum(
        effect(*planted(0.0, seed=seed)[::-1], most=99.0).lowers(0.0) for seed in range(200)
    )
    assert found < 40


@given(st.floats(0.01, 100), st.floats(-100, 100), st.integers(0, 99))
def test_a_factor_scales_every_difference_and_a_constant_changes_none(factor, shift, seed):
    again, lower = planted(0.2, seed=seed)
    one = effect(lower, again, most=9.0)
    other = effect(factor * lower + shift, factor * again + shift, most=factor * 9 + shift)
    assert other.late.mean == pytest.approx(factor * one.late.mean, abs=1e-6)
    assert other.late.reach == pytest.approx(factor * one.late.reach, rel=1e-4, abs=1e-6)


@given(st.integers(0, 99))
def test_what_one_gains_the_other_loses(seed):
    again, lower = planted(0.2, seed=seed)
    one, other = effect(lower, again, 99.0), effect(again, lower, 99.0)
    assert one.early.mean == pytest.approx(-other.early.mean)
    assert one.late.reach == pytest.approx(other.late.reach)


def test_a_run_that_failed_counts_as_being_at_the_bound():
    again, lower = planted(0.2)
    lower[1, 20:] = np.nan
    read = effect(lower, again, most=5.0)
    assert read.failed == 1
    assert not read.lowers(0.0)
    assert bounded(np.array([[np.nan, np.inf, 9.0, 1.0]]), 5.0).tolist() == [[5.0, 5.0, 5.0, 1.0]]


def test_the_fall_of_the_same_again_is_that_beside_the_state_itself():
    hard, _ = planted(0.0)
    falling = hard - np.linspace(0, 1, hard.shape[1])
    fall = fall_of(falling, hard, most=99.0)
    assert fall.mean == pytest.approx(0.5, abs=0.02)
    assert fall.above(0.4)


@pytest.mark.parametrize("power", [0.3, 1.0])
def test_a_run_that_falls_as_a_power_does_is_seen_to_fall(power):
    steps = np.arange(1, 201)
    noise = 0.02 * np.random.default_rng(0).normal(size=200)
    fall = late_fall(2 * steps**-power + noise)
    assert fall.above(0.0)
    quarters = np.array_split((2 * steps**-power)[100:], 2)
    assert fall.mean == pytest.approx(quarters[0].mean() - quarters[1].mean(), rel=0.7)


def test_a_run_that_stands_is_not():
    noise = np.random.default_rng(0).normal(size=400)
    fall = late_fall(1 + 0.1 * noise)
    assert abs(fall.mean) < 0.03
    assert np.isnan(late_fall(np.ones(5)).mean)


def test_spikes_are_counted_that_stand_out():
    random = np.random.default_rng(0)
    net = 0.1 * random.normal(size=(2, 60))
    assert spikes(net, least=0.5) == 0
    net[0, 20] = net[1, 40] = 5.0
    assert spikes(net, least=0.5) == 2


def test_a_difference_says_what_is_certain():
    assert Difference(0.3, 0.2).above(0.1)
    assert not Difference(0.3, 0.4).above(0.1)
    assert Difference(0.01, 0.02).below(0.05)
    assert not Difference(0.01, 0.06).below(0.05)
    assert mean_difference(np.array([1.0, 1.0, 1.0])) == Difference(1.0, 0.0)


def valley(noise=0.0, seed=0, count=24):
    steps = np.arange(count)
    curve = 0.5 + 1.5 * np.exp(-steps / 3) + 0.05 * np.maximum(0, steps - 10)
    return steps, curve + noise * np.random.default_rng(seed).normal(size=count)


@given(st.floats(0.01, 100), st.floats(-50, 50))
def test_a_turn_is_where_it_is_planted_whatever_scale_and_constant(factor, shift):
    steps, losses = valley()
    found = turn(steps, factor * losses + shift)
    assert found is not None
    assert 9 <= found.step <= 13


def test_a_validation_loss_that_only_wobbles_has_no_turn():
    steps = np.arange(24)
    flat = 0.5 + 1.5 * np.exp(-steps / 3)
    alarms = sum(
        turn(steps, flat + 0.05 * np.random.default_rng(seed).normal(size=24)) is not None
        for seed in range(200)
    )
    assert alarms <= 4
    assert turn(steps, flat) is None
    assert turn([1, 2, 3], [3.0, 1.0, 9.0]) is None
