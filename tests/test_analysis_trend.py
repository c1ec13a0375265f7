"""Trends of best rates: laws of the fit, and how often its intervals hold the truth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrtune.analysis.trend import trend

SIZES = [0.05, 0.1, 0.25, 0.5, 1.0]
FACTOR = st.floats(1e-3, 1e3)
RATES = st.lists(
    st.lists(st.floats(1e-4, 1.0), min_size=3, max_size=3), min_size=5, max_size=5
).map(np.array)


@given(slope=st.floats(-2, 2), level=FACTOR)
def test_a_power_law_is_found_exactly(slope, level):
    rates = level * np.array(SIZES)[:, None] ** slope * np.ones(3)
    line = trend(SIZES, rates)
    assert line.slope == pytest.approx(slope, abs=1e-9)
    assert 0 < line.reach < 0.3


@given(rates=RATES, scale=FACTOR, unit=FACTOR, order=st.permutations(range(5)))
def test_units_and_order_do_not_matter(rates, scale, unit, order):
    line = trend(SIZES, rates)
    sizes = unit * np.array(SIZES)
    other = trend(sizes[list(order)], scale * rates[list(order)][:, ::-1])
    assert other.slope == pytest.approx(line.slope, abs=1e-9)
    assert other.reach == pytest.approx(line.reach, rel=1e-6)
    assert other.rate_reach == pytest.approx(line.rate_reach, rel=1e-6)


@given(rates=RATES, slope=st.floats(-2, 2))
def test_a_power_law_on_top_adds_its_exponent_and_no_doubt(rates, slope):
    line = trend(SIZES, rates)
    other = trend(SIZES, rates * np.array(SIZES)[:, None] ** slope)
    assert other.slope == pytest.approx(line.slope + slope, abs=1e-6)
    assert other.reach == pytest.approx(line.reach, rel=1e-6)


def test_nothing_is_certain_with_one_rate_of_two_sizes():
    line = trend([0.5, 1.0], [[0.1], [0.2]])
    assert line.slope == pytest.approx(1.0)
    assert math.isinf(line.reach)
    assert math.isinf(line.rate_reach)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("own", [0.0, 0.3])
def test_the_interval_holds_the_slope_in_nine_cases_of_ten(seeds, own):
    """Also where a size has something of its own, which all of its seeds share."""
    random, held, count = np.random.default_rng(0), 0, 400
    for _ in range(count):
        noise = random.normal(size=(5, seeds)) * 0.4 + random.normal(size=(5, 1)) * own
        rates = np.exp(noise) * np.array(SIZES)[:, None] ** 0.7
        line = trend(SIZES, rates)
        held += abs(line.slope - 0.7) <= line.reach
    assert held / count > 0.87


def test_no_interval_is_narrower_than_a_grid_of_half_decades_allows():
    rates = np.array(SIZES)[:, None] ** 0.5 * np.ones(9)
    assert trend(SIZES, rates).rate_reach > 0.1
