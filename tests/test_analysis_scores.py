"""Scores: no constant that is added to a loss matters, unless its floor is known."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lrtune.analysis.scores import LEAST, Scale, digits_that_differ

# On a grid of 2^-10, so that dyadic constants and factors are exact.
GRID = st.integers(-(2**20), 2**20).map(lambda number: number / 1024)
LOSSES = st.lists(GRID, min_size=1, max_size=20)
FACTORS = st.integers(-20, 20).map(lambda power: 2.0**power)
BROKEN = st.sampled_from([math.nan, math.inf, -math.inf])
KNOWN, UNKNOWN = Scale(floor=0.0), Scale(floor=None)


@given(LOSSES, GRID, GRID, GRID, FACTORS)
def test_with_an_unknown_floor_neither_a_constant_nor_a_factor_matters(
    losses, start, best, constant, factor
):
    moved = factor * (np.array(losses) + constant)
    ends = factor * (start + constant), factor * (best + constant)
    assert np.array_equal(UNKNOWN.scores(moved, *ends), UNKNOWN.scores(losses, start, best))
    same = UNKNOWN.decrease(moved, *ends), UNKNOWN.decrease(losses, start, best)
    assert np.array_equal(*same, equal_nan=True)


@given(LOSSES, GRID, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_of_a_constant_that_is_not_exact_only_rounding_is_left(losses, start, factor, constant):
    best = min(losses)
    assume(start - best > 1)
    moved = factor * np.array(losses) + constant
    scores = UNKNOWN.scores(moved, factor * start + constant, factor * best + constant)
    assert scores == pytest.approx(UNKNOWN.scores(losses, start, best), rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20), FACTORS, GRID)
def test_with_a_known_floor_a_factor_adds_its_log(above, factor, floor):
    start, losses = 1e6, np.array(above)
    plain = KNOWN.scores(losses, start, 0.0)
    scaled = KNOWN.scores(factor * losses, factor * start, 0.0)
    assert scaled == pytest.approx(plain + math.log(factor), abs=1e-9)
    moved = Scale(floor).scores(losses + floor, start + floor, 0.0)
    assert moved == pytest.approx(plain, abs=1e-6)


@given(LOSSES, BROKEN, GRID, GRID, st.sampled_from([KNOWN, UNKNOWN, Scale(-2000.0)]))
def test_what_is_not_finite_scores_worst_and_all_else_is_finite(losses, broken, start, best, scale):
    scores = scale.scores([*losses, broken], start, best)
    assert scores[-1] == np.inf
    assert np.isfinite(scores[:-1]).all()
    assert scale.decrease([broken], start, best).tolist() == [-np.inf]


@given(LOSSES, GRID, GRID, st.sampled_from([KNOWN, UNKNOWN]))
def test_a_lower_loss_never_scores_worse(losses, start, best, scale):
    scores = scale.scores(sorted(losses), start, best)
    assert (np.diff(scores) >= 0).all()


@given(LOSSES, GRID)
def test_shares_of_the_fall_lie_between_none_and_all(losses, start):
    best, worst = min(losses), max(losses)
    assume(best < start)
    scores = UNKNOWN.scores(losses, start, best)
    assert scores.min() == 0
    assert UNKNOWN.scores([start], start, best).tolist() == [1.0]
    assert (scores.max() <= 1) == (worst <= start)
    assert UNKNOWN.decrease(losses, start, best) == pytest.approx(1 - scores, abs=1e-8)


def test_scores_worked_out_by_hand():
    assert KNOWN.scores([math.e, 1.0], 5.0, 1.0) == pytest.approx([1.0, 0.0])
    assert Scale(1.0).scores([1.0 + math.e], 5.0, 1.0) == pytest.approx([1.0])
    assert UNKNOWN.scores([-1.0, 0.0, 2.0], start=1.0, best=-1.0).tolist() == [0.0, 0.5, 1.5]
    assert float(KNOWN.scores(1.0, 2.0, 1.0)) == 0.0


def test_rounding_at_the_floor_scores_as_a_billionth_of_a_thousandth():
    least = math.log(LEAST * 2.0)
    scores = KNOWN.scores([1e-30, 0.0, -1e-9, 1.0], start=2.0, best=0.0)
    assert scores == pytest.approx([least, least, least, 0.0])
    assert np.isfinite(KNOWN.scores([0.0], start=0.0, best=0.0)).all()


def test_digits_that_a_constant_of_a_million_takes_are_no_difference():
    ends = np.array([1e-30, 1e-12, 1e-11])
    assert UNKNOWN.scores(ends, 2.0, ends.min()).tolist() == [0.0, 0.0, 0.0]
    far = ends + 1e6
    assert UNKNOWN.scores(far, 1e6 + 2.0, far.min()).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("best", [2.0, 3.0, math.inf])
def test_where_nothing_fell_all_of_it_is_left(best):
    assert UNKNOWN.scores([2.0, 9.0, math.nan], 2.0, best).tolist() == [1.0, 1.0, np.inf]
    assert np.isnan(UNKNOWN.decrease([2.0], 2.0, best)).all()
    assert UNKNOWN.coarseness(2.0, best) == math.inf


def test_a_huge_loss_is_finite():
    scores = UNKNOWN.scores([1.7e308, -1.7e308], start=2.0, best=2.0 - 1e-12)
    assert np.isfinite(scores).all()
    assert np.isfinite(UNKNOWN.decrease([1.7e308], start=2.0, best=1.0)).all()


def test_decrease_worked_out_by_hand():
    assert KNOWN.decrease([2.0, 1.0, 0.0, 3.0], start=2.0, best=9.0).tolist() == [0, 0.5, 1, -0.5]
    assert Scale(1.0).decrease([1.5], start=2.0, best=0.0).tolist() == [0.5]
    assert UNKNOWN.decrease([-1.0], start=0.0, best=-2.0).tolist() == [0.5]


def test_coarseness_is_the_share_of_the_fall_that_no_digit_shows():
    scale = Scale(None, resolution=0.0625)
    assert scale.coarseness(1e6 + 2.0, 1e6) == 0.03125
    assert Scale(0.0, resolution=0.0625).coarseness(2.0, 1.0) == 0.03125


@given(st.lists(GRID, min_size=2, max_size=20), st.sampled_from([0.0, 1e3, -1e6, 1e9]))
def test_so_many_digits_show_every_difference(values, constant):
    span = max(values) - min(values)
    assume(span > 0)
    moved = [value + constant for value in values]
    digits = digits_that_differ(moved, least=4)
    for value in moved:
        assert abs(float(f"{value:.{digits}g}") - value) <= 0.006 * span + 1e-6


def test_equal_values_and_no_values_need_no_digit_more():
    for values in ([], [3.0], [1e6, 1e6], [math.nan, 1.0], [1.7e308, -1.7e308]):
        assert digits_that_differ(values, least=4) == 4
